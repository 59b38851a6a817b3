"""A mount's config: shown without its credential, and proved by minting."""

from skyflowctl.errors import UsageError
from skyflowctl.operations.mounts import naming_mount
from skyflowctl.vault.answers import VerifyReport
from skyflowctl.vault.failures import NotFound
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig


def show_config(gateway: Gateway, path: str) -> LiveConfig:
    """Return the config of a mount.

    Raises:
        UsageError: nothing is mounted there, or no engine of ours.
    """
    with naming_mount(path):
        return gateway.engine_config(path)


def verify_config(gateway: Gateway, path: str) -> VerifyReport:
    """Have the engine mint once for every role with its live credential.

    The config is read first: another kind of mount could take the request for a write.

    Raises:
        UsageError: nothing is mounted there, no engine of ours, or one without verify.
        InvalidInput: the mount has no credential yet.
    """
    with naming_mount(path):
        gateway.engine_config(path)
        try:
            return gateway.verify_config(path)
        except NotFound as error:
            if type(error) is not NotFound:
                raise
            raise UsageError(
                f"the engine at {path} cannot verify",
                why="it has no config/verify; the engine of skyflowctl has",
                fix="see 'skyflowctl health', or read a token with 'skyflowctl creds'",
                code="no-verify",
            ) from None
