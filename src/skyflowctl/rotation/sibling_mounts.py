"""The server's other mounts of this engine, as far as this login can read them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from skyflowctl.concurrency import Workers
from skyflowctl.errors import SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.rotation.ports import Dependencies, names
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.health_states import health_state
from skyflowctl.vault.live import LiveConfig
from skyflowctl.vault.waits import within

_AT_ONCE = 8
CONFIG_SECONDS = 4.0
"""Seconds for reading another mount's config; a hanging process must not delay this mount."""
HEALTH_SECONDS = 10.0
"""Seconds for another mount to check its credential."""


@dataclass(frozen=True, slots=True)
class SiblingMounts:
    """What other mounts hold.

    Args:
        configs: by path.
        unread: the reason by path, where the config of a mount (or, with an empty path, the list of
            mounts) could not be read.
        paths: the paths of all of them, readable or not.
    """

    configs: Mapping[str, LiveConfig]
    unread: Mapping[str, str]
    paths: tuple[str, ...] = ()

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
        VaultError: this login may not list the mounts, or there is no answer.
    """
    mounts = gateway.sys.mounts()
    mine = mounts.get(path)
    kind = mine.type if mine else ""
    return tuple(sorted(one for one, live in mounts.items() if live.type == kind and one != path))


def sibling_mounts(gateway: Gateway, path: str) -> SiblingMounts:
    """Read the configs of the other mounts; those that cannot be read are named, not raised."""
    try:
        paths = paths_beside(gateway, path)
    except VaultError as error:
        return SiblingMounts({}, {"": error.problems[0].summary})

    def read(one: str) -> LiveConfig | VaultError:
        try:
            with within(CONFIG_SECONDS):
                return gateway.engine(one).config()
        except VaultError as error:
            return error

    with Workers(_AT_ONCE) as pool:
        found = dict(zip(paths, pool.map(read, paths), strict=True))
    return SiblingMounts(
        {one: live for one, live in found.items() if isinstance(live, LiveConfig)},
        {
            one: error.problems[0].summary
            for one, error in found.items()
            if isinstance(error, VaultError)
        },
        paths,
    )


NodeGateways = Mapping[str, Gateway]
"""A gateway by the node that it asks; an empty name: the address that was named."""
SiblingStates = Mapping[tuple[str, str], str]
"""A health state by the mount's path and the node's name."""

OnSibling = Callable[[str, str, str], None]
"""Called with a mount's path, a node's name and the state."""


@contextmanager
def open_node_gateways(deps: Dependencies) -> Iterator[NodeGateways]:
    """Open a gateway to every node that may be asked; leave the others out."""
    with ExitStack() as opened:
        found: dict[str, Gateway] = {}
        for name, gateway in _node_gateways(deps):
            opened.callback(gateway.close)
            found[name] = gateway
        yield found or {"": deps.gateway}


def _node_gateways(deps: Dependencies) -> Iterator[tuple[str, Gateway]]:
    if deps.connect is None:
        return
    try:
        nodes = deps.gateway.sys.nodes()
    except VaultError:
        return
    for node in nodes if len(nodes) > 1 else ():
        try:
            gateway = deps.connect(node)
        except SkyflowctlError:
            continue
        if gateway is not None:
            yield names([node])[0], gateway


def health_states(
    ways: NodeGateways,
    paths: Sequence[str],
    wanted: Callable[[], bool] = lambda: True,
    known: OnSibling = lambda *_: None,
    seconds: float = HEALTH_SECONDS,
) -> SiblingStates:
    """Let every mount check its credential now, on every node; raises nothing.

    Args:
        ways: the nodes.
        paths: the mounts.
        wanted: called before each check; if it returns False, the check is skipped and is "".
        known: called with path, node and state after each check, from other threads, for a caller
            that cannot wait for all.
        seconds: the time limit of each; after it the mount is unreachable.
    """

    def ask(one: tuple[str, str]) -> str:
        path, node = one
        if not wanted():
            return ""
        try:
            with within(seconds):
                state = ways[node].engine(path).health(refresh=True).state
        except VaultError as error:
            state = health_state(error)
        known(path, node, state)
        return state

    asked = [(path, node) for path in paths for node in ways]
    with Workers(_AT_ONCE) as pool:
        return dict(zip(asked, pool.map(ask, asked), strict=True))
