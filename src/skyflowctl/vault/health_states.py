"""Which health state a failed engine request means."""

from collections.abc import Mapping

from skyflowctl.vault.failures import (
    BASIC_MINT_FAILED,
    BadRequest,
    DrSecondaryError,
    Forbidden,
    GuardedError,
    NotFound,
    PluginMissing,
    RemovedFromClusterError,
    Sealed,
    StandbyWithoutLeaderError,
    TokenServiceFailed,
    UninitializedError,
    VaultError,
    says_not_configured,
)

HEALTH_STATES: Mapping[type[VaultError], str] = {
    PluginMissing: "plugin_missing",
    NotFound: "not_mounted",
    Forbidden: "forbidden",
    GuardedError: "forbidden",
    UninitializedError: "uninitialized",
    Sealed: "sealed",
    DrSecondaryError: "dr_secondary",
    StandbyWithoutLeaderError: "standby_without_leader",
    RemovedFromClusterError: "removed",
}


def health_state(error: VaultError) -> str:
    """Return the health state (DESIGN.md section 3) that a failed engine request means."""
    if isinstance(error, TokenServiceFailed):
        return "refused" if error.refused else "token_service_unreachable"
    if isinstance(error, BadRequest) and says_not_configured(error):
        return "unconfigured"
    if isinstance(error, BadRequest) and error.says("was written by a newer engine"):
        return "plugin_missing"  # the one that this mount needs is not the one that runs
    if isinstance(error, BadRequest) and error.says(BASIC_MINT_FAILED):
        return "refused"
    for kind, state in HEALTH_STATES.items():
        if isinstance(error, kind):
            return state
    return "unreachable"
