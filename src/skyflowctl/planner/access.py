"""Plans engines, policies, login methods and logins: pure, like the rest of the plan.

``kv.py`` plans the secrets of the engines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, TypeGuard

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import DeclaredObject, Manifest
from skyflowctl.planner import adoption, audit_devices, fields, objects, quotas
from skyflowctl.planner.desired import OWNER_POLICY, DesiredObject
from skyflowctl.planner.groups import live_group
from skyflowctl.planner.login_problems import (
    certificate_problem,
    method_problem,
    missing_policies,
    of_other_type,
    signer_problem,
)
from skyflowctl.planner.plan import (
    ACCESS_UNREADABLE,
    Action,
    ActionType,
    Change,
    Drift,
    ObjectKind,
    PlanOptions,
)
from skyflowctl.planner.policy_text import mark_line, policy_fields, policy_mark
from skyflowctl.vault.access_api import NAMESPACE_ID, policy_path
from skyflowctl.vault.live import (
    LiveAccess,
    LiveLoginMethod,
    LiveMount,
    LivePolicy,
    LiveSecret,
)

LiveObject = LivePolicy | LiveLoginMethod | LiveMount | LiveSecret | Mapping[str, Any]
ADOPTED_POLICY = "skyflowctl.adopted."


@dataclass(slots=True)
class AccessPlan:
    """The plan for all of these objects; ``not_compared`` are the paths of those not read."""

    actions: list[Action] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    compared: int = 0
    not_compared: list[str] = field(default_factory=list)


def plan_access(
    manifest: Manifest,
    live: LiveAccess,
    desired: Sequence[DesiredObject],
    options: PlanOptions,
) -> AccessPlan:
    """Return the actions that make these objects match the manifest."""
    plan, live = AccessPlan(), quotas.after_moves(manifest, live)
    draft = _Draft(manifest, live, options, plan)
    planned = {one.path: one for one in desired if one.kind is ObjectKind.LOGIN_METHOD}
    signers = {one.path for one in manifest.engines if one.type == "pki"}
    for one in desired:
        if problem := unread(one, live):
            plan.not_compared.append(one.path)
            plan.warnings.append(problem)
            continue
        if problem := method_problem(one, live, planned) or quotas.conflict(one, live):
            plan.warnings.append(problem)
            continue
        plan.compared += 1
        found = _found(one, live)
        if found is None and (
            problem := certificate_problem(one)
            or signer_problem(one, live, signers)
            or (objects.nothing_to_keep(one.declared) if one.declared else None)
        ):
            plan.warnings.append(problem)
        elif found is None:
            if one.kind is ObjectKind.AUDIT_DEVICE:
                plan.warnings.append(audit_devices.by_configuration(one))
            changes = (*fields.all_new(one.fields), *_secrets(one, live, exists=False))
            body = _create_body(one, changes, live)
            plan.actions.append(
                Action(ActionType.CREATE, one.kind, "", one.path, changes, body, after=one.after)
            )
        elif action := _update(draft, one, found):
            plan.actions.append(action)
    plan.warnings += missing_policies(desired, live)
    return plan


def _found(one: DesiredObject, live: LiveAccess) -> LiveObject | None:
    """Return the live object; one that cannot be read exists once its secret was written."""
    if one.declared and not one.read_path_is_read:
        return {} if objects.written_version(one.declared, live) else None
    return live_object(one.kind, one.read_path, live)


def live_object(kind: ObjectKind, path: str, live: LiveAccess) -> LiveObject | None:
    """Return one live object, or None if it does not exist."""
    if kind is ObjectKind.POLICY:
        return live.policies.get(path.removeprefix(policy_path("")))
    if kind is ObjectKind.LOGIN_METHOD:
        return live.login_methods.get(path.removeprefix("sys/auth/"))
    if kind is ObjectKind.ENGINE:
        return live.engines.get(path.removeprefix("sys/mounts/"))
    if kind is ObjectKind.SECRET:
        return live.secrets.get(path)
    return live.objects.get(path)


def live_fields(found: LiveObject) -> dict[str, Any]:
    """Return an object's live fields, with the names of the desired ones."""
    if isinstance(found, LivePolicy):
        return policy_fields(found.text)
    if isinstance(found, LiveSecret):
        return dict(found.custom_metadata)
    if is_live_group(found):
        return live_group(found)
    if isinstance(found, LiveLoginMethod | LiveMount):
        names = ("managed_by", "manifest", "adopted", "version")
        options = {f"options.{name}": found.options.get(name) for name in names}
        ttls = found.ttls if isinstance(found, LiveMount) else {}
        return {"type": found.type, "description": found.description, **ttls, **options}
    return dict(found)


