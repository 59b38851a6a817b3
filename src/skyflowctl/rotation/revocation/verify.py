"""The verification of a cut-off: no node gives a token, and every other mount serves as it did."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.retry import retry
from skyflowctl.rotation.cluster import open_nodes
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.ports import names
from skyflowctl.rotation.revocation.cut import CUT_ROUNDS, delete_until_gone, not_read_back
from skyflowctl.rotation.revocation.model import CutOffState, NodeCut, OtherMount
from skyflowctl.rotation.revocation.snapshot import Roles, Snapshot, look_at_roles
from skyflowctl.rotation.session import RotationSession
from skyflowctl.rotation.sibling_mounts import NodeGateways, health_states, paths_beside
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.live import LiveConfig

_HEALTH_TRIES = 3
_PAUSE = 1.0


def verify_cut_off(
    session: RotationSession, before: Snapshot, ways: NodeGateways, cut: CutOffState, reason: str
) -> tuple[tuple[NodeCut, ...], CutOffState]:
    """Ask every node for tokens; a credential that was written meanwhile is destroyed again."""
    name = session.job.name
    with session.step(StepName.PROVE_CUT_OFF) as found:
        roles = before.roles or _roles_now(session)
        nodes = _ask_nodes(session, ways, roles)
        rounds = 1
        cut, again = _cut_again(session, cut, reason)
        while again and rounds < CUT_ROUNDS:
            nodes, rounds = _ask_nodes(session, ways, roles), rounds + 1
            cut, again = _cut_again(session, cut, reason)
        unproved = [node for node in nodes if not node.proved]
        found.ok = cut.done and not unproved and not again
        found.detail = _which_nodes(nodes)
    session.problems += [_not_proved(name, node) for node in unproved]
    if again or not cut.done:
        session.problems.append(
            Problem(
                "written-again",
                f"{name} has a credential again: another client rewrites it after each deletion",
                "another login, or another run, configures this mount at the same time",
                "stop that writer (the audit log names it), then run the same command again",
            )
        )
    return nodes, cut


def _which_nodes(nodes: Sequence[NodeCut]) -> str:
    """Return which nodes give no token, and why the others are not verified."""
    verified = [node.node for node in nodes if node.proved]
    text = f"{len(verified)} of {len(nodes)} nodes give no token"
    text += f": {', '.join(verified)}" if verified else ""
    left = "; ".join(f"{node.node} ({_unproved(node)})" for node in nodes if not node.proved)
    return f"{text}; not verified: {left}" if left else text


def _unproved(node: NodeCut) -> str:
    alive = [role.role for role in node.roles if not role.ok]
    return node.problem or f"creds did not fail as they should for {', '.join(alive)}"


def _not_proved(name: str, node: NodeCut) -> Problem:
    return Problem(
        "not-proved",
        f"it is not verified that {node.node} gives no token of {name}",
        _unproved(node),
        "name every node (--node URL or SKYFLOWCTL_NODES), bring it up or shut it down, then run "
        "the same command again",
    )


def _roles_now(session: RotationSession) -> Roles:
    before = Snapshot(LiveConfig(False, "", "", "", (), 0, 0))
    try:
        look_at_roles(session, before)
    except VaultError as error:
        session.problems.append(
            Problem(
                "roles-unknown",
                f"the roles of {session.job.name} could not be listed, so none was asked for a "
                "token",
                error.problems[0].summary,
                "run the same command again with a login that may list them",
            )
        )
    return before.roles


def _cut_again(session: RotationSession, cut: CutOffState, reason: str) -> tuple[CutOffState, bool]:
    """Return the cut-off, and whether the mount had a config again and was cut off once more."""
    try:
        if not session.engine.config().configured:
            return replace(cut, done=True), False
        cut = replace(cut, done=False)
        return delete_until_gone(session, reason, cut.tokens_until), True
    except VaultError as error:
        session.problems.append(not_read_back(session.job.name, error))
        return cut, False


def _ask_nodes(session: RotationSession, ways: NodeGateways, roles: Roles) -> tuple[NodeCut, ...]:
    options = replace(session.job.options, unverified_nodes=True)
    try:
        with open_nodes(session.deps, replace(session.job, options=options)) as nodes:
            cuts = nodes.verify_cut_off(session.path, roles)
            there = dict.fromkeys((*ways, *_listed(session)))
            unasked = [name for name in there if name and name not in nodes.names]
            warnings = nodes.warnings
    except SkyflowctlError as error:
        return (NodeCut("the server's nodes", problem=error.problems[0].summary),)
    missing = tuple(NodeCut(name, problem=_why_unasked(name, warnings)) for name in unasked)
    if warnings and not missing:
        missing = (NodeCut("other nodes", problem=warnings[0].summary),)
    return (*cuts, *missing)


def _why_unasked(node: str, warnings: Iterable[Problem]) -> str:
    """Return why a node was not asked, according to the warnings of the search for nodes."""
    about = (one.summary for one in warnings if node in f"{one.summary} {one.why}")
    return next(about, "this node's address was not given, so it was not asked")


def _listed(session: RotationSession) -> tuple[str, ...]:
    """Return the cluster's nodes; a login that may not list them was warned already."""
    try:
        listed = session.gateway.sys.nodes() if session.deps.connect else ()
    except VaultError:
        return ()
    return names(listed) if len(listed) > 1 else ()


