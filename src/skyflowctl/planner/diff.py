"""From a manifest and a live state to a plan: pure, without any input or output."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import engine, mounts, notes
from skyflowctl.planner.credential import is_live
from skyflowctl.planner.engine import Key
from skyflowctl.planner.fields import AUDITED_HEADERS
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.planner.plan import Action, Kind, Plan
from skyflowctl.vault.live import LiveConfig, LiveState

_STAGES = tuple(Kind)


@dataclass(slots=True)
class _Draft:
    """What has been found so far; ``objects`` counts everything that was compared."""

    actions: list[Action] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    objects: int = 0

    def plan(self) -> Plan:
        ordered = sorted(self.actions, key=lambda action: _STAGES.index(action.kind))
        touched = {(action.kind, action.mount, action.path) for action in ordered}
        return Plan(tuple(ordered), tuple(self.warnings), self.objects - len(touched))


def make_plan(
    manifest: Manifest,
    live: LiveState,
    identities: Mapping[str, CredentialIdentity | None],
    *,
    replace_credential: frozenset[str] = frozenset(),
    reasons: Mapping[str, str] | None = None,
) -> Plan:
    """Return the actions that make the server as the manifest says, stage by stage.

    Stages are audited headers, mounts, roles, configs; inside a stage the manifest's
    order. The same arguments give the same plan.

    Args:
        manifest: what should be.
        live: what is; engines whose live key is not the manifest's should carry
            their history (see :func:`mounts_to_ask_history`).
        identities: each mount's credential by mount name; None or absent: it could
            not be resolved.
        replace_credential: names of mounts whose key is to be written although the
            engine cannot tell whether it was live before, or it was cut off.
        reasons: by mount name, why a reference could not be resolved.
    """
    draft = _Draft()
    _add_headers(draft, live)
    for mount in manifest.mounts:
        key = Key(
            identities.get(mount.name),
            (reasons or {}).get(mount.name, ""),
            mount.name in replace_credential,
        )
        _add_mount(draft, manifest, mount, live, key)
    draft.warnings += mounts.unmanaged(manifest, live.mounts.values())
    return draft.plan()


def mounts_to_ask_history(
    manifest: Manifest,
    live: LiveState,
    identities: Mapping[str, CredentialIdentity | None],
) -> tuple[str, ...]:
    """Return the paths of the mounts that do not run on the manifest's key.

    They run on another one, or had one and were cut off. Only for these does a plan
    depend on the engine's history, one request each.
    """
    paths = []
    for mount in manifest.mounts:
        there = live.engines.get(mount.path)
        wanted = identities.get(mount.name)
        if there and wanted and _has_past(there.config) and not is_live(there.config, wanted):
            paths.append(mount.path)
    return tuple(paths)


def _has_past(config: LiveConfig) -> bool:
    return config.configured or config.version > 0


def _add_headers(draft: _Draft, live: LiveState) -> None:
    if live.audited_headers is None:
        draft.warnings.append(notes.headers_unreadable())
        return
    draft.objects += len(AUDITED_HEADERS)
    draft.actions += mounts.header_actions(live.audited_headers)


def _add_mount(draft: _Draft, manifest: Manifest, mount: Mount, live: LiveState, key: Key) -> None:
    reason = mounts.blocked(manifest, mount, live.mounts)
    if reason:
        draft.warnings.append(reason)
        return
    present = live.mounts.get(mount.path)
    draft.objects += 1
    draft.actions += mounts.mount_actions(manifest, mount, present)
    problem = live.problems.get(mount.path)
    if problem:
        draft.warnings.append(notes.engine_unreadable(mount, problem))
        return
    _add_engine(draft, manifest, mount, live, key)


def _add_engine(draft: _Draft, manifest: Manifest, mount: Mount, live: LiveState, key: Key) -> None:
    there = live.engines.get(mount.path)
    draft.actions += engine.role_actions(manifest, mount, there)
    if without_rule := engine.roles_without_rule(mount, there):
        draft.warnings.append(notes.ctx_not_enforced(mount, without_rule))
    draft.warnings += engine.unmanaged_roles(mount, there)
    outline = engine.config_outline(manifest, mount, there, key)
    has_config = outline.action is not None or (there is not None and there.config.configured)
    draft.objects += len(mount.roles) + has_config
    draft.actions += [outline.action] if outline.action else []
    draft.warnings += outline.warnings