def owner_of(manifest_id: str, found: LiveObject) -> str | None:
    """Return the id of the manifest that made an object; None for this one, empty for none."""
    if isinstance(found, LivePolicy):
        owner, _ = policy_mark(found.text)
    elif (marks := _marks(found)) is not None:
        owner = str(marks.get("manifest", ""))
        if owner == manifest_id and marks.get("managed_by") != fields.MANAGED_BY:
            owner = ""  # half a mark permits nothing
    elif isinstance(found, Mapping) and found.get("type") == "rate-limit":
        return quotas.quota_owner(manifest_id, found)
    else:
        marked = [one for one in _token_policies(found) if one.startswith(OWNER_POLICY)]
        owners = [one.removeprefix(OWNER_POLICY) for one in marked]
        owner = manifest_id if manifest_id in owners else next(iter(owners), "")
    return None if owner == manifest_id else owner


def is_adopted(manifest_id: str, found: LiveObject) -> bool:
    """Whether this manifest took the object over instead of creating it."""
    if isinstance(found, LivePolicy):
        return policy_mark(found.text) == (manifest_id, True)
    if (marks := _marks(found)) is not None:
        return marks.get("adopted") == "true"
    return f"{ADOPTED_POLICY}{manifest_id}" in _token_policies(found)


def _token_policies(found: LiveObject) -> Sequence[str]:
    """Return the policies of a login, among which its marks are."""
    return (found.get("token_policies") or ()) if isinstance(found, Mapping) else ()


def _marks(found: LiveObject) -> Mapping[str, Any] | None:
    """Return the map in which an object carries its marks; None if its kind has no such map."""
    if isinstance(found, LiveLoginMethod | LiveMount):
        return found.options
    if isinstance(found, LiveSecret):
        return found.custom_metadata
    if is_live_group(found):
        return found["metadata"] or {}
    return found if isinstance(found, Mapping) and NAMESPACE_ID in found else None