def verify_others(
    session: RotationSession, before: Snapshot, ways: NodeGateways, verified: set[str]
) -> tuple[OtherMount, ...]:
    """Check that the other mounts serve; a mount that did not serve before is not reported.

    A node that is not verified is reported already, and may not answer at all.
    """
    ways = {name: way for name, way in ways.items() if name in verified}
    ways = ways or {"": session.gateway}
    with session.step(StepName.PROVE_OTHERS) as found:
        paths = before.paths or _paths_beside(session)

        def wait(_others: tuple[OtherMount, ...], tries: int) -> bool:
            # Another mount's failure may be transient, so report it only after the retries.
            if tries < _HEALTH_TRIES:
                session.deps.sleep(_PAUSE)
            return tries < _HEALTH_TRIES

        others = retry(
            lambda: _compare(ways, before, paths),
            lambda found: not any(other.broken for other in found),
            wait,
        )
        broken = [other for other in others if other.broken]
        found.ok = not broken
        found.detail = _how_many_serve(others, broken)
    session.problems[:0] = [_broken(other) for other in broken]
    unknown = [other for other in others if not other.before and other.after != "ok"]
    session.problems += [_not_serving(other) for other in unknown]
    return others


def _paths_beside(session: RotationSession) -> tuple[str, ...]:
    try:
        return paths_beside(session.gateway, session.path)
    except VaultError as error:
        session.problems.append(
            Problem(
                "others-unknown",
                f"it is not known whether the mounts beside {session.job.name} serve",
                error.problems[0].summary,
                "grant read on sys/mounts, or ask them with 'skyflowctl health'",
            )
        )
        return ()


def _compare(
    ways: NodeGateways, before: Snapshot, paths: tuple[str, ...]
) -> tuple[OtherMount, ...]:
    after = health_states(ways, paths)
    rows: dict[str, list[OtherMount]] = {}
    for (path, node), state in after.items():
        row = OtherMount(path, before.states.get((path, node), ""), state, node)
        rows.setdefault(path, []).append(row)
    return tuple(max(of_one, key=_how_bad) for of_one in rows.values())


def _how_many_serve(others: tuple[OtherMount, ...], broken: list[OtherMount]) -> str:
    text = f"{sum(other.after == 'ok' for other in others)} of {len(others)} serve"
    return f"{text}; {len(broken)} did before and do not now" if broken else text


def _how_bad(other: OtherMount) -> tuple[bool, bool]:
    return other.broken, other.after != "ok"


def _broken(other: OtherMount) -> Problem:
    node = f" on {other.node}" if other.node else ""
    return Problem(
        "other-mount-broken",
        f"{other.path} served before the cut-off and does not now",
        f"its health{node} is {other.after}",
        f"see 'skyflowctl health {other.path} --refresh'; a cut-off touches no other mount, but "
        "a key that was deleted at Skyflow may have been used there too",
    )


def _not_serving(other: OtherMount) -> Problem:
    return Problem(
        "other-mount-not-proved",
        f"{other.path} does not serve, and whether it did before the cut-off is not known",
        f"its health is {other.after}, and it had not answered when the mount was cut off",
        f"see 'skyflowctl health {other.path} --refresh'",
    )
