"""Maps failed engine requests to health states."""

from collections.abc import Mapping

from skyflowctl.vault.errors import (
    BASIC_MINT_FAILED,
    AuditBlockedError,
    BadRequestError,
    DrSecondaryError,
    ForbiddenError,
    GuardedError,
    NotFoundError,
    PluginMissingError,
    RemovedFromClusterError,
    SealedError,
    StandbyWithoutLeaderError,
    TokenServiceFailedError,
    UninitializedError,
    VaultError,
    says_not_configured,
)

HEALTH_STATES: Mapping[type[VaultError], str] = {
    PluginMissingError: "plugin_missing",
    NotFoundError: "not_mounted",
    ForbiddenError: "forbidden",
    GuardedError: "forbidden",
    UninitializedError: "uninitialized",
    SealedError: "sealed",
    DrSecondaryError: "dr_secondary",
    StandbyWithoutLeaderError: "standby_without_leader",
    RemovedFromClusterError: "removed",
    AuditBlockedError: "audit_blocked",
}


def health_state(error: VaultError) -> str:
    """Return the health state (DESIGN.md section 3) that a failed engine request means."""
    if isinstance(error, TokenServiceFailedError):
        return "refused" if error.refused else "token_service_unreachable"
    if isinstance(error, BadRequestError) and says_not_configured(error):
        return "unconfigured"
    if isinstance(error, BadRequestError) and error.says("was written by a newer engine"):
        return "plugin_missing"  # the plugin version that this mount needs is not the running one
    if isinstance(error, BadRequestError) and error.says(BASIC_MINT_FAILED):
        return "refused"
    for kind, state in HEALTH_STATES.items():
        if isinstance(error, kind):
            return state
    return "unreachable"
