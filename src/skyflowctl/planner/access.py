"""Plans policies, login methods and the logins of consumers: pure, like the rest of the plan."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.access import role_policy_name
from skyflowctl.manifest.model import Consumer, Manifest, Role
from skyflowctl.planner import adoption, fields
from skyflowctl.planner.plan import (
    ACCESS_UNREADABLE,
    Action,
    ActionType,
    Change,
    ObjectKind,
    PlanOptions,
)
from skyflowctl.planner.policy_text import mark_line, policy_fields, policy_mark
from skyflowctl.vault.access_api import AccessNeeded, login_role_path, policy_path
from skyflowctl.vault.live import LiveAccess, LiveLoginMethod, LivePolicy

OWNER_POLICY = "skyflowctl.owner."
"""A login role with this policy name (which no policy has) belongs to that manifest."""

ADOPTED_POLICY = "skyflowctl.adopted."


@dataclass(frozen=True, slots=True)
class DesiredObject:
    """One policy, login method or login role of the manifest.

    Args:
        kind: its kind.
        path: the API path that creates it.
        fields: the desired fields, as they are compared and shown.
        body: the fields to send to create it.
        where: its position in the manifest.
        after: the paths of actions that must be done before it is written.
    """

    kind: ObjectKind
    path: str
    fields: Mapping[str, Any]
    body: Mapping[str, Any]
    where: Where
    after: tuple[str, ...] = ()


@dataclass(slots=True)
class AccessPlan:
    """The plan for all of these objects; ``not_compared`` counts those that were not read."""

    actions: list[Action] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    compared: int = 0
    not_compared: int = 0


def role_policy(mount_path: str, role: Role) -> str:
    """Return the text of the policy that allows to read one role's tokens and nothing else.

    Update is for callers that send the ctx in a body. The server checks the ctx rule too
    (measured on OpenBao 2.7.2: two ctx, another parameter and an object are denied).
    """
    lines = [f'path "{mount_path}/creds/{role.name}" {{', '  capabilities = ["read", "update"]']
    if role.ctx.required:
        lines.append('  required_parameters = ["ctx"]')
    if role.ctx.required or role.ctx.pattern:
        values = f'"{_escaped(role.ctx.pattern)}"' if role.ctx.pattern else ""
        lines.append(f'  allowed_parameters = {{\n    "ctx" = [{values}]\n  }}')
    return "\n".join((*lines, "}", ""))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def desired_access(manifest: Manifest, options: PlanOptions) -> tuple[DesiredObject, ...]:
    """Return the objects of a plan: policies, login methods, then login roles.

    With chosen mounts, only what their consumers need.
    """
    only = options.only
    consumers = [
        one
        for one in manifest.consumers
        if only is None or any(mount in only for mount, _ in one.grants)
    ]
    used = {one.method for one in consumers}
    return (
        *_declared_policies(manifest, only),
        *_role_policies(manifest, consumers, only),
        *_login_methods(manifest, None if only is None else used),
        *(_login_role(manifest, one) for one in consumers),
    )


def access_needed(desired: Iterable[DesiredObject]) -> AccessNeeded:
    """Return what must be read for these objects."""
    names: dict[ObjectKind, set[str]] = {}
    roles: dict[str, set[str]] = {}
    for one in desired:
        names.setdefault(one.kind, set()).add(one.path.rpartition("/")[2])
        if one.kind is ObjectKind.LOGIN_ROLE:
            method, _, name = one.path.removeprefix("auth/").rpartition("/role/")
            roles.setdefault(method, set()).add(name)
    return AccessNeeded(
        policies=frozenset(names.get(ObjectKind.POLICY, ())),
        login_methods=bool(names.keys() & {ObjectKind.LOGIN_METHOD, ObjectKind.LOGIN_ROLE}),
        login_roles={method: frozenset(found) for method, found in roles.items()},
    )


def _declared_policies(manifest: Manifest, only: frozenset[str] | None) -> Iterator[DesiredObject]:
    if only is None:
        for one in manifest.policies:
            yield _policy(manifest, one.name, one.text, one.where)


def _role_policies(
    manifest: Manifest, consumers: Iterable[Consumer], only: frozenset[str] | None
) -> Iterator[DesiredObject]:
    """Yield the policy of each role that has a consumer, in the manifest's order."""
    granted = {grant for one in consumers for grant in one.grants}
    for mount in manifest.mounts:
        for role in mount.roles:
            if (mount.name, role.name) in granted and (only is None or mount.name in only):
                name, text = role_policy_name(mount.path, role.name), role_policy(mount.path, role)
                after = (f"sys/mounts/{mount.path}",)
                yield _policy(manifest, name, text, role.where, after)


