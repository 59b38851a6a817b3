"""Asks each node of a cluster which plugin it runs, and for which mounts it runs none."""

from collections.abc import Sequence

from skyflowctl.concurrency import Workers
from skyflowctl.posture.collect.reads import or_not_read
from skyflowctl.posture.facts import NodeFacts, NotRead
from skyflowctl.vault.errors import OutcomeUnknownError, PluginMissingError, VaultError
from skyflowctl.vault.gateway import Gateway, GatewayForNode, in_time
from skyflowctl.vault.live import LiveConfig
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
    with Workers(parallelism) as pool:
        return tuple(_node(one, paths, connect, pool) for one in listed)


def _node(
    node: ClusterNode, paths: Sequence[str], connect: GatewayForNode, pool: Workers
) -> NodeFacts:
    name = node.api_address or node.hostname
    client = connect(node)
    if client is None:
        return NodeFacts(name, asked=False)
    try:
        mounts = client.sys.mounts()
        read = dict(zip(paths, pool.map(lambda path: _config(client, path), paths), strict=True))
    except VaultError as error:
        return NodeFacts(name, asked=True, problem=error.problems[0].why)
    finally:
        client.close()
    return NodeFacts(
        name,
        asked=True,
        missing=tuple(path for path, config in read.items() if config is None),
        digests={path: mounts[path].running_sha256 for path in paths if path in mounts},
        processes={
            path: config.process for path, config in read.items() if isinstance(config, LiveConfig)
        },
        not_read=tuple(config for config in read.values() if isinstance(config, NotRead)),
    )


def _config(client: Gateway, path: str) -> LiveConfig | NotRead | None:
    """Return a mount's config from this node; None if its plugin does not run there."""
    try:
        return in_time(client.engine(path).config)
    except PluginMissingError:
        return None
    except OutcomeUnknownError as error:
        return NotRead(f"{path}/config", why=error.problems[0].why)
    except VaultError as error:
        return None if error.status == 0 else NotRead(f"{path}/config", why=error.problems[0].why)
