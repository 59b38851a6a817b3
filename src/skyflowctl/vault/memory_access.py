"""Policies, login methods and AppRole roles of the in-process server, as OpenBao answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skyflowctl.vault.audit_devices import AUDIT_DEVICES

SERVED_PATHS = (
    *("sys/policies/", "sys/auth", "auth/", "sys/quotas/", "sys/namespaces", "identity/"),
    AUDIT_DEVICES,
)
BUILT_IN_ENGINES = frozenset(
    {"database", "kubernetes", "kv", "pki", "rabbitmq", "ssh", "totp", "transit"}
)
"""The types of secrets engines that OpenBao 2.7 has built in."""

_ROLE_DEFAULTS: Mapping[str, Any] = {
    "bind_secret_id": True,
    "local_secret_ids": False,
    "secret_id_bound_cidrs": [],
    "secret_id_num_uses": 0,
    "secret_id_ttl": 0,
    "token_bound_cidrs": [],
    "token_explicit_max_ttl": 0,
    "token_max_ttl": 0,
    "token_no_default_policy": False,
    "token_num_uses": 0,
    "token_period": 0,
    "token_policies": [],
    "token_strictly_bind_ip": False,
    "token_ttl": 0,
    "token_type": "default",
}


_GROUP_DEFAULTS: Mapping[str, Any] = {
    "alias": {},
    "metadata": None,
    "policies": None,
    "type": "internal",
}


class HttpError(Exception):
    """A failed answer: status and the server's text."""

    def __init__(self, status: int, *texts: str) -> None:
        super().__init__(status)
        self.status = status
        self.texts = texts


@dataclass(slots=True)
class MemoryAccess:
    """The state: policies as text and version, login methods, and other objects by path."""

    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)

    def is_in_namespace(self, path: str) -> bool:
        """Whether a path is within one of the namespaces."""
        return f"sys/namespaces/{path.partition('/')[0]}" in self.objects

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the data of the answer; None for 204.

        Raises:
            HttpError: the request fails.
        """
        if path == "sys/policies/detailed/acl":
            return {"keys": sorted(self.policies), "key_info": self.policies}
        if path.startswith("sys/policies/acl/"):
            return self._policy(method, path.removeprefix("sys/policies/acl/").lower(), body)
        if path in ("sys/auth", AUDIT_DEVICES):
            return self._listed(path)
        if path.startswith("sys/auth/"):
            return self._method(method, path.removeprefix("sys/auth/"), body)
        if path in ("identity/lookup/group", "identity/group-alias"):
            return self._alias(path, body)
        return self._object(method, path, body)

    def _listed(self, path: str) -> Mapping[str, Any]:
        below = f"{path}/"
        devices = {key: one for key, one in self.objects.items() if key.startswith(below)}
        found = self.methods if path == "sys/auth" else devices
        return {f"{name.removeprefix(below)}/": entry for name, entry in found.items()}

    def _alias(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if path == "identity/group-alias":
            self._set_alias(body)
            return None
        wanted = (body["alias_name"], body["alias_mount_accessor"])
        for one in self.objects.values():
            alias = one.get("alias") or {}
            if (alias.get("name"), alias.get("mount_accessor")) == wanted:
                return one
        return None

    def _set_alias(self, body: Mapping[str, Any]) -> None:
        accessor = body["mount_accessor"]
        method = next(key for key, one in self.methods.items() if one.get("accessor") == accessor)
        group = next(one for one in self.objects.values() if one.get("id") == body["canonical_id"])
        group["alias"] = {**body, "mount_path": f"auth/{method}/"}

    def _policy(self, method: str, name: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = self.policies.get(name)
        if method == "GET":
            if found is None:
                raise HttpError(404)
            return found
        if method == "DELETE":
            self.policies.pop(name, None)
            return None
        version, wanted = (found or {}).get("version", 0), body.get("cas")
        if wanted is not None and max(int(wanted), 0) != version:
            raise HttpError(
                400,
                f"check-and-set parameter {wanted} did not match the current version {version}",
            )
        self.policies[name] = {"name": name, "policy": body["policy"], "version": version + 1}
        return None

    def _method(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        name = path.removesuffix("/tune")
        if method == "DELETE":
            self.methods.pop(name, None)
            for one in [one for one in self.objects if one.startswith(f"auth/{name}/")]:
                del self.objects[one]
            return None
        if path.endswith("/tune"):
            entry = self.methods[name]
            entry["description"] = body.get("description", entry["description"])
            entry["options"] = {**entry["options"], **(body.get("options") or {})}
            return None
        if name in self.methods:
            raise HttpError(400, f"path is already in use at {name}/")
        self.methods[name] = {
            "type": body["type"],
            "description": body.get("description", ""),
            "options": dict(body.get("options") or {}),
            "accessor": f"auth_{body['type']}_{name}",
        }
        return None

    def _namespace(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = self.objects.get(path, {}).get("custom_metadata", {}) if method == "PATCH" else {}
        custom = {**kept, **(body.get("custom_metadata") or {})}
        return {"id": f"id-of-{path}", "custom_metadata": custom}

    def _names(self, collection: str) -> Mapping[str, Any]:
        found = [path for path in self.objects if path.rpartition("/")[0] == collection]
        if not found:
            raise HttpError(404)
        return {"keys": sorted(path.rpartition("/")[2] for path in found)}

    def _object(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        mounted = next((one for one in self.methods if path.startswith(f"auth/{one}/")), "")
        if path.startswith("auth/") and not mounted:
            raise HttpError(404, f'no handler for route "{path}". route entry not found.')
        if method == "LIST":
            return self._names(path)
        if method == "DELETE":
            self.objects.pop(path, None)
            return None
        if method == "GET":
            if path not in self.objects:
                raise HttpError(404)
            return self.objects[path]
        done = _engine_write(self.objects, path, body) if not mounted else None
        if done is not None:
            return done
        if path.startswith("identity/group/name/"):
            made = {**_GROUP_DEFAULTS, "id": f"id-of-{path}"}
            self.objects[path] = {**made, **self.objects.get(path, {}), **body}
            return None
        approle = mounted and self.methods[mounted]["type"] == "approle"
        if path.startswith("sys/namespaces/"):
            body = self._namespace(method, path, body)
        known = {key: value for key, value in body.items() if not approle or key in _ROLE_DEFAULTS}
        defaults = _ROLE_DEFAULTS if approle else {}
        self.objects[path] = {**defaults, **self.objects.get(path, {}), **known}
        return None


_Objects = dict[str, dict[str, Any]]


def _engine_write(
    objects: _Objects, path: str, body: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Write as pki and transit engines do, whose parts have other paths; None if this is none."""
    engine, _, rest = path.partition("/root/generate/")
    if rest:
        return _issuer(objects, engine, body)
    engine, _, rest = path.partition("/intermediate/")
    if rest.startswith("generate/"):
        return {"csr": "a request"}
    if rest == "set-signed":
        return _issuer(objects, engine, body)
    if path.endswith("/root/sign-intermediate"):
        return {"certificate": "a certificate"}
    key, _, rest = path.rpartition("/")
    if rest == "config" and key in objects:
        objects[key] |= body
        return objects[key]
    return None


def _issuer(objects: _Objects, engine: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    named = str(body.get("issuer_name") or "default")
    for path in ("cert/ca", "issuer/default", f"issuer/{named}"):
        objects[f"{engine}/{path}"] = {"certificate": "a certificate"}
    return objects[f"{engine}/cert/ca"]
