"""``health``: checks that every mount gives tokens, on every node."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.blocked_audit import (
    SILENT_FIX,
    UNTOLD,
    UNTOLD_FIX,
    AuditSuspects,
    answers_recorded,
)
from skyflowctl.operations.health_nodes import AskedNodes, asked_nodes
from skyflowctl.operations.mount_refs import MountRef, discover_mounts
from skyflowctl.operations.node_states import NodeStatus, deaf_node
from skyflowctl.vault.errors import (
    NamespaceMissingError,
    NotAServerError,
    OutcomeUnknownError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.health_states import health_state
from skyflowctl.vault.live import way_out
from skyflowctl.vault.node_plugins import plugin_by_health
from skyflowctl.vault.responses import EngineHealth
from skyflowctl.vault.role_tokens import role_tokens
from skyflowctl.vault.waits import within

STATES = (
    "ok",
    "unproven",
    "unconfigured",
    "refused",
    "token_service_unreachable",
    "forbidden",
    "not_mounted",
    "plugin_missing",
    "sealed",
    "uninitialized",
    "dr_secondary",
    "standby_without_leader",
    "removed",
    "audit_blocked",
    "unreachable",
)
"""Every state, from ok to the worst."""

DEADLINE = "10s"
"""For one mount; the engine waits up to 8 s of it for a token service's answer."""

ALL_SECONDS = 60.0
HEALTH_ROUNDS = 6
"""The total limit is a minute, or six times the deadline of one mount if that is more."""


@dataclass(frozen=True, slots=True)
class MountHealth:
    """The health of one mount on one node.

    Args:
        name: the manifest's name; empty: the row describes the server itself.
        path: of the mount.
        state: one of :data:`STATES`.
        latency_ms: of the last check with the token service, as measured by the engine; without a
            check, of the request for health; None: no answer.
        detail: the cause in one line; empty if the state is ok.
        node: the node that was asked; empty: any node that answers at the address.
        fix: the fix, if the state alone does not imply it; not part of the JSON.
    """

    name: str
    path: str
    state: str
    latency_ms: float | None
    detail: str = ""
    node: str = ""
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as in the JSON output."""
        shown = asdict(self)
        del shown["fix"]
        return shown


@dataclass(frozen=True, slots=True)
class HealthResult:
    """All rows, mount by mount and node by node.

    ``unasked`` are nodes of the cluster that were not asked: their address was not named, so they
    must not get a token. ``nodes`` are all of them, with their states.
    """

    mounts: tuple[MountHealth, ...]
    unasked: tuple[str, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()

    @property
    def healthy(self) -> bool:
        """True if every mount is ok on every node that was asked."""
        return all(row.state == "ok" for row in self.mounts)

    @property
    def exit_code(self) -> ExitCode:
        """0 if all is ok, else 6."""
        return ExitCode.OK if self.healthy else ExitCode.UNHEALTHY

    def worst(self, path: str) -> str:
        """Return a mount's worst state over the nodes."""
        states = [row.state for row in self.mounts if row.path == path]
        return max(states, key=STATES.index)


def health(
    gateway: Gateway,
    mounts: Sequence[MountRef] | None,
    *,
    plugin_name: str = "skyflow",
    prefix: str = "skyflow",
    connect: GatewayForNode | None = None,
    refresh: bool = True,
    mint: bool = False,
    parallelism: int = 8,
    deadline: float | None = None,
    suspects: AuditSuspects | None = None,
) -> HealthResult:
    """Ask every mount for its health, on every node that may be asked. A failure is a row.

    A server that answers nothing is asked once, not once a mount.

    Args:
        gateway: the server.
        mounts: which ones; None: all of ``plugin_name`` that the server has.
        plugin_name: the mount type of this engine.
        prefix: left out of the names of mounts found on the server.
        connect: opens a gateway to one node; None: only the given gateway is asked.
        refresh: check now, instead of taking a result of up to 30 s ago.
        mint: read a token for every role of a mount whose engine cannot verify.
        parallelism: how many requests run at once.
        deadline: seconds for one mount, and for the server's own health; 6 of them in all, or 60 s.
        suspects: the server's audit devices; None: not asked whether they stop every request.

    Raises:
        NamespaceMissingError: the namespace does not exist.
    """
    try:
        nodes = asked_nodes(gateway, connect, suspects, deadline)
        if mounts is None and nodes.clients:
            with within(deadline):
                first = next(iter(nodes.clients.values()))
                mounts = discover_mounts(first, plugin_name=plugin_name, prefix=prefix)
    except VaultError as error:
        return _deaf_server(gateway, mounts, error)
    asked = [(mount, node, one) for mount in mounts or () for node, one in nodes.clients.items()]
    ask = partial(_ask, refresh=refresh or mint, mint=mint)
    in_time = partial(_in_time, _Times.begin(deadline), ask)
    try:
        with Workers(parallelism) as pool:
            found = pool.map(partial(_explained, in_time) if suspects else in_time, asked)
    finally:
        nodes.close(gateway)
    return _with_plugins(nodes, (*found, *_not_served(nodes, mounts or ())))