def _policy(
    manifest: Manifest, name: str, text: str, where: Where, after: tuple[str, ...] = ()
) -> DesiredObject:
    marked = f"{mark_line(manifest.id)}\n{text}"
    wanted = policy_fields(marked)
    return DesiredObject(
        ObjectKind.POLICY, policy_path(name), wanted, {"policy": marked}, where, after
    )


def _login_methods(manifest: Manifest, used: set[str] | None) -> Iterator[DesiredObject]:
    for one in manifest.login_methods:
        if used is None or one.name in used:
            options = {"managed_by": fields.MANAGED_BY, "manifest": manifest.id}
            wanted = {
                "type": one.type,
                "description": one.description,
                **{f"options.{key}": value for key, value in options.items()},
            }
            body = {"type": one.type, "description": one.description, "options": options}
            yield DesiredObject(
                ObjectKind.LOGIN_METHOD, f"sys/auth/{one.name}", wanted, body, one.where
            )


def _login_role(manifest: Manifest, consumer: Consumer) -> DesiredObject:
    paths = {mount.name: mount.path for mount in manifest.mounts}
    policies = [role_policy_name(paths[mount], role) for mount, role in consumer.grants]
    wanted = {
        **consumer.settings,
        "token_policies": [*dict.fromkeys(policies), f"{OWNER_POLICY}{manifest.id}"],
    }
    after = (f"sys/auth/{consumer.method}", *(policy_path(name) for name in policies))
    path = login_role_path(consumer.method, consumer.name)
    return DesiredObject(ObjectKind.LOGIN_ROLE, path, wanted, wanted, consumer.where, after)


def plan_access(
    manifest: Manifest,
    live: LiveAccess,
    desired: Sequence[DesiredObject],
    options: PlanOptions,
) -> AccessPlan:
    """Return the actions that make these objects match the manifest."""
    plan = AccessPlan()
    planned = {one.path for one in desired if one.kind is ObjectKind.LOGIN_METHOD}
    for one in desired:
        if problem := _unread(one, live):
            plan.not_compared += 1
            plan.warnings.append(problem)
            continue
        if problem := _method_problem(one, live, planned):
            plan.warnings.append(problem)
            continue
        plan.compared += 1
        found = live_object(one.kind, one.path, live)
        if found is None:
            changes = fields.all_new(one.fields)
            body = _with_cas(one, None)
            plan.actions.append(
                Action(ActionType.CREATE, one.kind, "", one.path, changes, body, after=one.after)
            )
        elif action := _update(manifest, one, found, options, plan):
            plan.actions.append(action)
    return plan


LiveObject = LivePolicy | LiveLoginMethod | Mapping[str, Any]


def live_object(kind: ObjectKind, path: str, live: LiveAccess) -> LiveObject | None:
    """Return one live object, or None if it does not exist."""
    if kind is ObjectKind.POLICY:
        return live.policies.get(path.removeprefix(policy_path("")))
    if kind is ObjectKind.LOGIN_METHOD:
        return live.login_methods.get(path.removeprefix("sys/auth/"))
    return live.login_roles.get(path)


def live_fields(found: LiveObject) -> dict[str, Any]:
    """Return an object's live fields, with the names of the desired ones."""
    if isinstance(found, LivePolicy):
        return policy_fields(found.text)
    if isinstance(found, LiveLoginMethod):
        names = ("managed_by", "manifest", "adopted")
        options = {f"options.{name}": found.options.get(name) for name in names}
        return {"type": found.type, "description": found.description, **options}
    return dict(found)


