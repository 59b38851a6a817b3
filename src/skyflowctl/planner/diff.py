"""Computes a plan from a manifest and a live state: pure, without any I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import (
    access,
    adoption,
    desired,
    drift,
    engine,
    kv,
    messages,
    mounts,
    moves,
    prune,
)
from skyflowctl.planner.credential import is_live
from skyflowctl.planner.engine import CredentialInput, ObjectPlan
from skyflowctl.planner.fields import AUDITED_HEADERS, wanted_mount
from skyflowctl.planner.messages import place
from skyflowctl.planner.plan import (
    Action,
    ActionType,
    Drift,
    MountSettings,
    ObjectKind,
    Plan,
    PlanOptions,
)
from skyflowctl.planner.prune_access import access_drift
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveState

_STAGES = tuple(ObjectKind)


@dataclass(slots=True)
class _Draft:
    """The results so far; ``objects`` counts the objects that were compared, ``not_compared``
    those that were not, by mount name."""

    options: PlanOptions
    actions: list[Action] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    settings: dict[str, MountSettings] = field(default_factory=dict)
    objects: int = 0
    not_compared: dict[str, int] = field(default_factory=dict)

    def plan(self) -> Plan:
        ordered = _in_order(self.actions)
        touched = {
            (action.kind, action.mount, place(action))
            for action in ordered
            if action.action is not ActionType.DELETE
        }
        unchanged = self.objects - len(touched)
        return Plan(
            tuple(ordered),
            tuple(self.warnings),
            unchanged,
            tuple(self.drift),
            self.settings,
            self.not_compared,
        )

    def add_not_compared(self, mount: Mount, compared: int) -> None:
        """Count a mount's objects as not compared: the mount, its config and its roles."""
        if left := len(mount.roles) + 2 - compared:
            self.not_compared[mount.name] = left


def _in_order(actions: Sequence[Action]) -> list[Action]:
    """Return the actions by stage, then the deletions by stage in reverse order.

    A move comes first among the actions of mounts.
    Before a move come all new policies, so that readers can follow the mount at once.
    """
    moving = any(action.action is ActionType.MOVE for action in actions)
    early = [action.path for action in actions if moving and _is_new_policy(action)]
    sooner = frozenset(early)

    def stage(action: Action) -> tuple[bool, float, bool]:
        if action.action is ActionType.DELETE:
            return True, -_STAGES.index(action.kind), False
        if action.path in sooner:
            return False, _STAGES.index(ObjectKind.MOUNT) - 0.5, False
        return False, _STAGES.index(action.kind), action.action is not ActionType.MOVE

    return [
        replace(action, after=tuple(early)) if action.action is ActionType.MOVE else action
        for action in sorted(actions, key=stage)
    ]


def _is_new_policy(action: Action) -> bool:
    return action.kind is ObjectKind.POLICY and action.action is ActionType.CREATE


def make_plan(
    manifest: Manifest,
    live: LiveState,
    identities: Mapping[str, CredentialId | None],
    options: PlanOptions | None = None,
    *,
    reasons: Mapping[str, str] | None = None,
    invalid: Mapping[str, Problem] | None = None,
) -> Plan:
    """Return the actions that make the server match the manifest, stage by stage.

    The stages are those of :class:`ObjectKind`; actions inside a stage follow the manifest's
    order. The same arguments give the same plan.

    Args:
        manifest: the desired state.
        live: the live state. Engines whose live key is not the manifest's should have their
            history (see :func:`mounts_to_ask_history`), and mounts to which a declared mount
            may have been moved should be read (see :func:`mounts_to_search`).
        identities: each mount's credential by mount name; None or absent if it could not be
            resolved.
        options: the caller's options.
        reasons: by mount name, why a reference could not be resolved.
        invalid: by mount name, why the referenced text is no valid credential.
    """
    options = options or PlanOptions()
    live = moves.as_moved(manifest, live)
    draft = _Draft(options)
    _add_headers(draft, live)
    moved = moves.moved_mounts(manifest, live, identities)
    for mount in chosen_mounts(manifest, options):
        if mount.name in moved:
            draft.drift.append(moved[mount.name].drift())
            draft.add_not_compared(mount, 0)
            continue
        key = _key(mount, identities, options, reasons or {}, invalid or {})
        before, objects = len(draft.actions), draft.objects
        _add_mount(draft, manifest, mount, live, key)
        draft.add_not_compared(mount, draft.objects - objects)
        draft.warnings += adoption.taken_over(
            manifest, mount, live, draft.actions[before:], options=options, identity=key.identity
        )
    _add_undeclared(draft, manifest, live, options, {one.path for one in moved.values()})
    _add_access(draft, manifest, live, options, frozenset(moved))
    _add_deletions(draft, manifest, live, options)
    return draft.plan()


