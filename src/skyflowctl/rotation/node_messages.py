"""What is said of nodes that prove nothing, or that nobody may ask."""

from collections.abc import Sequence

from skyflowctl.errors import Problem
from skyflowctl.rotation.node_checks import NodeFinding
from skyflowctl.rotation.node_poller import PollResult
from skyflowctl.rotation.ports import names
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.responses import ClusterNode

UNVERIFIED = "--allow-unverified-nodes"
_POLICY = 'path "sys/ha-status" { capabilities = ["read"] }'
_EVERY_NODE = "a credential is proved on every node, and only hosts that you named see the token"


def unnamed(nodes: Sequence[ClusterNode]) -> Problem:
    """Nodes that the cluster lists and the user never named."""
    listed = ", ".join(names(nodes))
    return Problem(
        "unnamed-nodes",
        f"nodes of the cluster that were never named: {listed}",
        why=_EVERY_NODE,
        fix=f"name them with --node URL or in SKYFLOWCTL_NODES, or go on with {UNVERIFIED}",
    )


def one_address(nodes: Sequence[ClusterNode]) -> Problem:
    """Several nodes that the cluster lists with the address of, say, a load balancer."""
    places = ", ".join(dict.fromkeys(names(nodes)))
    return Problem(
        "nodes-not-apart",
        f"{len(nodes)} nodes of the cluster cannot be asked one by one: {places}",
        why="they have one api_addr together, and nobody knows which of them answers there",
        fix=f"set api_addr to each server's own address, or go on with {UNVERIFIED}",
    )


def one_process(listed: Sequence[str]) -> Problem:
    """Addresses of nodes at which another node answers that has an address already."""
    return Problem(
        "nodes-not-apart",
        f"nodes of the cluster that cannot be asked themselves: {', '.join(listed)}",
        why="another node of the list answers there, by its own id",
        fix=f"set api_addr to each server's own address, or go on with {UNVERIFIED}",
    )


def unidentified_nodes(nodes: Sequence[str]) -> Problem:
    """Nodes that do not say which they are."""
    return Problem(
        "nodes-nameless",
        f"nodes that do not say which they are: {', '.join(nodes)}",
        why="each is asked at its own address, and nothing shows two addresses of one server",
        fix="set enable_response_header_raft_node_id = true in each server's configuration",
    )


def unlisted(error: VaultError) -> Problem:
    """The list of nodes may not be read."""
    return Problem(
        "nodes-unknown",
        "it cannot be seen which nodes the cluster has",
        why=f"sys/ha-status: {error.problems[0].why}",
        fix=f"add to this login's policy: {_POLICY}, or go on with {UNVERIFIED}",
    )


def unheard(settled: PollResult) -> Problem:
    """A node that does not answer before anything is written."""
    return Problem(
        "node-unheard",
        f"{settled.door.name} cannot be asked",
        why=settled.finding.why,
        fix=f"{settled.finding.fix}, then run the same command again; or go on without it with "
        f"{UNVERIFIED}",
    )


def other_cluster(name: str) -> Problem:
    """A named address that leads elsewhere."""
    return Problem(
        "node-of-another-cluster",
        f"{name} was named, and is a node of another cluster",
        why="its cluster id is another one",
        fix="take it out of --node and SKYFLOWCTL_NODES",
    )


def left_out(settled: PollResult) -> Problem:
    """A node that is gone: it mints nothing, and proves nothing either."""
    return Problem(
        "node-left-out",
        f"{settled.door.name} was left out",
        why=f"it cannot be asked ({settled.finding.why}), and the cluster does not list it now",
        fix="nothing, if it is down; else see that it can be reached from here and run this again",
    )


def disagrees(name: str, finding: NodeFinding, path: str, key_id: str) -> Problem:
    """A node that does not prove what it should."""
    return Problem(
        "node-disagrees",
        f"{name} does not prove that it mints with key {key_id}: {path}",
        why=finding.why,
        fix=finding.fix,
    )


def joined(nodes: Sequence[ClusterNode], path: str) -> Problem:
    """Nodes that the cluster lists since a moment ago and nobody named."""
    return Problem(
        "node-disagrees",
        f"nodes joined the cluster meanwhile and cannot be asked: {', '.join(names(nodes))}",
        why=f"they were never named, and nothing is known of {path} there",
        fix=f"name them with --node URL or in SKYFLOWCTL_NODES, or go on with {UNVERIFIED}",
    )
