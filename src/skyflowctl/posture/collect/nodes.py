"""Asks each node of a cluster which plugin it runs, and for which mounts it runs none."""

from collections.abc import Sequence

from skyflowctl.posture.collect.reads import or_not_read
from skyflowctl.posture.facts import NodeFacts, NotRead
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.node_plugins import PluginState, plugins_on_node
from skyflowctl.vault.responses import ClusterNode


def nodes(
    gateway: Gateway, paths: Sequence[str], connect: GatewayForNode, parallelism: int
) -> tuple[NodeFacts, ...] | NotRead:
    """Return the facts of each node, in 1 + N requests per node for N mounts.

    A node is asked for each mount's config, which needs the plugin but no token service. The
    result is empty for a server with one node, because it has already been asked.
    """
    listed = or_not_read(gateway.sys.nodes, "sys/ha-status", "read")
    if isinstance(listed, NotRead):
        return listed
    if len(listed) < 2:
        return ()
    return tuple(_node(one, paths, connect, parallelism) for one in listed)


def _node(
    node: ClusterNode, paths: Sequence[str], connect: GatewayForNode, parallelism: int
) -> NodeFacts:
    name = node.name
    client = connect(node)
    if client is None:
        return NodeFacts(name, asked=False)
    try:
        mounts = client.sys.mounts()
        plugins = plugins_on_node(client, paths, parallelism)
    except VaultError as error:
        return NodeFacts(name, asked=True, problem=error.problems[0].why)
    finally:
        client.close()
    return NodeFacts(
        name,
        asked=True,
        missing=tuple(at for at, one in plugins.items() if one.state is PluginState.DOES_NOT_RUN),
        digests={path: mounts[path].running_sha256 for path in paths if path in mounts},
        processes={at: one.config.process for at, one in plugins.items() if one.config},
        not_read=tuple(
            NotRead(f"{at}/config", why=one.why)
            for at, one in plugins.items()
            if one.state is PluginState.NOT_KNOWN
        ),
    )
