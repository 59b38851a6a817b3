"""A mount's config without its credential, its history, and its verification by minting."""

from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mounts import naming_cut_off, not_found_is_usage_error
from skyflowctl.vault.errors import NotFoundError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import CredentialVersion, LiveConfig
from skyflowctl.vault.responses import VerifyReport


@dataclass(frozen=True, slots=True)
class PastCredential:
    """One credential version of a mount; ``live``: it is the current one."""

    entry: CredentialVersion
    live: bool


def show_config(gateway: Gateway, path: str) -> LiveConfig:
    """Return the config of a mount.

    Raises:
        UsageError: nothing is mounted there, or not this engine.
    """
    with not_found_is_usage_error(path):
        return gateway.engine(path).checked_config()


def config_history(gateway: Gateway, path: str) -> tuple[PastCredential, ...]:
    """Return every credential version of a mount, the newest first; two requests.

    Raises:
        UsageError: nothing is mounted there, not this engine, or one without a history.
    """
    with not_found_is_usage_error(path):
        config = gateway.engine(path).checked_config()
        past = gateway.engine(path).history()
    if past is None:
        raise UsageError(
            f"the engine at {path} keeps no history",
            why="it has no config/history; the engine of skyflowctl has",
            fix=f"'skyflowctl config show {path}' shows the live credential",
            code="no-history",
        )
    current = config.credential_version if config.configured else 0
    return tuple(
        PastCredential(past[version], live=version == current)
        for version in sorted(past, reverse=True)
    )


def verify_config(gateway: Gateway, path: str) -> VerifyReport:
    """Let the engine mint once for every role with its live credential.

    The config is read first, because another kind of mount could take the request as a write.

    Raises:
        UsageError: nothing is mounted there, not this engine, or one without verify.
        InvalidInputError: the mount has no credential yet.
    """
    with not_found_is_usage_error(path), naming_cut_off(gateway, path):
        gateway.engine(path).checked_config()
        try:
            return gateway.engine(path).verify()
        except NotFoundError as error:
            if type(error) is not NotFoundError:
                raise
            raise UsageError(
                f"the engine at {path} cannot verify",
                why="it has no config/verify; the engine of skyflowctl has",
                fix=f"see 'skyflowctl health', or read a token with 'skyflowctl creds {path} ROLE'",
                code="no-verify",
            ) from None
