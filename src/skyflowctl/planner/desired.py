"""Builds the desired objects of a manifest besides its mounts, from engines to login roles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skyflowctl.errors import Where
from skyflowctl.frozen import dataclass
from skyflowctl.hcl import quoted
from skyflowctl.manifest.access import role_policy_name
from skyflowctl.manifest.model import (
    Consumer,
    DeclaredEngine,
    DeclaredGroup,
    DeclaredObject,
    DeclaredSecret,
    LoginMethod,
    Manifest,
    Role,
)
from skyflowctl.planner import fields
from skyflowctl.planner.groups import wanted_group
from skyflowctl.planner.plan import ObjectKind, PlanOptions
from skyflowctl.planner.policy_text import mark_line, policy_fields
from skyflowctl.vault.access_api import AccessNeeded, policy_path
from skyflowctl.vault.kv import secret_path
from skyflowctl.vault.live import GROUP_PATHS, login_role_parts, login_role_path

SIGN_PARAMETERS = ("data_tokens", "ttl")
"""What a request to sign may have besides a ctx."""

OWNER_POLICY = "skyflowctl.owner."
"""A login role with this policy name (which no policy has) belongs to that manifest."""


_NEED_METHODS = frozenset(
    {
        ObjectKind.LOGIN_METHOD,
        ObjectKind.LOGIN_CONFIG,
        ObjectKind.LOGIN_ROLE,
        ObjectKind.GROUP,
    }
)


@dataclass(frozen=True, slots=True)
class DesiredObject:
    """One object of the manifest besides the mounts.

    Args:
        kind: its kind.
        path: the API path that creates it.
        fields: the desired fields, as they are compared and shown.
        body: the fields to send to create it.
        where: its position in the manifest.
        after: the paths of actions that must be done before it is written.
        declared: for an object that is read and written by its path alone.
    """

    kind: ObjectKind
    path: str
    fields: Mapping[str, Any]
    body: Mapping[str, Any]
    where: Where
    after: tuple[str, ...] = ()
    declared: DeclaredObject | None = None

    @property
    def read_path(self) -> str:
        """The API path that tells whether it exists."""
        return self.declared.read_path if self.declared else self.path

    @property
    def read_path_is_read(self) -> bool:
        """Whether it is read: there is something to compare, or to find."""
        return self.declared is None or bool(self.fields or self.declared.once)

    @property
    def name(self) -> str:
        """The path as messages and ``--adopt`` have it: an engine's own."""
        return self.path.removeprefix("sys/mounts/")


def role_policy(mount_path: str, role: Role) -> str:
    """Return the text of the policy that allows to use one role and nothing else.

    Update of creds is for callers that send the ctx in a body. The server checks the ctx rule
    too (measured on OpenBao 2.7.2: two ctx, another parameter and an object are denied).
    """
    rules = [_rule(f"{mount_path}/creds/{role.name}", '"read", "update"', role, ())]
    if role.sign:
        rules.append(_rule(f"{mount_path}/sign/{role.name}", '"update"', role, SIGN_PARAMETERS))
    return "".join(rules)


def _rule(path: str, capabilities: str, role: Role, parameters: Sequence[str]) -> str:
    """Return the rule of one path: the role's ctx rule, and what else a request may have."""
    lines = [f'path "{path}" {{', f"  capabilities = [{capabilities}]"]
    if role.ctx.required:
        lines.append('  required_parameters = ["ctx"]')
    if role.ctx.required or role.ctx.pattern:
        allowed = {"ctx": quoted(role.ctx.pattern) if role.ctx.pattern else ""}
        allowed |= dict.fromkeys(parameters, "")
        values = "".join(f'    "{name}" = [{value}]\n' for name, value in allowed.items())
        lines.append(f"  allowed_parameters = {{\n{values}  }}")
    return "\n".join((*lines, "}", ""))


def desired_access(manifest: Manifest, options: PlanOptions) -> tuple[DesiredObject, ...]:
    """Return the objects of a plan: engines, secrets, policies, login methods, login roles.

    With chosen mounts, only what their consumers need.
    """
    only = options.only
    consumers = [
        one
        for one in manifest.consumers
        if only is None or any(mount in only for mount, _ in one.grants)
    ]
    used = {one.method for one in consumers}
    paths = {mount.name: mount.path for mount in manifest.mounts}
    return (
        *(_engine(manifest, one) for one in manifest.engines if only is None),
        *(_secret(manifest, *pair) for pair in _secrets(manifest) if only is None),
        *_declared_policies(manifest, only),
        *_role_policies(manifest, consumers, only),
        *_login_methods(manifest, None if only is None else used),
        *(_object(manifest, one) for one in manifest.objects if only is None or _serves(one, used)),
        *(_login_role(manifest, one, paths) for one in consumers),
        *(_group(manifest, one) for one in manifest.groups if only is None),
    )


def _serves(one: DeclaredObject, methods: set[str]) -> bool:
    """Whether an object is the config of one of these login methods."""
    return one.kind == ObjectKind.LOGIN_CONFIG and one.owner.removeprefix("sys/auth/") in methods


def _object(manifest: Manifest, one: DeclaredObject) -> DesiredObject:
    after = (one.owner, *one.after) if one.owner else one.after
    if one.kind == ObjectKind.LOGIN_ROLE:
        policies = one.fields["token_policies"]
        after = (*after, *(policy_path(name) for name in policies))
        marked = [*policies, f"{OWNER_POLICY}{manifest.id}"]
        one = replace(one, fields={**one.fields, "token_policies": marked})
    wanted = {**one.fixed, **one.fields}
    return DesiredObject(ObjectKind(one.kind), one.path, wanted, wanted, one.where, after, one)


