"""The nodes of a server, each with its own process of the plugin.

Measured on three nodes of OpenBao 2.7.2. A tune of the version or the description reaches every
node and restarts nothing; of an option, a header or a TTL, it makes the standbys restart the
mount's plugin. A reload without a scope restarts the plugin of the asked node alone, and requests
for that mount wait for it. A reload with ``scope: global`` restarts it on the standbys too, after
the answer. A standby that cannot start a plugin outside its own reload restarts everything that
it serves. So each node is asked for its own reload: a version that does not start is found on one
node, for one mount.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from skyflowctl.errors import NotPermittedError, Problem, RefusedError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.upgrade.model import NodeRuns
from skyflowctl.retry import Backoff, retry
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.node_plugins import PluginOnNode, PluginState, plugin_on_node
from skyflowctl.vault.nodes import LISTING_RULE
from skyflowctl.vault.responses import CatalogEntry, ClusterNode
from skyflowctl.vault.waits import within

LAG_SECONDS = 15.0
"""How long a standby may take to learn of a write to the leader."""
_LOOK_SECONDS = 5.0
_PAUSE = Backoff(first=0.05, longest=0.5)


@dataclass(frozen=True, slots=True)
class UpgradeNode:
    """One node; its name is empty if the server has only one."""

    name: str
    gateway: Gateway

    def now_runs(self, path: str) -> NodeRuns:
        """Ask the node what it runs for a mount.

        Raises:
            VaultError: the node does not answer.
        """
        live = self.gateway.sys.mount(path)
        if live is None:
            return self.unknown("nothing is mounted there")
        return NodeRuns(
            self.name,
            live.plugin_version,
            live.running_plugin_version,
            live.running_sha256,
            plugin_on_node(self.gateway, path),
        )

    def unknown(self, why: str) -> NodeRuns:
        """Return that it is not known what the node runs."""
        return NodeRuns(self.name, "", "", "", PluginOnNode(PluginState.NOT_KNOWN, why))

    def wait_for_tune(self, path: str, version: str) -> NodeRuns:
        """Return what the node runs once it knows that the mount is tuned, or after the limit."""
        return retry(
            partial(self.now_runs, path),
            lambda one: one.wanted == version,
            wait_at_most(LAG_SECONDS),
        )

    def wait_for_options(self, path: str, options: Mapping[str, str]) -> None:
        """Wait until the node knows options of a mount and serves the mount with them.

        An empty value is of an option that is removed. After the limit it goes on: the next step
        asks the node itself.
        """

        def knows() -> bool:
            live = self.gateway.sys.mount(path)
            known = live is not None and all(
                live.options.get(name, "") == value for name, value in options.items()
            )
            return known and plugin_on_node(self.gateway, path).state is PluginState.RUNS

        retry(knows, bool, wait_at_most(LAG_SECONDS))

    def reload(self, path: str) -> None:
        """Restart the mount's plugin on this node alone.

        Raises:
            VaultError: it does not start; the mount does not serve on this node then.
        """
        self.gateway.sys.catalog.reload_mounts([path], every_node=False)

    def lacks_file(self, entry: CatalogEntry) -> bool:
        """Whether the file of an entry is missing in this node's plugin directory."""
        found = self.gateway.sys.catalog.read(entry.name, entry.version)
        return found is None or found.file_missing


def wait_at_most(seconds: float) -> Callable[[object, int], bool]:
    """Return a wait that ends the tries after so many seconds."""
    end = time.monotonic() + seconds

    def on_wait(_: object, tries: int) -> bool:
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE.pause(tries))
        return True

    return on_wait


@contextmanager
def open_upgrade_nodes(
    gateway: Gateway, connect: GatewayForNode
) -> Iterator[tuple[UpgradeNode, ...]]:
    """Connect to every node: the standbys first, so that the leader has the last turn.

    Raises:
        RefusedError: a node was not named, so it cannot be asked, or is named but not listed.
        NotPermittedError: this login may not list the nodes.
        VaultError: the server does not answer.
    """
    try:
        listed = gateway.sys.nodes()
    except ForbiddenError as error:
        raise NotPermittedError(
            "it cannot be seen which nodes the cluster has",
            why=f"sys/ha-status: {error.problems[0].why}",
            fix=f"add to this login's policy: {LISTING_RULE}",
            code="nodes-unknown",
        ) from error
    _refuse_named_besides(gateway, listed)
    if len(listed) < 2:
        yield (UpgradeNode("", gateway),)
        return
    nodes = _connected(sorted(listed, key=lambda one: one.active), connect)
    try:
        yield nodes
    finally:
        for one in nodes:
            one.gateway.close()


def _refuse_named_besides(gateway: Gateway, listed: Sequence[ClusterNode]) -> None:
    """Refuse if a named node is not one of the cluster's now: it would keep the old version.

    The leader forgets a node within 15 s of its last word, so a dead one is not listed.
    """
    known = {one.api_address for one in listed}
    besides = [one for one in gateway.transport.server.addresses[1:] if one not in known]
    absent = [one for one in besides if not _is_in_cluster(gateway, one)]
    if absent:
        raise RefusedError.of([_absent(absent)])


def _is_in_cluster(gateway: Gateway, address: str) -> bool:
    """Whether this node, perhaps under another address than its own, serves in the cluster."""
    other = gateway.node(address)
    try:
        with within(_LOOK_SECONDS):
            health = other.sys.health()
            return not health.sealed and health.cluster_id == gateway.sys.cluster_id()
    except VaultError:
        return False
    finally:
        other.close()


def _absent(addresses: Sequence[str]) -> Problem:
    return Problem(
        "nodes-absent",
        f"named nodes do not serve in this cluster: {', '.join(addresses)}",
        "a node that is down now would start with the old version, or with none",
        "start it again, or leave it out of --node and SKYFLOWCTL_NODES for good",
    )


def _connected(listed: Sequence[ClusterNode], connect: GatewayForNode) -> tuple[UpgradeNode, ...]:
    opened = [(one.name, connect(one)) for one in listed]
    unnamed = [name for name, client in opened if client is None]
    same = len({name for name, _ in opened}) < len(opened)
    if unnamed or same:
        for _, client in opened:
            if client is not None:
                client.close()
        raise RefusedError.of([_unnamed(unnamed) if unnamed else _same()])
    return tuple(UpgradeNode(name, client) for name, client in opened if client is not None)


def _unnamed(names: Sequence[str]) -> Problem:
    return Problem(
        "unnamed-nodes",
        f"nodes of the cluster that were never named: {', '.join(names)}",
        "each node starts the plugin from its own file, and is asked for its own reload",
        "name each with --node URL or in SKYFLOWCTL_NODES",
    )


def _same() -> Problem:
    return Problem(
        "nodes-not-apart",
        "nodes of the cluster share one address and cannot be asked one by one",
        "each node starts the plugin from its own file, and is asked for its own reload",
        "set api_addr to each server's own address",
    )
