"""The state of each node of a cluster, asked directly: what a balanced address hides."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from typing import Any

from skyflowctl.clock import Clock, SystemClock, span_text
from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.hcl import rules_to_add
from skyflowctl.operations.blocked_audit import AuditSuspects, refuse_blocked_audit
from skyflowctl.text import listed
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.health_states import health_state
from skyflowctl.vault.node_plugins import PluginOnNode, PluginState, plugins_on_node
from skyflowctl.vault.nodes import LISTING_RULE, answers_itself, reaches_leader
from skyflowctl.vault.responses import ServerHealth
from skyflowctl.vault.server_state import ServerState, refuse_not_serving
from skyflowctl.vault.waits import within

SKEW_SECONDS = 5
"""A smaller difference between two clocks is normal, and changes nothing."""
_LIST_SECONDS = 2.0

NODE_STATES = (
    "active",
    "standby",
    "standby_forwards",
    "not_asked",
    "plugin_missing",
    "standby_without_leader",
    "sealed",
    "uninitialized",
    "dr_secondary",
    "removed",
    "audit_blocked",
    "unreachable",
)
"""Every state of a node; from plugin_missing on, something is wrong with it."""

_WELL = frozenset(NODE_STATES[: NODE_STATES.index("plugin_missing")])
_NO_LEADER = (
    "it answers as a standby, and reaches no active node: nothing can be written, and what it "
    "reads may be old"
)
_NO_LEADER_FIX = (
    "start the other nodes until a majority runs, or restore the network between them; their "
    "logs say why no leader is elected"
)
_FORWARDS = "it forwards every read to the active node: its own plugins were not asked"
_FORWARDS_FIX = (
    "OpenBao: give every node the same audit devices, and leave out disable_standby_reads; "
    "Vault's standbys always forward"
)
_MISSING_FIX = "on that node: skyflowctl plugin list --directory PLUGIN_DIRECTORY"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node.

    Args:
        node: its address.
        state: one of :data:`NODE_STATES`.
        detail: the cause in one line; empty if there is nothing to say.
        fix: how to mend it; not part of the JSON.
        clock_skew_seconds: how far its clock is ahead of this machine's (negative: behind), as far
            as it is certain; None: not known.
        version: of the server; empty: not known.
        plugins: by mount, what is known about its plugin there; the others were not asked for.
        digests: by mount, the digest of the plugin that the node says it runs.
        error: why it serves nothing; not part of the JSON.
        unlisted: why its cluster did not list the other nodes; not part of the JSON.
    """

    node: str
    state: str
    detail: str = ""
    fix: str = ""
    clock_skew_seconds: int | None = None
    version: str = ""
    plugins: Mapping[str, PluginOnNode] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    error: VaultError | None = None
    unlisted: VaultError | None = None

    @property
    def well(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return self.state in _WELL

    def to_json(self) -> dict[str, Any]:
        """Return the node as in the JSON output."""
        return {
            "node": self.node,
            "state": self.state,
            "detail": self.detail,
            "clock_skew_seconds": self.clock_skew_seconds,
            "version": self.version,
            "plugin_missing": list(_reasons(self.plugins, PluginState.DOES_NOT_RUN)),
            "plugin_not_known": _reasons(self.plugins, PluginState.NOT_KNOWN),
        }

    def with_plugins(self, plugins: Mapping[str, PluginOnNode]) -> "NodeStatus":
        """Return the node with what is known about the plugins of mounts there."""
        if not self.well:
            return self
        seen = replace(self, plugins=plugins)
        missing = _reasons(plugins, PluginState.DOES_NOT_RUN)
        if missing:
            reasons = "; ".join(dict.fromkeys(missing.values()))
            detail = f"the plugin of {listed([*missing])} does not run there: {reasons}"
            return replace(seen, state="plugin_missing", detail=detail, fix=_MISSING_FIX)
        unknown = _reasons(plugins, PluginState.NOT_KNOWN)
        if unknown and not self.detail:
            detail = f"whether the plugin of {listed([*unknown])} runs there is not known"
            return replace(seen, detail=detail)
        return seen


def _reasons(plugins: Mapping[str, PluginOnNode], state: PluginState) -> dict[str, str]:
    """Return the mounts whose plugin has this state, by path, each with the reason."""
    return {path: one.why for path, one in sorted(plugins.items()) if one.state is state}


def look_at(
    gateway: Gateway,
    suspects: AuditSuspects | None,
    deadline: float | None,
    *,
    clock: Clock | None = None,
) -> NodeStatus:
    """Return the state of the node that answers, in one to three requests that need no rights.

    Args:
        gateway: to one node, or to a server's only address.
        suspects: its audit devices; None: not asked whether they stop every request.
        deadline: seconds for all requests; None: the gateway's own limit.
        clock: this machine's.

    Raises:
        VaultError: it serves nothing; :func:`deaf_node` makes a state of that.
    """
    ours = clock or SystemClock()
    begun = ours.now().timestamp()
    health = gateway.sys.health()
    skew = _skew(health, begun, ours.now().timestamp())
    refuse_not_serving(health.state)
    if suspects is not None:
        refuse_blocked_audit(gateway, suspects, deadline)
    seen = NodeStatus(
        gateway.transport.server.address,
        "active",
        clock_skew_seconds=skew,
        version=health.version,
    )
    if health.state is ServerState.ACTIVE:
        return seen
    if reaches_leader(gateway.transport) is False:
        without = replace(seen, state="standby_without_leader")
        return replace(without, detail=_NO_LEADER, fix=_NO_LEADER_FIX)
    if answers_itself(gateway.transport) is False:
        return replace(seen, state="standby_forwards", detail=_FORWARDS, fix=_FORWARDS_FIX)
    return replace(seen, state="standby")


def _skew(health: ServerHealth, before: float, after: float) -> int | None:
    """Return how far a node's clock is ahead; it tells whole seconds, so 0 is within a second."""
    if health.server_time is None:
        return None
    if health.server_time > after:
        return int(health.server_time - after)
    behind = before - (health.server_time + 1)
    return -int(behind) if behind > 0 else 0


def deaf_node(address: str, error: VaultError) -> NodeStatus:
    """Return the state of a node that serves nothing."""
    problem, state = error.problems[0], health_state(error)
    known = state if state in NODE_STATES else "unreachable"
    return NodeStatus(address, known, problem.why or problem.summary, problem.fix, error=error)


def unnamed_node(address: str) -> NodeStatus:
    """Return the state of a node that may not be asked."""
    fix = f"name it with --node {address}, if it may see the token"
    return NodeStatus(address, "not_asked", "it was not named, so it gets no token", fix)


def node_problems(nodes: Sequence[NodeStatus], besides: Iterable[Problem] = ()) -> list[Problem]:
    """Return a problem for each node with which something is wrong.

    Args:
        nodes: all of them.
        besides: what is told as well; of an only node, it may tell already which plugin is missing.
    """
    told = len(nodes) == 1 and any(one.code in _TELL_MISSING for one in besides)
    return [
        Problem(
            f"node-{one.state.replace('_', '-')}",
            f"the node {one.node} is {one.state.replace('_', ' ')}",
            one.detail or "the one who answered gave no reason",
            one.fix or "see that node's log",
        )
        for one in nodes
        if not one.well and not (told and one.state == "plugin_missing")
    ]


_TELL_MISSING = frozenset({"plugin-missing", "plugin-file-missing"})


def node_warnings(nodes: Sequence[NodeStatus]) -> list[Problem]:
    """Return what deserves a warning: nodes that are not known, and clocks that differ."""
    return [*unlisted_warnings(nodes), *skew_warnings(nodes)]


def unlisted_warnings(nodes: Sequence[NodeStatus]) -> list[Problem]:
    """Return a warning if the cluster did not list its nodes."""
    return [
        Problem(
            "nodes-unknown",
            "which other nodes the cluster has is not known, so they were not asked",
            one.unlisted.problems[0].why or one.unlisted.problems[0].summary,
            _LIST_RULE if isinstance(one.unlisted, ForbiddenError) else _LIST_AGAIN,
        )
        for one in nodes
        if one.unlisted is not None
    ]


_LIST_RULE = rules_to_add(LISTING_RULE)
_LIST_AGAIN = "run the command again; the server's log has the request for sys/ha-status"


def skew_warnings(nodes: Sequence[NodeStatus]) -> list[Problem]:
    """Return a warning for each node whose clock differs from this machine's."""
    return [
        Problem(
            "clock-skew",
            f"the clock of {one.node} is {_apart(one.clock_skew_seconds)} this machine's",
            "each side judges by its own clock whether tokens and assertions for Skyflow are valid",
            "synchronise both clocks: 'timedatectl' shows whether one is",
        )
        for one in nodes
        if one.clock_skew_seconds is not None and abs(one.clock_skew_seconds) >= SKEW_SECONDS
    ]


def _apart(seconds: int) -> str:
    return f"{span_text(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"


def every_node(
    gateway: Gateway,
    paths: Sequence[str],
    suspects: AuditSuspects,
    deadline: float | None,
    clock: Clock,
) -> tuple[NodeStatus, ...]:
    """Return the state of each node, with what each of them runs for these mounts.

    Named nodes are asked at once, in 3 + N requests at most. The others are only listed: they must
    not see the token.

    Args:
        gateway: to the server.
        paths: of the mounts whose plugin has to run on each node.
        suspects: what is known about the audit devices.
        deadline: seconds for each node.
        clock: this machine's.
    """
    with _opened(gateway, gateway.transport.server.addresses) as clients:
        states = look_at_each(
            clients,
            lambda one: _with_plugins(look_at(one, suspects, deadline, clock=clock), one, paths),
            deadline,
        )
        unlisted, unnamed = None, tuple[str, ...]()
        try:
            unnamed = unnamed_nodes(clients, states)
        except VaultError as error:
            unlisted = error
    return (*without_list(states.values(), unlisted), *map(unnamed_node, unnamed))


def without_list(
    nodes: Iterable[NodeStatus], unlisted: VaultError | None
) -> tuple[NodeStatus, ...]:
    """Return the nodes; the first says why the cluster did not list the others, if it did not."""
    first, *others = nodes
    return (replace(first, unlisted=unlisted), *others)


def plugins_on_nodes(
    gateway: Gateway, nodes: Sequence[NodeStatus], paths: Sequence[str], deadline: float | None
) -> tuple[NodeStatus, ...]:
    """Return nodes that were asked for their state before, with what they run for these mounts.

    Those with which something is wrong are not asked again.
    """
    able = {one.node: one for one in nodes if one.well and one.state != "not_asked"}
    with _opened(gateway, able) as clients:
        found = look_at_each(
            clients,
            lambda one: _with_plugins(able[one.transport.server.address], one, paths),
            deadline,
        )
    return tuple(found.get(one.node, one) for one in nodes)


@contextmanager
def _opened(gateway: Gateway, addresses: Iterable[str]) -> Iterator[dict[str, Gateway]]:
    clients = {one: gateway.node(one) for one in addresses}
    try:
        yield clients
    finally:
        for one in clients.values():
            one.close()


def look_at_each(
    clients: Mapping[str, Gateway], look: Callable[[Gateway], NodeStatus], deadline: float | None
) -> dict[str, NodeStatus]:
    """Ask nodes at once, by address, each within so many seconds; also those that fail."""

    def state(address: str) -> NodeStatus:
        try:
            with within(deadline):
                return look(clients[address])
        except VaultError as error:
            return deaf_node(address, error)

    with Workers(len(clients)) as pool:
        return dict(zip(clients, pool.map(state, clients), strict=True))


def unnamed_nodes(
    clients: Mapping[str, Gateway], states: Mapping[str, NodeStatus]
) -> tuple[str, ...]:
    """Return the nodes of the cluster that were not named; none if no node could be asked.

    Raises:
        VaultError: the node that was asked did not list them.
    """
    able = next((one for address, one in clients.items() if states[address].well), None)
    with within(_LIST_SECONDS):
        names = [one.name for one in able.sys.nodes()] if able else []
    return tuple(one for one in names if one not in states) if len(names) > 1 else ()


def _with_plugins(seen: NodeStatus, client: Gateway, paths: Sequence[str]) -> NodeStatus:
    """Add what is known about mounts' plugins, and their digests as far as the node tells them."""
    if not paths or not seen.well:
        return seen
    with suppress(VaultError):
        mounts = client.sys.mounts()
        digests = {path: mounts[path].running_sha256 for path in paths if path in mounts}
        seen = replace(seen, digests=digests)
    return seen.with_plugins(plugins_on_node(client, paths))
