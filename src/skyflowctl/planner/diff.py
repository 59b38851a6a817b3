"""From a manifest and a live state to a plan: pure, without any input or output."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import adoption, drift, engine, messages, mounts, moves
from skyflowctl.planner.credential import is_live
from skyflowctl.planner.engine import CredentialInput, ObjectPlan
from skyflowctl.planner.fields import AUDITED_HEADERS, wanted_mount
from skyflowctl.planner.plan import Action, Drift, MountSettings, ObjectKind, Plan, PlanOptions
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveState

_STAGES = tuple(ObjectKind)


@dataclass(slots=True)
class _Draft:
    """What has been found so far; ``objects`` counts everything that was compared,
    ``not_compared`` by mount name what was not."""

    actions: list[Action] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    settings: dict[str, MountSettings] = field(default_factory=dict)
    objects: int = 0
    not_compared: dict[str, int] = field(default_factory=dict)

    def plan(self) -> Plan:
        ordered = sorted(self.actions, key=lambda action: _STAGES.index(action.kind))
        touched = {(action.kind, action.mount, action.path) for action in ordered}
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
        """Note how many of a mount's objects were not: itself, its config and its roles."""
        if left := len(mount.roles) + 2 - compared:
            self.not_compared[mount.name] = left


def make_plan(
    manifest: Manifest,
    live: LiveState,
    identities: Mapping[str, CredentialId | None],
    options: PlanOptions | None = None,
    *,
    reasons: Mapping[str, str] | None = None,
    invalid: Mapping[str, Problem] | None = None,
) -> Plan:
    """Return the actions that make the server as the manifest says, stage by stage.

    Stages are audited headers, mounts, roles, configs; inside a stage the manifest's
    order. The same arguments give the same plan.

    Args:
        manifest: what should be.
        live: what is; engines whose live key is not the manifest's should carry
            their history (see :func:`mounts_to_ask_history`), and mounts that a declared
            one may have been moved to should be read (see :func:`mounts_to_search`).
        identities: each mount's credential by mount name; None or absent: it could
            not be resolved.
        options: what the caller asks besides.
        reasons: by mount name, why a reference could not be resolved.
        invalid: by mount name, why what it leads to is no valid credential.
    """
    options = options or PlanOptions()
    draft = _Draft()
    _add_headers(draft, live)
    moved = moves.moved_mounts(manifest, live, identities)
    for mount in chosen_mounts(manifest, options):
        if mount.name in moved:
            draft.drift.append(moved[mount.name].drift())
            draft.add_not_compared(mount, 0)
            continue
        key = _key(mount, identities, options, reasons or {}, invalid or {})
        before, objects = len(draft.actions), draft.objects
        _add_mount(draft, manifest, mount, live, key, adopt_from=options.adopt_from)
        draft.add_not_compared(mount, draft.objects - objects)
        draft.warnings += adoption.taken_over(
            manifest, mount, live, draft.actions[before:], options=options, identity=key.identity
        )
    if options.only is None:
        undeclared = moves.undeclared_mounts(manifest, live.mounts.values())
        gone = set(undeclared) - {one.path for one in moved.values()}
        draft.drift += [drift.undeclared_mount(path) for path in sorted(gone)]
    return draft.plan()


def _config_is_known(
    mount: Mount, live: LiveEngine | None, key: CredentialInput, outline: ObjectPlan
) -> bool:
    """Tell whether a config was compared; one whose credential is unknown was not."""
    if outline.action is not None:
        return True
    if live is None or not live.config.configured:
        return False
    return mount.credentials is None or (key.identity is not None and bool(live.config.key_id))


def chosen_mounts(manifest: Manifest, options: PlanOptions) -> tuple[Mount, ...]:
    """Return the mounts that a plan is about, in the manifest's order."""
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
    # The dev stack has an identity for each mount: it resolves no reference at all.
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
    """Return the paths of the mounts that do not run on the manifest's key.

    They run on another one, or had one and were cut off. Only for these does a plan
    depend on the engine's history, one request each.
    """
    return tuple(
        mount.path
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
    """Return the undeclared mounts of this manifest that an absent one may have become.

    Their engines have to be read before it can be told; none where nothing is absent.
    """
    if not moves.absent_mounts(manifest, live.mounts):
        return ()
    return tuple(moves.undeclared_mounts(manifest, live.mounts.values()))


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
    *,
    adopt_from: frozenset[str],
) -> None:
    reason = mounts.blocked(manifest, mount, live.mounts, adopt_from)
    if reason:
        draft.warnings.append(reason)
        return
    cut_off = engine.cut_off_reason(mount, live.engines.get(mount.path), key)
    if isinstance(cut_off, Drift):
        draft.drift.append(cut_off)
        return
    if cut_off:
        draft.warnings.append(cut_off)
        return
    present = live.mounts.get(mount.path)
    draft.objects += 1
    draft.actions += mounts.mount_actions(manifest, mount, present)
    draft.settings[mount.name] = MountSettings(mount.path, wanted_mount(manifest, mount))
    problem = live.problems.get(mount.path)
    if problem:
        draft.warnings.append(messages.engine_unreadable(mount, problem))
        return
    _add_engine(draft, manifest, mount, live, key)


def _add_engine(
    draft: _Draft, manifest: Manifest, mount: Mount, live: LiveState, key: CredentialInput
) -> None:
    there = live.engines.get(mount.path)
    draft.actions += engine.role_actions(manifest, mount, there)
    if without_rule := engine.roles_without_rule(mount, there):
        draft.warnings.append(messages.ctx_not_enforced(mount, without_rule))
    unusable = there.unusable if there else {}
    draft.warnings += [messages.unusable_role(mount, name, why) for name, why in unusable.items()]
    draft.drift += drift.undeclared_roles(manifest, mount, there)
    outline = engine.config_outline(manifest, mount, there, key)
    draft.objects += len(mount.roles) - len(without_rule)
    draft.objects += _config_is_known(mount, there, key, outline)
    draft.actions += [outline.action] if outline.action else []
    draft.warnings += outline.warnings
    draft.drift += outline.drift
