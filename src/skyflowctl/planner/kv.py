"""Plans the secrets of kv engines, whose values it never sees."""

from collections.abc import Iterable, Mapping

from skyflowctl.manifest.engine_rules import ROTATE_VERSION
from skyflowctl.manifest.model import DeclaredSecret, LiveValue, Manifest
from skyflowctl.planner import adoption, fields
from skyflowctl.planner.access import AccessPlan, is_adopted, owner_of, unread
from skyflowctl.planner.desired import DesiredObject
from skyflowctl.planner.objects import no_live_value, source_text
from skyflowctl.planner.plan import (
    Action,
    ActionType,
    Change,
    Drift,
    DriftKind,
    PlanOptions,
)
from skyflowctl.vault.live import LiveAccess, LiveSecret

_ROTATE_AFTER = "rotate_after"
"""In a secret's custom metadata: the rotation is done once the secret's version is above this one.

It is written before the data, so that a run that was killed in between leaves it open."""


def plan_secrets(
    manifest: Manifest, live: LiveAccess, desired: Iterable[DesiredObject], options: PlanOptions
) -> AccessPlan:
    """Return the actions that write what is absent, and drift for deleted secrets."""
    plan = AccessPlan()
    for one in desired:
        found = live.secrets.get(one.path)
        if problem := unread(one, live):
            plan.not_compared.append(one.path)
            plan.warnings.append(problem)
            continue
        if found is not None and found.deleted:
            plan.not_compared.append(one.path)
            plan.drift.append(_deleted(one, found))
            continue
        plan.compared += 1
        if action := _action(manifest, one, found, options, plan):
            plan.actions.append(action)
    return plan


def _deleted(one: DesiredObject, found: LiveSecret) -> Drift:
    undelete = f"bao kv undelete -mount={one.body['engine']} -versions={found.version}"
    remove = f"bao kv metadata delete -mount={one.body['engine']}"
    path = one.body["path"]
    restore = f"to restore it: {undelete} {path}; " if found.deleted_at else ""
    return Drift(
        DriftKind.DELETED,
        "",
        one.path,
        since=found.deleted_at,
        reason="somebody deleted its newest version, and no apply writes it again unasked",
        fix=f"{restore}to lose all of its versions and write it anew: {remove} {path}, "
        "then 'skyflowctl apply'",
    )


def _action(
    manifest: Manifest,
    one: DesiredObject,
    found: LiveSecret | None,
    options: PlanOptions,
    plan: AccessPlan,
) -> Action | None:
    secret: DeclaredSecret = one.body["secret"]
    live = found or LiveSecret(0)
    owner = owner_of(manifest.id, live) if found else None
    marks = dict(one.fields)
    if found and (owner is not None or is_adopted(manifest.id, found)):
        marks["adopted"] = "true"
    rotates = _rotates(secret, live)
    if rotates:
        marks |= {ROTATE_VERSION: str(secret.rotate_version), _ROTATE_AFTER: str(live.version)}
    data = {
        name: source
        for name, source in secret.fields.items()
        if name not in live.fields or (rotates and not isinstance(source, LiveValue))
    }
    if problem := no_live_value(one.path, data, one.where):
        plan.warnings.append(problem)
        return None
    marked = fields.differences(live.custom_metadata, marks)
    changes = (
        *(Change(f"custom_metadata.{one.field}", one.before, one.after) for one in marked),
        *(Change(name, _before(name, live), source_text(one)) for name, one in data.items()),
    )
    if not changes:
        return None
    if owner is not None:
        plan.warnings.append(adoption.problem(one.where, one.name, owner, "", options))
    return Action(
        ActionType.UPDATE if live.version else ActionType.CREATE,
        one.kind,
        "",
        one.path,
        changes,
        {
            "engine": one.body["engine"],
            "path": one.body["path"],
            "custom_metadata": {change.field: change.after for change in marked},
            "data": data,
        },
        cas=live.version,
        after=one.after,
    )


def _rotates(secret: DeclaredSecret, live: LiveSecret) -> bool:
    """Whether every field is written anew: ``rotate_version`` rose, or an earlier run was killed
    after it had said so."""
    done = _number(live.custom_metadata, ROTATE_VERSION, 0)
    if not secret.rotate_version or secret.rotate_version < done:
        return False
    return secret.rotate_version > done or live.version <= _number(
        live.custom_metadata, _ROTATE_AFTER, -1
    )


def _number(custom: Mapping[str, str], name: str, default: int) -> int:
    text = custom.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _before(name: str, live: LiveSecret) -> str | None:
    return "set" if name in live.fields else None
