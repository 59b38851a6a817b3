"""Finds the nodes that ``health`` asks, and those that serve nothing."""

from collections.abc import Mapping
from dataclasses import replace

from skyflowctl.frozen import dataclass
from skyflowctl.operations.blocked_audit import (
    PROBE_SECONDS,
    RECORD_FAILED,
    AuditSuspects,
)
from skyflowctl.operations.node_states import (
    NodeStatus,
    look_at,
    look_at_each,
    unnamed_node,
    unnamed_nodes,
    without_list,
)
from skyflowctl.vault.errors import ServerUnreachableError, VaultError
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.transport import Request
from skyflowctl.vault.waits import within

_LIST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class AskedNodes:
    """The nodes of the server.

    Args:
        clients: a gateway for each node to ask, by its name; empty name: any node at the address.
        unasked: nodes of the cluster whose address was not named, so they must not get a token.
        unlisted: why the cluster did not list its nodes, though this login may.
        unknown: why the other nodes are not known, where that says nothing of the cluster.
        leader: the address of the leader, if a node named it then.
        states: of each node, also of the unasked, and of those that serve nothing: these are not
            among the clients.
    """

    clients: Mapping[str, Gateway]
    unasked: tuple[str, ...] = ()
    unlisted: VaultError | None = None
    unknown: VaultError | None = None
    leader: str = ""
    states: tuple[NodeStatus, ...] = ()

    def close(self, but: Gateway) -> None:
        """Close the connections to the nodes; the gateway is the caller's."""
        for client in self.clients.values():
            if client is not but:
                client.close()


def asked_nodes(
    gateway: Gateway,
    connect: GatewayForNode | None,
    suspects: AuditSuspects | None,
    deadline: float | None,
) -> AskedNodes:
    """Return which nodes are asked, after a look at each that was named.

    Raises:
        VaultError: the only address that was named serves nothing.
    """
    named = _named(gateway, connect, suspects)
    if not named:
        with within(deadline):
            seen = look_at(gateway, suspects, deadline)
            found = AskedNodes({"": gateway})
            if seen.state != "standby_without_leader":
                found = _listed(gateway, connect, deadline, suspects is not None, found.clients)
        return _with_states(found, {seen.node: seen})

    looks = look_at_each(named, lambda one: look_at(one, suspects, deadline), deadline)
    found = _of_named(gateway, connect, named, looks, deadline)
    for one in named.values():
        if one not in found.clients.values():
            one.close()
    return _with_states(found, looks)


def _with_states(found: AskedNodes, looks: Mapping[str, NodeStatus]) -> AskedNodes:
    asked = without_list(looks.values(), found.unknown)
    return replace(found, states=(*asked, *map(unnamed_node, found.unasked)))


def _named(
    gateway: Gateway, connect: GatewayForNode | None, suspects: AuditSuspects | None
) -> dict[str, Gateway]:
    """Return a gateway to each named node; empty if there is one address or no look at it."""
    if connect is None or suspects is None:
        return {}
    addresses = gateway.transport.server.addresses
    return {one: gateway.node(one) for one in addresses} if len(addresses) > 1 else {}


def _of_named(
    gateway: Gateway,
    connect: GatewayForNode | None,
    named: Mapping[str, Gateway],
    looks: Mapping[str, NodeStatus],
    deadline: float | None,
) -> AskedNodes:
    """Return the nodes that the cluster lists, without deaf ones; without a list, the named."""
    heard = {address: one for address, one in named.items() if looks[address].error is None}
    if len(heard) == len(named):
        with within(deadline):
            return _listed(gateway, connect, deadline, True, heard)
    try:
        return AskedNodes(heard, unnamed_nodes(named, looks))
    except VaultError as error:
        return AskedNodes(heard, unknown=error)


def _listed(
    gateway: Gateway,
    connect: GatewayForNode | None,
    deadline: float | None,
    looked: bool,
    named: Mapping[str, Gateway],
) -> AskedNodes:
    """Return the nodes that the cluster lists; without a list, the named ones or the address."""
    if connect is None:
        return AskedNodes(named)
    try:
        with within(PROBE_SECONDS if looked else deadline):
            nodes = gateway.sys.nodes()
    except VaultError as error:
        if looked and (isinstance(error, ServerUnreachableError) or error.says(RECORD_FAILED)):
            return AskedNodes(named, unlisted=error, leader=_leader(gateway))
        return AskedNodes(named if len(named) > 1 else {"": gateway}, unknown=error)
    if len(nodes) < 2:
        return AskedNodes({"": gateway})
    opened = {node.name: connect(node) for node in nodes}
    clients = {name: client for name, client in opened.items() if client is not None}
    unasked = tuple(name for name, client in opened.items() if client is None)
    return AskedNodes(clients or {"": gateway}, unasked)


def _leader(gateway: Gateway) -> str:
    """Return the address of the leader that another node names; empty: it is this one."""
    try:
        with within(_LIST_SECONDS):
            said = gateway.transport.send(Request("GET", "sys/leader")).body
    except VaultError:
        return ""
    return "" if said.get("is_self") else str(said.get("leader_address") or "")