def _deaf_server(
    gateway: Gateway, mounts: Sequence[MountRef] | None, error: VaultError
) -> HealthResult:
    rows = tuple(_failed(mount, error, "") for mount in mounts or (MountRef("", ""),))
    return HealthResult(rows, nodes=(deaf_node(gateway.transport.server.address, error),))


def _with_plugins(nodes: AskedNodes, rows: tuple[MountHealth, ...]) -> HealthResult:
    """Return the result, with what the rows prove about each mount's plugin on each node."""
    alone = nodes.states[0].node if len(nodes.states) == 1 else ""
    states = tuple(
        one.with_plugins(
            {
                row.path: plugin_by_health(row.state, row.detail)
                for row in rows
                if row.path and (row.node or alone) == one.node
            }
        )
        for one in nodes.states
    )
    return HealthResult(rows, nodes.unasked, states)


def _not_served(nodes: AskedNodes, mounts: Sequence[MountRef]) -> Iterator[MountHealth]:
    """Yield the rows of nodes that serve nothing, and of a cluster that lists no nodes."""
    for mount in mounts or (MountRef("", ""),):
        for one in nodes.states:
            if one.error is not None:
                yield _failed(mount, one.error, one.node)
    for one in nodes.states:
        if one.state == "standby_without_leader" and one.error is None:
            yield MountHealth("", "", one.state, None, one.detail, one.node, one.fix)
    if nodes.unlisted is None:
        return
    problem = nodes.unlisted.problems[0]
    detail = f"the nodes of the cluster could not be listed: {problem.why or problem.summary}"
    fix = UNTOLD_FIX
    if nodes.leader:
        detail += f"; the node that was asked forwards this request to the leader {nodes.leader}"
        fix = f"name the leader too (--node {nodes.leader}), to see its own state; {UNTOLD_FIX}"
    yield MountHealth("", "", "unreachable", None, detail, nodes.leader, fix)


def _explained(
    asked: Callable[[tuple[MountRef, str, Gateway]], MountHealth],
    one: tuple[MountRef, str, Gateway],
) -> MountHealth:
    """Ask one mount; if it hangs, see whether its plugin does or the whole node."""
    row = asked(one)
    if row.fix != _HANGS or answers_recorded(one[2]):
        return row
    return replace(row, detail=f"{row.detail}; {UNTOLD}", fix=UNTOLD_FIX)


@dataclass(frozen=True, slots=True)
class _Times:
    """The limit of one mount, and the deadline of all (monotonic); None: no limit."""

    each: float | None = None
    end: float = 0.0
    together: float = 0.0

    @classmethod
    def begin(cls, each: float | None) -> "_Times":
        if each is None:
            return cls()
        together = max(ALL_SECONDS, HEALTH_ROUNDS * each)
        return cls(each, time.monotonic() + together, together)


def _in_time(
    times: _Times,
    ask: Callable[[MountRef, str, Gateway], MountHealth],
    one: tuple[MountRef, str, Gateway],
) -> MountHealth:
    """Ask one mount within the limits; without time left, return a row that says so."""
    if times.each is None:
        return ask(*one)
    left = times.end - time.monotonic()
    if left > 0:
        with within(min(times.each, left)):
            return ask(*one)
    mount, node, _ = one
    detail = f"not asked: the {times.together:g} s limit for all mounts had expired"
    return MountHealth(mount.name, mount.path, "unreachable", None, detail, node, _ASK_FEWER)