def is_live_group(found: LiveObject) -> TypeGuard[Mapping[str, Any]]:
    """Whether an object is a group of people."""
    return isinstance(found, Mapping) and {"metadata", "alias", "policies"} <= found.keys()


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the plan is made from, and the plan so far."""

    manifest: Manifest
    live: LiveAccess
    options: PlanOptions
    plan: AccessPlan


def _update(draft: _Draft, one: DesiredObject, found: LiveObject) -> Action | None:
    if one.declared:
        return _update_object(draft, one, one.declared, found)
    manifest, plan = draft.manifest, draft.plan
    owner = owner_of(manifest.id, found)
    adopted = owner is not None or is_adopted(manifest.id, found)
    wanted = _marked_adopted(manifest.id, one) if adopted else one
    before = live_fields(found)
    gone = {name: None for name in before if name not in wanted.fields}
    after = {**wanted.fields, **(gone if one.kind is ObjectKind.POLICY else {})}
    changes = fields.differences(before, after)
    if not changes:
        return None
    if isinstance(found, LiveLoginMethod | LiveMount) and (other := _other_type(one, before)):
        plan.warnings.append(of_other_type(one, *other))
        return None
    fixed = [change for change in changes if change.field == "type"]
    if one.kind is ObjectKind.GROUP and fixed:
        plan.warnings.append(objects.cannot_change(one.path, fixed, one.where))
        return None
    if owner is not None:
        plan.warnings.append(_needs_adoption(draft, one, owner, changes))
    return Action(
        ActionType.UPDATE,
        one.kind,
        "",
        one.path,
        changes,
        _update_body(wanted, found, changes),
        after=one.after,
    )


def _update_object(
    draft: _Draft, one: DesiredObject, declared: DeclaredObject, found: LiveObject
) -> Action | None:
    """Return the update of an object that is read by its path alone."""
    answer = live_fields(found)
    if one.kind is ObjectKind.AUDIT_DEVICE:
        problem = audit_devices.differs_from_live(one, answer)
        draft.plan.warnings += [problem] if problem else []
        return None
    if declared.once:
        return None
    declared = objects.with_live_values(declared, answer)
    one = replace(one, fields={**one.fields, **declared.fields}, declared=declared)
    owner = _owner_of_object(draft.manifest.id, declared, found, draft.live)
    marked = one.kind in {ObjectKind.LOGIN_ROLE, ObjectKind.NAMESPACE}
    if marked and (owner is not None or is_adopted(draft.manifest.id, found)):
        one = _marked_adopted(draft.manifest.id, one)
        declared = one.declared or declared
    now = {name: objects.live_value(answer, name) for name in one.fields}
    changes = (*fields.differences(now, one.fields), *_secrets(one, draft.live, exists=True))
    if not changes:
        return None
    fixed = [change for change in changes if change.field in declared.fixed]
    hidden = [
        change.field
        for change in changes
        if change.field in one.fields
        and one.kind is not ObjectKind.NAMESPACE
        and not objects.is_readable(answer, change.field)
    ]
    if hidden:
        draft.plan.compared -= 1
        draft.plan.not_compared.append(one.path)
        draft.plan.warnings.append(
            objects.not_readable(one.path, hidden, declared.owner, one.where)
        )
        return None
    unchangeable = objects.cannot_change(one.path, fixed, one.where) if fixed else None
    if problem := unchangeable or objects.would_forget(declared):
        draft.plan.warnings.append(problem)
        return None
    if one.kind is ObjectKind.QUOTA and not quotas.has_path(one, answer):
        owner = ""
    if owner is not None:
        draft.plan.warnings.append(_needs_adoption(draft, one, owner, changes))
    body = objects.as_written(declared, changes, draft.live, exists=True)
    return Action(ActionType.UPDATE, one.kind, "", one.path, changes, body, after=one.after)


def _needs_adoption(
    draft: _Draft, one: DesiredObject, owner: str, changes: tuple[Change, ...]
) -> Problem:
    details = "".join(f"; {adoption.detail(change)}" for change in changes)
    if owner and one.kind is ObjectKind.LOGIN_METHOD:
        return adoption.shared(one.where, one.name, owner, draft.options)
    return adoption.problem(one.where, one.name, owner, details, draft.options)


def _owner_of_object(
    manifest_id: str, declared: DeclaredObject, found: LiveObject, live: LiveAccess
) -> str | None:
    """Return the owner as ``owner_of`` does; an object without a mark has its mount's.

    In a mount that was adopted, nobody knows who made an object, so it counts as nobody's.
    """
    if not declared.owner or declared.kind == ObjectKind.LOGIN_ROLE:
        return owner_of(manifest_id, found)
    mounted = live.mounted(declared.owner)
    if mounted is None:
        return ""
    owner = owner_of(manifest_id, mounted)
    return "" if owner is None and is_adopted(manifest_id, mounted) else owner


def _secrets(one: DesiredObject, live: LiveAccess, *, exists: bool) -> tuple[Change, ...]:
    return objects.secret_changes(one.declared, live, exists=exists) if one.declared else ()


def _create_body(
    one: DesiredObject, changes: tuple[Change, ...], live: LiveAccess
) -> Mapping[str, Any]:
    if one.kind is ObjectKind.AUDIT_DEVICE:
        return audit_devices.body_of(one)
    if one.declared:
        return objects.as_written(one.declared, changes, live, exists=False)
    return _with_cas(one, None)


def _update_body(
    wanted: DesiredObject, found: LiveObject, changes: tuple[Change, ...]
) -> Mapping[str, Any]:
    if isinstance(found, LiveLoginMethod | LiveMount):
        return fields.as_body(changes)
    return _with_cas(wanted, found)


def _with_cas(one: DesiredObject, found: LiveObject | None) -> Mapping[str, Any]:
    """Return the body with check-and-set where the server has it: for policies."""
    if one.kind is not ObjectKind.POLICY:
        return one.body
    if found is None:
        return {**one.body, "cas": -1}
    version = found.version if isinstance(found, LivePolicy) else 0
    return {**one.body, "cas": version} if version else one.body


def _marked_adopted(manifest_id: str, one: DesiredObject) -> DesiredObject:
    """Return the desired object with the mark that this manifest did not create it."""
    if one.kind is ObjectKind.POLICY:
        text = str(one.body["policy"]).partition("\n")[2]
        marked = f"{mark_line(manifest_id, adopted=True)}\n{text}"
        return replace(one, fields=policy_fields(marked), body={"policy": marked})
    if one.kind in {ObjectKind.LOGIN_METHOD, ObjectKind.ENGINE}:
        return replace(one, fields={**one.fields, "options.adopted": "true"})
    if one.kind is ObjectKind.GROUP:
        return replace(one, fields={**one.fields, "metadata.adopted": "true"})
    if one.kind is ObjectKind.NAMESPACE:
        wanted = {**one.fields, "adopted": "true"}
    else:
        policies = [*one.fields["token_policies"], f"{ADOPTED_POLICY}{manifest_id}"]
        wanted = {**one.fields, "token_policies": policies}
    declared = replace(one.declared, fields=wanted) if one.declared else None
    return replace(one, fields=wanted, body=wanted, declared=declared)


def not_searched(live: LiveAccess, desired: Sequence[DesiredObject]) -> list[Problem]:
    """Return a warning for each unread path at which a prune may have left something."""
    compared = {_unread_path(one, live) for one in desired}
    return [
        Problem(
            ACCESS_UNREADABLE,
            f"a prune could not look for objects at {path}: {cause.summary}",
            cause.why,
            cause.fix,
        )
        for path, cause in sorted(live.unread.items())
        if path not in compared
    ]


def _unread_path(one: DesiredObject, live: LiveAccess) -> str:
    if not live.unread:
        return ""
    path = one.read_path
    while path and path not in live.unread:
        path = path.rpartition("/")[0]
    return path


def unread(one: DesiredObject, live: LiveAccess) -> Problem | None:
    """Return why an object could not be read, or None."""
    path = _unread_path(one, live)
    if not path:
        return None
    cause = live.unread[path]
    return Problem(
        ACCESS_UNREADABLE,
        f"{one.name} was not compared: {cause.summary}",
        cause.why,
        cause.fix,
        one.where,
    )


def _other_type(one: DesiredObject, before: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return a live type or version that cannot be changed, and the desired one; None: they do
    not differ."""
    if before["type"] != one.fields["type"]:
        return f"type {before['type']!r}", str(one.fields["type"])
    version = "options.version"
    same = before[version] == one.fields.get(version, before[version])
    return None if same else (f"version {before[version] or 1}", str(one.fields[version]))