def _add_undeclared(
    draft: _Draft,
    manifest: Manifest,
    live: LiveState,
    options: PlanOptions,
    found_elsewhere: set[str],
) -> None:
    """Add the mounts of this manifest that it no longer declares."""
    undeclared = moves.undeclared_mounts(manifest, live.mounts)
    gone = set(undeclared) - found_elsewhere
    draft.drift += [
        drift.undeclared_mount(live.mounts[path]) for path in sorted(gone) if _covers(options, path)
    ]


def _covers(options: PlanOptions, path: str) -> bool:
    """Whether a plan shows an undeclared mount; a plan of chosen mounts only if it is named."""
    return options.only is None or (options.prune is not None and options.prune.covers(path))


def _add_deletions(
    draft: _Draft, manifest: Manifest, live: LiveState, options: PlanOptions
) -> None:
    found = prune.plan_deletions(manifest, live, options, draft.drift)
    draft.actions += found.actions
    draft.warnings += found.refused
    left = [one for one in draft.drift if one.path not in found.paths]
    draft.drift = prune.with_needed_flags(manifest, live, left)


def _add_access(
    draft: _Draft,
    manifest: Manifest,
    live: LiveState,
    options: PlanOptions,
    skipped: frozenset[str],
) -> None:
    """Plan everything besides the mounts; what needs a skipped mount is left as it is.

    So is what needs a mount that is not moved, or a role that is not created, in this plan.
    """
    everything = desired.desired_access(manifest, options)
    skipped |= _not_moved(draft, manifest, live)
    waits = desired.paths_of_mounts(manifest, skipped) | _absent_roles(draft, manifest, live)
    wanted: list[desired.DesiredObject] = []
    left: list[desired.DesiredObject] = []
    for one in everything:
        (left if waits & {one.path, *one.after} else wanted).append(one)
    secrets = [one for one in wanted if one.kind is ObjectKind.SECRET]
    others = [one for one in wanted if one.kind is not ObjectKind.SECRET]
    found = access.plan_access(manifest, live.access, others, options)
    stored = kv.plan_secrets(manifest, live.access, secrets, options)
    for part in (found, stored):
        draft.actions += part.actions
        draft.warnings += part.warnings
        draft.drift += part.drift
        draft.objects += part.compared
    unread = (*found.not_compared, *stored.not_compared)
    draft.not_compared |= dict.fromkeys((*unread, *(one.path for one in left)), 1)
    if options.prune is not None:
        draft.warnings += access.not_searched(live.access, wanted)
    if options.only is None:
        draft.drift += access_drift(manifest, live.access, {one.path for one in everything})


def _not_moved(draft: _Draft, manifest: Manifest, live: LiveState) -> frozenset[str]:
    """Return the names of the mounts that stay at their former path after this plan."""
    moving = {action.mount for action in draft.actions if action.action is ActionType.MOVE}
    return frozenset(
        mount.name
        for mount in manifest.mounts
        if (there := live.mounts.get(mount.path))
        and there.path != mount.path
        and mount.name not in moving
    )


def _absent_roles(draft: _Draft, manifest: Manifest, live: LiveState) -> frozenset[str]:
    """Return the paths of declared roles that are known to be absent after this plan."""
    created = {action.path for action in draft.actions if action.kind is ObjectKind.ROLE}
    absent = (
        f"{mount.path}/roles/{role.name}"
        for mount in manifest.mounts
        if (there := live.engines.get(mount.path))
        for role in mount.roles
        if role.name not in there.roles and role.name not in there.unusable
    )
    return frozenset(absent) - created


def _config_is_known(
    mount: Mount, live: LiveEngine | None, key: CredentialInput, outline: ObjectPlan
) -> bool:
    """Return whether a config was compared; it was not if its credential is unknown."""
    if outline.action is not None:
        return True
    if live is None or not live.config.configured:
        return False
    return mount.credentials is None or (key.identity is not None and bool(live.config.key_id))


def chosen_mounts(manifest: Manifest, options: PlanOptions) -> tuple[Mount, ...]:
    """Return the mounts of a plan, in the manifest's order."""
    only = options.only
    return tuple(mount for mount in manifest.mounts if only is None or mount.name in only)


