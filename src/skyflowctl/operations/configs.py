"""A mount's config: shown without its credential, and proved by minting."""

from skyflowctl.operations.mounts import naming_mount
from skyflowctl.vault.answers import VerifyReport
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig


def show_config(gateway: Gateway, path: str) -> LiveConfig:
    """Return the config of a mount.

    Raises:
        UsageError: nothing is mounted there.
    """
    with naming_mount(path):
        return gateway.read_config(path)


def verify_config(gateway: Gateway, path: str) -> VerifyReport:
    """Have the engine mint once for every role with its live credential.

    Raises:
        UsageError: nothing is mounted there.
        InvalidInput: the mount has no credential yet.
    """
    with naming_mount(path):
        return gateway.verify_config(path)
