"""The server's other mounts of our kind, as far as this login can read them."""

from collections.abc import Mapping
from dataclasses import dataclass

from skyflowctl.vault.failures import VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig
from skyflowctl.vault.workers import Workers

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What other mounts hold.

    Args:
        configs: by path.
        unread: why the config of a mount, or the list of mounts (the path is empty then),
            could not be read.
    """

    configs: Mapping[str, LiveConfig]
    unread: Mapping[str, str]

    def using(self, client_id: str, key_id: str) -> tuple[str, ...]:
        """Return the paths of the mounts where this key is live."""
        return tuple(
            path
            for path, config in self.configs.items()
            if config.configured and (config.client_id, config.key_id) == (client_id, key_id)
        )


def paths_beside(gateway: Gateway, path: str) -> tuple[str, ...]:
    """Return the other mounts of the same type as this one.

    Raises:
        VaultError: this login may not list the mounts, or nobody answers.
    """
    mounts = gateway.list_mounts()
    mine = mounts.get(path)
    kind = mine.type if mine else ""
    return tuple(sorted(one for one, live in mounts.items() if live.type == kind and one != path))


def neighbours(gateway: Gateway, path: str) -> Neighbours:
    """Read the configs of the other mounts; what cannot be read is named, not raised."""
    try:
        paths = paths_beside(gateway, path)
    except VaultError as error:
        return Neighbours({}, {"": error.problems[0].summary})

    def read(one: str) -> LiveConfig | VaultError:
        try:
            return gateway.read_config(one)
        except VaultError as error:
            return error

    with Workers(_AT_ONCE) as pool:
        found = dict(zip(paths, pool.map(read, paths), strict=True))
    return Neighbours(
        {one: live for one, live in found.items() if isinstance(live, LiveConfig)},
        {
            one: error.problems[0].summary
            for one, error in found.items()
            if isinstance(error, VaultError)
        },
    )