def _key(
    mount: Mount,
    identities: Mapping[str, CredentialId | None],
    options: PlanOptions,
    reasons: Mapping[str, str],
    invalid: Mapping[str, Problem],
) -> CredentialInput:
    identity = identities.get(mount.name)
    reference = mount.credentials
    # The dev stack has an identity for each mount, because it resolves no references.
    return CredentialInput(
        identity,
        reasons.get(mount.name, ""),
        server_file=reference.server_file if reference and not identity else "",
        insisted=mount.name in options.replace_credential,
        allow_revoked=identity is not None and identity.key_id in options.allow_revoked_key,
        invalid=invalid.get(mount.name),
    )


def mounts_to_ask_history(
    manifest: Manifest,
    live: LiveState,
    identities: Mapping[str, CredentialId | None],
) -> tuple[str, ...]:
    """Return the paths of the mounts whose live key is not the manifest's.

    They have another key, or had one and were cut off. A plan needs the engine's history only
    for these mounts, which costs one request each.
    """
    live = moves.as_moved(manifest, live)
    return tuple(
        live.mounts[mount.path].path
        for mount in manifest.mounts
        if (there := live.engines.get(mount.path))
        and _depends_on_history(there.config, identities.get(mount.name))
    )


def _depends_on_history(config: LiveConfig, wanted: CredentialId | None) -> bool:
    if not config.api.has("history"):
        return False
    if not config.configured:
        return config.version > 0
    return wanted is not None and not is_live(config, wanted)


def mounts_to_search(manifest: Manifest, live: LiveState) -> tuple[str, ...]:
    """Return the undeclared mounts of this manifest to which an absent mount may have been moved.

    Their engines must be read to decide that. Empty if no mount is absent.
    """
    live = moves.as_moved(manifest, live)
    if not moves.absent_mounts(manifest, live.mounts):
        return ()
    return tuple(moves.undeclared_mounts(manifest, live.mounts))


def _add_headers(draft: _Draft, live: LiveState) -> None:
    if live.audited_headers is None:
        draft.warnings.append(messages.headers_unreadable())
        return
    draft.objects += len(AUDITED_HEADERS)
    draft.actions += mounts.header_actions(live.audited_headers)


def _add_mount(
    draft: _Draft,
    manifest: Manifest,
    mount: Mount,
    live: LiveState,
    key: CredentialInput,
) -> None:
    options = draft.options
    reason = mounts.blocked(manifest, mount, live.mounts, options.adopt_from)
    if reason:
        draft.warnings.append(reason)
        return
    present = live.mounts.get(mount.path)
    former = present.path if present and present.path != mount.path else ""
    cut_off = engine.cut_off_reason(mount, live.engines.get(mount.path), key, former)
    if isinstance(cut_off, Drift):
        draft.drift.append(cut_off)
        return
    if cut_off:
        draft.warnings.append(cut_off)
        return
    problem = live.problems.get(mount.path)
    if problem:
        draft.warnings.append(messages.engine_unreadable(mount, problem))
    if problem and former:
        return  # what cannot be read cannot be compared after the move
    draft.objects += 1
    other_files = options.prune is not None and options.prune.allow_other_files
    draft.actions += mounts.mount_actions(manifest, mount, present, other_files=other_files)
    draft.settings[mount.name] = MountSettings(mount.path, wanted_mount(manifest, mount))
    if former:
        allowed = not options.allow_move.isdisjoint({former, mount.path})
        draft.warnings.append(moves.warning(manifest, mount, former, allowed=allowed))
    if problem:
        return
    _add_engine(draft, manifest, mount, live, key)


def _add_engine(
    draft: _Draft, manifest: Manifest, mount: Mount, live: LiveState, key: CredentialInput
) -> None:
    there = live.engines.get(mount.path)
    draft.actions += engine.role_actions(manifest, mount, there)
    if without_rule := engine.roles_without_rule(mount, there):
        draft.warnings.append(messages.ctx_not_enforced(mount, without_rule))
    if cannot_sign := engine.roles_that_cannot_sign(mount, there):
        draft.warnings.append(messages.cannot_sign(mount, cannot_sign))
    if without_reuse := engine.roles_without_reuse(mount, there):
        draft.warnings.append(messages.cannot_reuse(mount, without_reuse))
    unusable = there.unusable if there else {}
    draft.warnings += [messages.unusable_role(mount, name, why) for name, why in unusable.items()]
    draft.drift += drift.undeclared_roles(manifest, mount, there)
    outline = engine.config_outline(manifest, mount, there, key)
    draft.objects += len(mount.roles) - len(without_rule)
    draft.objects += _config_is_known(mount, there, key, outline)
    draft.actions += [outline.action] if outline.action else []
    draft.warnings += outline.warnings
    draft.drift += outline.drift