def owner_of(manifest_id: str, found: LiveObject) -> str | None:
    """Return the id of the manifest that made an object; None for this one, empty for none."""
    if isinstance(found, LivePolicy):
        owner, _ = policy_mark(found.text)
    elif isinstance(found, LiveLoginMethod):
        owner = found.options.get("manifest", "")
    else:
        marks = [one for one in found.get("token_policies") or () if one.startswith(OWNER_POLICY)]
        owners = [mark.removeprefix(OWNER_POLICY) for mark in marks]
        owner = manifest_id if manifest_id in owners else next(iter(owners), "")
    return None if owner == manifest_id else owner


def is_adopted(manifest_id: str, found: LiveObject) -> bool:
    """Whether this manifest took the object over instead of creating it."""
    if isinstance(found, LivePolicy):
        return policy_mark(found.text) == (manifest_id, True)
    if isinstance(found, LiveLoginMethod):
        return found.options.get("adopted") == "true"
    return f"{ADOPTED_POLICY}{manifest_id}" in (found.get("token_policies") or ())


def _update(
    manifest: Manifest,
    one: DesiredObject,
    found: LiveObject,
    options: PlanOptions,
    plan: AccessPlan,
) -> Action | None:
    owner = owner_of(manifest.id, found)
    adopted = owner is not None or is_adopted(manifest.id, found)
    wanted = _marked_adopted(manifest.id, one) if adopted else one
    before = live_fields(found)
    gone = {name: None for name in before if name not in wanted.fields}
    after = {**wanted.fields, **(gone if one.kind is ObjectKind.POLICY else {})}
    changes = fields.differences(before, after)
    if not changes:
        return None
    if one.kind is ObjectKind.LOGIN_METHOD and before["type"] != one.fields["type"]:
        plan.warnings.append(_type_differs(one, str(before["type"])))
        return None
    if owner is not None:
        details = "".join(f"; {adoption.detail(change)}" for change in changes)
        plan.warnings.append(adoption.problem(one.where, one.path, owner, details, options))
    return Action(
        ActionType.UPDATE,
        one.kind,
        "",
        one.path,
        changes,
        _update_body(wanted, found, changes),
        after=one.after,
    )


def _update_body(
    wanted: DesiredObject, found: LiveObject, changes: tuple[Change, ...]
) -> Mapping[str, Any]:
    if isinstance(found, LiveLoginMethod):
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
        return DesiredObject(
            one.kind, one.path, policy_fields(marked), {"policy": marked}, one.where, one.after
        )
    if one.kind is ObjectKind.LOGIN_METHOD:
        wanted = {**one.fields, "options.adopted": "true"}
        return DesiredObject(one.kind, one.path, wanted, one.body, one.where, one.after)
    policies = [*one.fields["token_policies"], f"{ADOPTED_POLICY}{manifest_id}"]
    wanted = {**one.fields, "token_policies": policies}
    return DesiredObject(one.kind, one.path, wanted, wanted, one.where, one.after)


def _unread(one: DesiredObject, live: LiveAccess) -> Problem | None:
    """Return why an object could not be read, or None."""
    path = next((path for path in live.unread if one.path.startswith(path)), "")
    if not path:
        return None
    cause = live.unread[path]
    return Problem(
        ACCESS_UNREADABLE,
        f"{one.path} was not compared: {cause.summary}",
        cause.why,
        cause.fix,
        one.where,
    )


def _method_problem(one: DesiredObject, live: LiveAccess, planned: set[str]) -> Problem | None:
    """Return why a login role has no usable login method, or None."""
    if one.kind is not ObjectKind.LOGIN_ROLE or "sys/auth" in live.unread:
        return None
    method = one.path.removeprefix("auth/").rpartition("/role/")[0]
    found = live.login_methods.get(method)
    if found is None and f"sys/auth/{method}" not in planned:
        return Problem(
            "login-method-missing",
            f"{one.path} cannot be written: the server has no login method {method}",
            "the manifest declares none either",
            f"add it to the manifest:  auth: {{{method}: {{}}}}",
            one.where,
        )
    if found is not None and found.type != method:
        return _type_differs(one, found.type)
    return None


def _type_differs(one: DesiredObject, live: str) -> Problem:
    return Problem(
        "type-differs",
        f"{one.path} cannot be written: the login method there is of type {live!r}",
        "a login method's type cannot be changed in place",
        "use another name in the manifest, or move the other login method away",
        one.where,
    )
