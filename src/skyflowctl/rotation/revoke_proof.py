"""The proof of a cut-off: no node gives a token, and every other mount serves as it did."""

from dataclasses import replace

from skyflowctl.errors import SkyflowctlError
from skyflowctl.rotation import revoke_messages as words
from skyflowctl.rotation.cluster import open_nodes
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.ports import names
from skyflowctl.rotation.revoke_cut import CUT_ROUNDS, delete_until_gone
from skyflowctl.rotation.revoke_snapshot import RevocationSession, Roles, Snapshot, look_at_roles
from skyflowctl.rotation.revoked import (
    NodeCut,
    OtherMount,
)
from skyflowctl.rotation.sibling_mounts import (
    health_states,
    paths_beside,
)
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.live import LiveConfig

_HEALTH_TRIES = 3
_PAUSE = 1.0


def prove_nodes(scene: RevocationSession, before: Snapshot) -> tuple[NodeCut, ...]:
    """Prove every node; a credential that was written meanwhile is destroyed again."""
    with scene.recorder.step(StepName.PROVE_CUT_OFF) as found:
        roles = before.roles or _roles_now(scene)
        nodes = _ask_nodes(scene, roles)
        rounds = 1
        while (again := _written_again(scene)) and rounds < CUT_ROUNDS:
            nodes, rounds = _ask_nodes(scene, roles), rounds + 1
        unproved = [node for node in nodes if not node.proved]
        found.ok = scene.cut_off and not unproved and not again
        found.detail = f"{len(nodes) - len(unproved)} of {len(nodes)} nodes give no token"
    scene.problems += [words.not_proved(scene.job.name, node) for node in unproved]
    if again or not scene.cut_off:
        scene.problems.append(words.written_again(scene.job.name))
    return nodes


def _roles_now(scene: RevocationSession) -> Roles:
    before = Snapshot(LiveConfig(False, "", "", "", (), 0, 0))
    try:
        look_at_roles(scene, before)
    except VaultError as error:
        scene.problems.append(words.roles_unknown(scene.job.name, error))
    return before.roles


def _written_again(scene: RevocationSession) -> bool:
    """Whether the mount was configured by now; then it is cut off once more."""
    try:
        if not scene.world.gateway.read_config(scene.job.path).configured:
            scene.cut_off = True
            return False
        delete_until_gone(scene)
    except VaultError as error:
        scene.problems.append(words.not_read_back(scene.job.name, error))
        return False
    return True


def _ask_nodes(scene: RevocationSession, roles: Roles) -> tuple[NodeCut, ...]:
    options = replace(scene.job.options, unverified_nodes=True)
    try:
        with open_nodes(scene.world, replace(scene.job, options=options)) as nodes:
            cuts = nodes.prove_cut_off(scene.job.path, roles)
            there = dict.fromkeys((*scene.ways, *_listed(scene)))
            unasked = [name for name in there if name and name not in nodes.names]
            said = nodes.warnings
    except SkyflowctlError as error:
        return (NodeCut("the server's nodes", problem=error.problems[0].summary),)
    missing = tuple(NodeCut(name, problem=words.unasked(name, said)) for name in unasked)
    if said and not missing:
        missing = (NodeCut("other nodes", problem=said[0].summary),)
    return (*cuts, *missing)


def _listed(scene: RevocationSession) -> tuple[str, ...]:
    """Return the nodes that the cluster has; a login that may not know is told of already."""
    try:
        listed = scene.world.gateway.nodes() if scene.world.connect else ()
    except VaultError:
        return ()
    return names(listed) if len(listed) > 1 else ()


def prove_others(
    scene: RevocationSession, before: Snapshot, proved: set[str]
) -> tuple[OtherMount, ...]:
    """See that the other mounts serve; one that did not before is not blamed.

    A node that is not proved is named as such already, and may not answer at all.
    """
    scene.ways = {name: way for name, way in scene.ways.items() if name in proved}
    scene.ways = scene.ways or {"": scene.world.gateway}
    with scene.recorder.step(StepName.PROVE_OTHERS) as found:
        paths = before.paths or _paths_beside(scene)
        others = _compare(scene, before, paths)
        for _ in range(_HEALTH_TRIES - 1):
            if not any(other.broken for other in others):
                break
            # Another mount's trouble may pass, and is not ours to report too early.
            scene.world.sleep(_PAUSE)
            others = _compare(scene, before, paths)
        broken = [other for other in others if other.broken]
        found.ok = not broken
        found.detail = _how_many_serve(others, broken)
    scene.problems[:0] = [words.broken(other) for other in broken]
    unknown = [other for other in others if not other.before and other.after != "ok"]
    scene.problems += [words.other_not_proved(other) for other in unknown]
    return others


def _paths_beside(scene: RevocationSession) -> tuple[str, ...]:
    try:
        return paths_beside(scene.world.gateway, scene.job.path)
    except VaultError as error:
        scene.problems.append(words.others_unknown(scene.job.name, error))
        return ()


def _compare(
    scene: RevocationSession, before: Snapshot, paths: tuple[str, ...]
) -> tuple[OtherMount, ...]:
    after = health_states(scene.ways, paths, lambda: True, _tell_nobody)
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


def _tell_nobody(_path: str, _node: str, _state: str) -> None:
    """Wait for the whole answer."""