def _group(manifest: Manifest, one: DeclaredGroup) -> DesiredObject:
    wanted = wanted_group(manifest, one)
    method = (f"sys/auth/{one.alias[0]}",) if one.alias else ()
    after = (*method, *(policy_path(name) for name in one.policies))
    return DesiredObject(
        ObjectKind.GROUP, f"{GROUP_PATHS}{one.name}", wanted, wanted, one.where, after
    )


def paths_of_mounts(manifest: Manifest, names: frozenset[str]) -> frozenset[str]:
    """Return the paths of the policies of these mounts' roles, and of the mounts themselves."""
    paths = [
        path
        for mount in manifest.mounts
        if mount.name in names
        for path in (
            f"sys/mounts/{mount.path}",
            *(policy_path(role_policy_name(mount.path, role.name)) for role in mount.roles),
        )
    ]
    return frozenset(paths)


def granted_policies(one: DesiredObject) -> list[str]:
    """Return the names of a login's or group's policies, without generated ones and our marks."""
    field = {ObjectKind.LOGIN_ROLE: "token_policies", ObjectKind.GROUP: "policies"}.get(one.kind)
    found = one.fields.get(field, ()) if field else ()
    return [name for name in found if not name.startswith(("skyflow.", "skyflowctl."))]


def access_needed(desired: Iterable[DesiredObject], *, everything: bool = False) -> AccessNeeded:
    """Return what must be read for these objects; ``everything``: also what a prune deletes."""
    names: dict[ObjectKind, set[str]] = {}
    objects: dict[str, str] = {}
    secrets = set()
    for one in desired:
        names.setdefault(one.kind, set()).add(one.path.rpartition("/")[2])
        if one.kind is ObjectKind.SECRET:
            secrets.add((one.body["engine"], one.body["path"]))
        if one.kind is ObjectKind.LOGIN_ROLE:
            objects[one.path] = f"sys/auth/{login_role_parts(one.path)[0]}"
        if one.kind is ObjectKind.GROUP:
            objects[one.path] = ""
        if one.declared and one.read_path_is_read and one.kind is not ObjectKind.AUDIT_DEVICE:
            objects[one.read_path] = one.declared.owner
        names.setdefault(ObjectKind.POLICY, set()).update(granted_policies(one))
    return AccessNeeded(
        policies=frozenset(names.get(ObjectKind.POLICY, ())),
        login_methods=bool(names.keys() & _NEED_METHODS),
        objects=objects,
        audit_devices=ObjectKind.AUDIT_DEVICE in names,
        quotas=everything or ObjectKind.QUOTA in names,
        secrets=frozenset(secrets),
        everything=everything,
    )


def _engine(manifest: Manifest, one: DeclaredEngine) -> DesiredObject:
    version = {"version": "2"} if one.type == "kv" else {}
    options = {**version, "managed_by": fields.MANAGED_BY, "manifest": manifest.id}
    mounted = _mounted(ObjectKind.ENGINE, f"sys/mounts/{one.path}", one, options)
    config = {"config": dict(one.ttls)} if one.ttls else {}
    return replace(mounted, fields={**mounted.fields, **one.ttls}, body={**mounted.body, **config})


def _secrets(manifest: Manifest) -> Iterator[tuple[DeclaredEngine, DeclaredSecret]]:
    for engine in manifest.engines:
        for secret in engine.secrets:
            yield engine, secret


def _secret(manifest: Manifest, engine: DeclaredEngine, one: DeclaredSecret) -> DesiredObject:
    marks = {"managed_by": fields.MANAGED_BY, "manifest": manifest.id}
    body = {"engine": engine.path, "path": one.path, "secret": one}
    after = (f"sys/mounts/{engine.path}",)
    path = secret_path(engine.path, one.path)
    return DesiredObject(ObjectKind.SECRET, path, marks, body, one.where, after)


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
                after = _grant_paths(mount.path, role.name)
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
            yield _mounted(ObjectKind.LOGIN_METHOD, f"sys/auth/{one.name}", one, options)


def _mounted(
    kind: ObjectKind, path: str, one: LoginMethod | DeclaredEngine, options: Mapping[str, str]
) -> DesiredObject:
    wanted = {
        "type": one.type,
        "description": one.description,
        **{f"options.{key}": value for key, value in options.items()},
    }
    body = {"type": one.type, "description": one.description, "options": options}
    return DesiredObject(kind, path, wanted, body, one.where)


def _grant_paths(mount_path: str, role: str) -> tuple[str, str]:
    """Return the paths of the actions without which there is no such role."""
    return f"sys/mounts/{mount_path}", f"{mount_path}/roles/{role}"


def _login_role(manifest: Manifest, consumer: Consumer, paths: Mapping[str, str]) -> DesiredObject:
    policies = [role_policy_name(paths[mount], role) for mount, role in consumer.grants]
    policies += consumer.policies
    wanted = {
        **consumer.settings,
        "token_policies": [*dict.fromkeys(policies), f"{OWNER_POLICY}{manifest.id}"],
    }
    after = (
        f"sys/auth/{consumer.method}",
        *(policy_path(name) for name in policies),
        *(path for mount, role in consumer.grants for path in _grant_paths(paths[mount], role)),
    )
    path = login_role_path(consumer.method, consumer.name, consumer.type)
    return DesiredObject(ObjectKind.LOGIN_ROLE, path, wanted, wanted, consumer.where, after)