_ASK_FEWER = "fix those that did not answer first, name fewer mounts, or raise --parallelism"


def health_now(
    gateway: Gateway,
    mounts: Sequence[MountRef],
    *,
    parallelism: int,
    deadline: float | None,
    refresh: bool = True,
) -> list[MountHealth]:
    """Ask each mount at the gateway's own address, as :func:`health` does."""
    with Workers(parallelism) as pool:
        in_time = partial(_in_time, _Times.begin(deadline), partial(_ask, refresh=refresh))
        return pool.map(in_time, [(mount, "", gateway) for mount in mounts])


def _ask(
    mount: MountRef, node: str, gateway: Gateway, *, refresh: bool, mint: bool = False
) -> MountHealth:
    started = time.monotonic()
    try:
        answer = gateway.engine(mount.path).health(refresh=refresh)
        if answer.state == "unproven" and mint:
            return _minted(mount, node, gateway)
    except VaultError as error:
        row = _failed(mount, error, node)
        return replace(row, fix=_HANGS) if isinstance(error, OutcomeUnknownError) else row
    spent = round((time.monotonic() - started) * 1000, 1)
    row = _answered(mount, answer, node, spent)
    return _with_cut_off(gateway, row) if row.state == "unconfigured" else row


def _with_cut_off(gateway: Gateway, row: MountHealth) -> MountHealth:
    """Add to a cut-off mount since when and why it is cut off, and the fix.

    A login that may read only health does not get it: the reason is for operators.
    """
    try:
        config = gateway.engine(row.path).checked_config()
    except SkyflowctlError:
        return row
    if config.revoked is None:
        return row
    return replace(row, detail=config.revoked.sentence(), fix=way_out(row.name, config.api))


def _minted(mount: MountRef, node: str, gateway: Gateway) -> MountHealth:
    """Read and discard a token for every role: the only proof on a basic engine."""
    slowest, roles = 0.0, gateway.engine(mount.path).roles()
    for name, token in role_tokens(gateway, mount.path, roles):
        if token.error is not None:
            state, detail = health_state(token.error), f"role {name}: {token.why}"
            return MountHealth(mount.name, mount.path, state, None, detail, node)
        slowest = max(slowest, token.latency_ms)
    if not roles:
        detail = "it has no role to read a token for"
        return MountHealth(mount.name, mount.path, "unproven", None, detail, node)
    return MountHealth(mount.name, mount.path, "ok", slowest, "", node)


def _answered(mount: MountRef, answer: EngineHealth, node: str, spent: float) -> MountHealth:
    latency = spent if answer.latency_ms is None else answer.latency_ms
    cached = f"cached, {answer.age_seconds} s old" if answer.age_seconds else ""
    said = answer.error or _DETAILS.get(answer.state, "")
    detail = "; ".join(text for text in (said, cached) if text)
    return MountHealth(mount.name, mount.path, answer.state, latency, detail, node)


_DETAILS = {
    "unconfigured": "no credential yet",
    "unproven": "its engine says only that it has a config",
}


_HANGS = (
    "on that node 'ps axo pid,stat,args' shows the plugin's processes; end the one that hangs "
    "with 'kill -9 PID', and the server starts it again; --deadline waits longer, also for a "
    "slow token service"
)


def _failed(mount: MountRef, error: VaultError, node: str) -> MountHealth:
    if isinstance(error, NamespaceMissingError):
        raise error
    problem, state = error.problems[0], health_state(error)
    detail = problem.why or problem.summary
    if isinstance(error, NotAServerError):
        detail = f"{problem.summary}; {problem.why}"
    if state == "not_mounted":
        detail = f"nothing is mounted at {mount.path}"
    fix = (
        problem.fix
        if state in {"unreachable", "audit_blocked"} or problem.code == "no-token"
        else ""
    )
    if isinstance(error, OutcomeUnknownError):
        fix = SILENT_FIX
    return MountHealth(mount.name, mount.path, state, None, detail, node, fix)
