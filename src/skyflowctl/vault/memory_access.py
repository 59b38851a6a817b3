"""Policies, login methods and AppRole roles of the in-process server, as OpenBao answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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


class RefusedAccess(Exception):  # noqa: N818 - the server turns it into its own answer
    """A failed answer: status and the server's text."""

    def __init__(self, status: int, *texts: str) -> None:
        super().__init__(status)
        self.status = status
        self.texts = texts


@dataclass(slots=True)
class MemoryAccess:
    """The state: policies as text and version, login methods, and login roles by path."""

    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    roles: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the data of the answer; None for 204.

        Raises:
            RefusedAccess: the request fails.
        """
        if path == "sys/policies/detailed/acl":
            return {"keys": sorted(self.policies), "key_info": self.policies}
        if path.startswith("sys/policies/acl/"):
            return self._policy(method, path.removeprefix("sys/policies/acl/").lower(), body)
        if path == "sys/auth":
            return {f"{name}/": entry for name, entry in self.methods.items()}
        if path.startswith("sys/auth/"):
            return self._method(method, path.removeprefix("sys/auth/"), body)
        return self._role(method, path.removeprefix("auth/"), body)

    def _policy(self, method: str, name: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = self.policies.get(name)
        if method == "GET":
            if found is None:
                raise RefusedAccess(404)
            return found
        if method == "DELETE":
            self.policies.pop(name, None)
            return None
        version, wanted = (found or {}).get("version", 0), body.get("cas")
        if wanted is not None and max(int(wanted), 0) != version:
            raise RefusedAccess(
                400,
                f"check-and-set parameter {wanted} did not match the current version {version}",
            )
        self.policies[name] = {"name": name, "policy": body["policy"], "version": version + 1}
        return None

    def _method(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        name = path.removesuffix("/tune")
        if method == "DELETE":
            self.methods.pop(name, None)
            self.roles.pop(name, None)
            return None
        if path.endswith("/tune"):
            entry = self.methods[name]
            entry["description"] = body.get("description", entry["description"])
            entry["options"] = {**entry["options"], **(body.get("options") or {})}
            return None
        if name in self.methods:
            raise RefusedAccess(400, f"path is already in use at {name}/")
        self.methods[name] = {
            "type": body["type"],
            "description": body.get("description", ""),
            "options": dict(body.get("options") or {}),
        }
        return None

    def _names(self, mounted: str) -> Mapping[str, Any]:
        if not self.roles.get(mounted):
            raise RefusedAccess(404)
        return {"keys": sorted(self.roles[mounted])}

    def _role(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if method == "LIST":
            return self._names(path.removesuffix("/role"))
        mounted, _, name = path.rpartition("/role/")
        if mounted not in self.methods:
            raise RefusedAccess(404, f'no handler for route "auth/{path}". route entry not found.')
        roles = self.roles.setdefault(mounted, {})
        if method in {"POST", "PUT"}:
            known = {key: value for key, value in body.items() if key in _ROLE_DEFAULTS}
            roles[name] = {**_ROLE_DEFAULTS, **roles.get(name, {}), **known}
            return None
        if method == "DELETE":
            roles.pop(name, None)
            return None
        if name not in roles:
            raise RefusedAccess(404)
        return roles[name]
