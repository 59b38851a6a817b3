"""The drift in ``status``: how mounts that were read differ from the manifest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import SKIPPED, ActionType, ObjectKind, Plan, PlanOptions
from skyflowctl.vault.live import LiveState

_KINDS = frozenset({ObjectKind.MOUNT, ObjectKind.ROLE, ObjectKind.CONFIG})
_STATES = {ActionType.CREATE: "absent", ActionType.MOVE: "moved"}


@dataclass(frozen=True, slots=True)
class MountDifference:
    """One object of a mount that is not as the manifest declares it.

    Args:
        kind: ``differs``, ``absent`` (only declared), or a kind of drift of a plan.
        path: of the object, as in a plan.
        fields: those that differ; empty unless it ``differs``.
    """

    kind: str
    path: str
    fields: tuple[str, ...] = ()


def mount_differences(
    manifest: Manifest, live: LiveState, paths: Sequence[str]
) -> Mapping[str, tuple[MountDifference, ...]]:
    """Return the differences of mounts by path; a mount that was not compared is left out.

    Settings, roles, descriptions and tags are compared, from what was read: no request is sent,
    and no credential is resolved, so that keys are not compared.

    Args:
        manifest: the desired state.
        live: the state of these mounts.
        paths: of the mounts that could be read.
    """
    read = [one for one in manifest.mounts if one.path in paths]
    bare = replace(
        manifest,
        mounts=tuple(
            replace(one, credentials=None, keeps_credential=False) for one in manifest.mounts
        ),
    )
    plan = make_plan(bare, live, {}, PlanOptions(only=frozenset(one.name for one in read)))
    skipped = {one.mount for one in plan.drift if one.kind in SKIPPED}
    found = {}
    for mount in read:
        differences = tuple(_differences(plan, mount.name))
        if mount.name in skipped or (not differences and mount.name in plan.not_compared):
            continue
        found[mount.path] = differences
    return found


def _differences(plan: Plan, mount: str) -> Iterator[MountDifference]:
    for one in plan.actions:
        if one.mount == mount and one.kind in _KINDS:
            kind = _STATES.get(one.action, "differs")
            changed = (change.field for change in one.changes) if kind == "differs" else ()
            yield MountDifference(kind, one.path, tuple(changed))
    for drift in plan.drift:
        if drift.mount == mount:
            yield MountDifference(drift.kind.value, drift.path)
