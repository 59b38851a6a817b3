"""Policies, login methods, login roles, and secrets engines besides our mounts."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, TypeVar

from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.vault.audit_devices import AUDIT_DEVICES, audit_devices
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    NotMountedError,
    VaultError,
)
from skyflowctl.vault.kv import MERGE_PATCH, KvApi, is_kv2, secret_path
from skyflowctl.vault.live import (
    GROUP_PATHS,
    LOGIN_ROLES,
    NAMESPACE_PATHS,
    RATE_LIMITS,
    LiveAccess,
    LiveLoginMethod,
    LiveMount,
    LivePolicy,
    LiveSecret,
    login_role_path,
)
from skyflowctl.vault.namespace_contents import known_contents
from skyflowctl.vault.transport import Request, Transport

_T = TypeVar("_T")
_POLICIES = "sys/policies/acl"
_DETAILED = "sys/policies/detailed/acl"
NAMESPACE_ID = "namespace id"  # a key beside its metadata, whose names have no blank
_IGNORED = re.compile(r"ignored these unrecognized parameters: \[([^]]*)\]")
_NO_ISSUER = ("no default issuer currently configured", "unable to find PKI issuer for reference")
"""What a pki engine answers where it has no such issuer, with 400 or 500 (OpenBao 2.7.2)."""


@dataclass(frozen=True, slots=True)
class AccessNeeded:
    """What a plan reads besides its mounts.

    Args:
        policies: names of policies.
        login_methods: whether the list of login methods is read.
        objects: API paths of login roles and of other objects, each with the API path of the
            engine or login method that it belongs to, or nothing.
        everything: whether all policies, login roles, groups and namespaces are read, for a prune.
        quotas: whether every rate limit is read: two cannot have the same path.
        audit_devices: whether the audit devices are read, in one request.
        secrets: pairs of an engine's path and a secret's path below it.
        kv_engines: paths of engines of which all secrets are read, without their fields.
        namespaces: API paths of namespaces that may be deleted: what they contain is read.
    """

    policies: frozenset[str] = frozenset()
    login_methods: bool = False
    objects: Mapping[str, str] = field(default_factory=dict)
    everything: bool = False
    quotas: bool = False
    audit_devices: bool = False
    secrets: frozenset[tuple[str, str]] = frozenset()
    kv_engines: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()


def policy_path(name: str) -> str:
    """Return the API path of a policy."""
    return f"{_POLICIES}/{name}"


class AccessApi:
    """Typed calls for access. Every method raises :class:`skyflowctl.vault.errors.VaultError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.kv = KvApi(transport)

    def read(
        self, needed: AccessNeeded, parallelism: int, mounts: Mapping[str, LiveMount]
    ) -> LiveAccess:
        """Read what a plan needs: one list of policies, one of login methods, one request for each
        login role and other object, and two for each secret that exists.

        What this login may not read is in ``unread``. ``mounts`` are those of the server.
        """
        unread: dict[str, Problem] = {}
        policies: dict[str, LivePolicy] = {}
        methods: dict[str, LiveLoginMethod] = {}
        try:
            if needed.policies or needed.everything:
                policies = self._known_policies(needed)
        except ForbiddenError as error:
            unread[_POLICIES] = error.problems[0]
        try:
            if needed.login_methods or needed.everything:
                methods = self.login_methods()
        except ForbiddenError as error:
            unread["sys/auth"] = error.problems[0]
        objects: dict[str, Mapping[str, Any]] = {}
        secrets = self._listed_secrets(needed, unread)
        try:
            objects |= audit_devices(self._transport) if needed.audit_devices else {}
        except ForbiddenError as error:
            unread[AUDIT_DEVICES] = error.problems[0]
        with Workers(parallelism) as pool:
            wanted = self._objects_to_read(needed, methods, mounts, unread)
            found = pool.map(lambda path: self._or_error(self.object, path), wanted)
            for path, one in zip(wanted, found, strict=True):
                _sort_in(path, one, objects, unread)
            kept = sorted(pair for pair in needed.secrets if is_kv2(mounts.get(pair[0])))
            read = pool.map(lambda pair: self._or_error(self.kv.secret, *pair), kept)
            for pair, secret in zip(kept, read, strict=True):
                _sort_in(secret_path(*pair), secret, secrets, unread)
        contents = known_contents(self._transport, needed.namespaces & objects.keys())
        return LiveAccess(policies, methods, objects, unread, mounts, secrets, contents)

    def group_of_alias(self, name: str, accessor: str) -> Mapping[str, Any] | None:
        """Return the group with this name at the login method with this accessor, or None."""
        body = {"alias_name": name, "alias_mount_accessor": accessor}
        path = "identity/lookup/group"
        request = Request("POST", path, body=body, idempotent=True, fresh=True)
        return self._transport.send(request).data or None

    def _known_policies(self, needed: AccessNeeded) -> dict[str, LivePolicy]:
        """Return all policies, or those that are needed if the server has no list with texts."""
        found = self._all_policies() if needed.everything else self._detailed()
        if found is None:
            found = self._one_by_one(needed.policies)
        return {one.name: one for one in found}

    def _listed_secrets(
        self, needed: AccessNeeded, unread: dict[str, Problem]
    ) -> dict[str, LiveSecret]:
        """Return every secret of some engines; add those that cannot be listed to ``unread``."""
        found: dict[str, LiveSecret] = {}
        for engine in sorted(needed.kv_engines):
            try:
                found |= self.kv.secrets(engine)
            except ForbiddenError as error:
                unread[f"{engine}/metadata/"] = error.problems[0]
        return found

    def _objects_to_read(
        self,
        needed: AccessNeeded,
        methods: Mapping[str, LiveLoginMethod],
        mounts: Mapping[str, LiveMount],
        unread: dict[str, Problem],
    ) -> list[str]:
        """Return the path of each object to read: below a missing mount there is none."""
        there = {f"sys/auth/{name}" for name in methods} | {f"sys/mounts/{path}" for path in mounts}
        wanted = {
            path
            for path, owner in needed.objects.items()
            if not owner or owner in there or owner.rpartition("/")[0] in unread
        }
        if needed.quotas:
            wanted |= set(self._listed_quotas(unread))
        if needed.everything:
            wanted |= set(self._listed_login_roles(methods, unread))
            wanted |= self._listed_groups(unread)
            wanted |= set(self._listed_namespaces(unread))
        return sorted(wanted)

    def _listed_groups(self, unread: dict[str, Problem]) -> set[str]:
        try:
            return {f"{GROUP_PATHS}{name}" for name in self.names(GROUP_PATHS.rstrip("/"))}
        except ForbiddenError as error:
            unread[GROUP_PATHS] = error.problems[0]
            return set()

    def _listed_quotas(self, unread: dict[str, Problem]) -> list[str]:
        """Return the path of each quota; within a namespace there is none (OpenBao 2.7.2)."""
        try:
            return [f"{RATE_LIMITS}/{one}" for one in self.names(RATE_LIMITS)]
        except (BadRequestError, ForbiddenError) as error:
            if not error.says("only available in root namespace"):
                unread[RATE_LIMITS] = error.problems[0]
            return []

    def _listed_namespaces(self, unread: dict[str, Problem]) -> list[str]:
        """Return the path of each namespace; a server without namespaces has none."""
        try:
            return [
                f"{NAMESPACE_PATHS}{one.strip('/')}" for one in self.names(NAMESPACE_PATHS[:-1])
            ]
        except NotFoundError:
            return []
        except (BadRequestError, ForbiddenError) as error:
            unread[NAMESPACE_PATHS] = error.problems[0]
            return []

    def _listed_login_roles(
        self, methods: Mapping[str, LiveLoginMethod], unread: dict[str, Problem]
    ) -> list[str]:
        """Return the path of each login role; add the unlisted to ``unread``.

        The path of a list ends with a slash: a role that was read by its name is not unread.
        """
        found = []
        for name, method in methods.items():
            if method.type not in LOGIN_ROLES:
                continue
            try:
                names = self.login_role_names(name, method.type)
                found += [login_role_path(name, role, method.type) for role in names]
            except ForbiddenError as error:
                unread[login_role_path(name, "", method.type)] = error.problems[0]
        return found

    def read_marked(
        self,
        is_ours: Callable[[LivePolicy | Mapping[str, Any]], bool],
        parallelism: int,
    ) -> LiveAccess:
        """Read every login method, and the policies, login roles, groups, quotas and namespaces
        that are ours; a list of each, and one request for each of them but policies.

        What this login may not read is in ``unread``.
        """
        unread: dict[str, Problem] = {}
        policies: dict[str, LivePolicy] = {}
        methods: dict[str, LiveLoginMethod] = {}
        roles: dict[str, Mapping[str, Any]] = {}
        try:
            policies = {one.name: one for one in self._all_policies() if is_ours(one)}
            methods = self.login_methods()
        except ForbiddenError as error:
            unread[error.path] = error.problems[0]
        listed = [
            *self._listed_login_roles(methods, unread),
            *sorted(self._listed_groups(unread)),
            *self._listed_quotas(unread),
            *self._listed_namespaces(unread),
        ]
        for path, one in self.read_each(listed, parallelism).items():
            if isinstance(one, Problem) or (one and is_ours(one)):
                _sort_in(path, one, roles, unread)
        return LiveAccess(policies, methods, roles, unread)

    def read_each(
        self, paths: Sequence[str], parallelism: int
    ) -> dict[str, Mapping[str, Any] | Problem | None]:
        """Return what the server has at each path, nothing, or why it was not read; one request
        each."""
        with Workers(parallelism) as pool:
            found = pool.map(lambda path: self._or_error(self.object, path), paths)
        return dict(zip(paths, found, strict=True))

    def login_role_names(self, method: str, kind: str = "approle") -> list[str]:
        """Return the names of all login roles of a method of this type."""
        return self.names(f"auth/{method}/{LOGIN_ROLES[kind]}")

    def names(self, path: str) -> list[str]:
        """Return what a list has; nothing if it is empty."""
        try:
            reply = self._transport.send(Request("LIST", path, fresh=True))
        except NotFoundError as error:
            if error.empty:
                return []
            raise
        return [str(one) for one in (reply.data or {}).get("keys") or ()]

    def _or_error(self, read: Callable[..., _T | None], *parts: str) -> _T | Problem | None:
        try:
            return read(*parts)
        except (BadRequestError, ForbiddenError, NotFoundError) as error:
            return error.problems[0]

    def delete(self, path: str) -> None:
        """Delete an object; a missing one is no error."""
        self._transport.send(Request("DELETE", path, idempotent=True, fresh=True))

    def policies(self, names: Iterable[str]) -> dict[str, LivePolicy]:
        """Return those policies that exist; one request, or one each if the server has no list
        with texts."""
        wanted = set(names)
        found = self._detailed()
        if found is None:
            found = self._one_by_one(wanted)
        return {one.name: one for one in found if one.name in wanted}

    def _all_policies(self) -> list[LivePolicy]:
        found = self._detailed()
        if found is not None:
            return found
        reply = self._transport.send(Request("LIST", _POLICIES, fresh=True))
        return self._one_by_one(str(one) for one in (reply.data or {}).get("keys") or ())

    def _one_by_one(self, names: Iterable[str]) -> list[LivePolicy]:
        """Return those policies that exist, with one request each."""
        return [one for name in sorted(names) if (one := self.policy(name))]

    def _detailed(self) -> list[LivePolicy] | None:
        """Return every policy with its text, or None if the server has no such list."""
        try:
            reply = self._transport.send(Request("LIST", _DETAILED, fresh=True))
        except ForbiddenError:
            raise
        except VaultError as error:
            if isinstance(error, NotFoundError) or "unsupported" in str(error):
                return None
            raise
        info = (reply.data or {}).get("key_info") or {}
        return [_policy(name, raw) for name, raw in info.items()]

    def policy(self, name: str) -> LivePolicy | None:
        """Return one policy, or None if it does not exist."""
        try:
            reply = self._transport.send(Request("GET", policy_path(name), fresh=True))
        except NotFoundError:
            return None
        return _policy(name, reply.data or {})

    def login_methods(self) -> dict[str, LiveLoginMethod]:
        """Return every login method by name."""
        data = self._transport.send(Request("GET", "sys/auth", fresh=True)).data or {}
        return {
            path.strip("/"): _login_method(path.strip("/"), raw)
            for path, raw in data.items()
            if isinstance(raw, Mapping)
        }

    def object(self, path: str) -> Mapping[str, Any] | None:
        """Return what the server has at a path, or None if it or its mount does not exist."""
        try:
            found = self._transport.send(Request("GET", path, fresh=True)).data or {}
            if path.startswith(NAMESPACE_PATHS):
                return {**(found.get("custom_metadata") or {}), NAMESPACE_ID: found.get("id")}
            return _quota(found) if path.startswith(f"{RATE_LIMITS}/") else found
        except NotFoundError as error:
            if error.empty or isinstance(error, NotMountedError):
                return None
            raise
        except VaultError as error:
            if any(error.says(text) for text in _NO_ISSUER):
                return None
            raise

    def exchange(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write, and return what the server answers; sent again after a lost reply."""
        request = Request("POST", path, body=body, idempotent=True, fresh=True)
        return self._transport.send(request).data or {}

    def write_namespace(self, path: str, custom: Mapping[str, Any], *, new: bool) -> None:
        """Create a namespace, or add to its custom metadata and keep the rest of it."""
        body = {"custom_metadata": dict(custom)}
        headers = None if new else MERGE_PATCH
        method = "POST" if new else "PATCH"
        self._transport.send(
            Request(method, path, body=body, headers=headers, idempotent=True, fresh=True)
        )

    def write(self, path: str, body: Mapping[str, Any]) -> frozenset[str]:
        """Write an object; sent again after a lost reply.

        Returns:
            The fields that the server says it ignored. It is not always right: the database engine
            calls fields ignored that its plugin has taken (measured on OpenBao 2.7.2).
        """
        reply = self._transport.send(Request("POST", path, body=body, idempotent=True, fresh=True))
        found = (_IGNORED.search(text) for text in reply.warnings)
        return frozenset(name for one in found if one for name in one[1].split())


def _sort_in(
    path: str, found: _T | Problem | None, kept: dict[str, _T], unread: dict[str, Problem]
) -> None:
    if isinstance(found, Problem):
        unread[path] = found
    elif found is not None:
        kept[path] = found


def _quota(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a quota with its path as manifests have it: the server ends a mount's with a slash."""
    return {**raw, "path": str(raw.get("path") or "").strip("/")}


def _policy(name: str, raw: Mapping[str, Any]) -> LivePolicy:
    text = raw.get("policy") or raw.get("rules") or ""
    version = raw.get("version")
    return LivePolicy(name, str(text), version if isinstance(version, int) else 0)


def _login_method(name: str, raw: Mapping[str, Any]) -> LiveLoginMethod:
    options = raw.get("options") or {}
    return LiveLoginMethod(
        name,
        str(raw.get("type", "")),
        str(raw.get("description") or ""),
        {key: str(value) for key, value in options.items()},
        str(raw.get("accessor") or ""),
    )
