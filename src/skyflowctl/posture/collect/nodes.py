"""Asks every node of a cluster alone which plugin it runs, and for which mounts none."""

from collections.abc import Sequence

from skyflowctl.concurrency import Workers
from skyflowctl.posture.collect.reads import or_not_read
from skyflowctl.posture.facts import NodeFacts, NotRead
from skyflowctl.vault.errors import PluginMissingError, VaultError
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.responses import ClusterNode


def nodes(
    gateway: Gateway, paths: Sequence[str], connect: GatewayForNode, parallelism: int
) -> tuple[NodeFacts, ...] | NotRead:
    """Return what each node says, in 1 + N requests a node for N mounts.

    A node is asked for each mount's config: it needs the plugin for that, and no token
    service. A server with one node answers with none, for it has been asked already.
    """
    listed = or_not_read(gateway.nodes, "sys/ha-status", "read")
    if isinstance(listed, NotRead):
        return listed
    if len(listed) < 2:
        return ()
    with Workers(parallelism) as pool:
        return tuple(_node(one, paths, connect, pool) for one in listed)


def _node(
    node: ClusterNode, paths: Sequence[str], connect: GatewayForNode, pool: Workers
) -> NodeFacts:
    name = node.api_address or node.hostname
    door = connect(node)
    if door is None:
        return NodeFacts(name, asked=False)
    try:
        mounts = door.list_mounts()
        missing = pool.map(lambda path: _is_missing(door, path), paths)
    except VaultError as error:
        return NodeFacts(name, asked=True, problem=error.problems[0].why)
    finally:
        door.close()
    return NodeFacts(
        name,
        asked=True,
        missing=tuple(path for path, gone in zip(paths, missing, strict=True) if gone),
        digests={path: mounts[path].running_sha256 for path in paths if path in mounts},
    )


def _is_missing(door: Gateway, path: str) -> bool:
    try:
        door.read_config(path)
    except PluginMissingError:
        return True
    except VaultError as error:
        # No node knows more than the leader about what else may be wrong with a mount.
        return error.status == 0
    return False
