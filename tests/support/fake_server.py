"""A server small enough to see through: mounts, roles and configs in dictionaries.

It answers what the executor and the operations ask, with check-and-set, and fails where a
test says so. The engine's rules are not here; ``MemoryTransport`` has the real engine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.memory_access import HttpError, MemoryAccess
from skyflowctl.vault.transport import Reply, Request, make_reply
from support.transports import FakeTransport


class FakeServer(FakeTransport):
    """A transport. ``log`` is every request as (method, path, body); ``hook`` may raise."""

    def __init__(self) -> None:
        self.mounts: dict[str, dict[str, Any]] = {}
        self.headers: dict[str, dict[str, bool]] = {}
        self.roles: dict[str, dict[str, dict[str, Any]]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.proofs: dict[str, dict[str, dict[str, Any]]] = {}
        self.health: dict[str, Mapping[str, Any] | VaultError] = {}
        self.nodes: list[dict[str, Any]] | VaultError | None = None
        self.server_health: dict[str, Any] | VaultError = {"initialized": True, "sealed": False}
        self.access = MemoryAccess()
        self.has_history = True
        self.rights = ["root"]
        self.unregistered: set[str] = set()
        self.catalog: list[dict[str, Any]] = []
        self.params: dict[str, list[Mapping[str, str]]] = {}
        self.log: list[tuple[str, str, Mapping[str, Any] | None]] = []
        self.hook: Callable[[str, str], None] = lambda method, path: None
        self.after: Callable[[str, str], None] = lambda method, path: None
        self.requests_made = 0
        self.cluster_id = "fake"
        self._lock = threading.Lock()

    def writes(self) -> list[tuple[str, str]]:
        """The writes so far, as (method, path)."""
        return [
            (method, path)
            for method, path, _ in self.log
            if method not in ("GET", "LIST")
            and path != "sys/capabilities-self"
            and not path.endswith("/config/verify")
        ]

    def send(self, request: Request) -> Reply:
        """One request; see Transport."""
        method, path, body = request.method, request.path, request.body
        with self._lock:
            self.requests_made += 1
            number = self.requests_made
            self.log.append((method, path, body))
            self.params.setdefault(path, []).append(request.params or {})
        self.hook(method, path)
        with self._lock:
            status, data = self._answer(method, path, dict(body or {}))
        self.after(method, path)
        if path == "sys/health":
            return make_reply(status, data, {})
        if status >= 300:
            texts = (str(data["error"]),) if data and "error" in data else ()
            raise error_for(status, texts, method=method, path=path, request_id=f"r{number}")
        return make_reply(status, {"data": data, "request_id": f"r{number}"}, {})

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "auth/token/lookup-self":
            return 200, {"entity_id": "operator", "policies": ["operator"]}
        if path.startswith(
            ("sys/policies/", "sys/auth", "auth/", "identity/", "sys/quotas/", "sys/namespaces")
        ):
            try:
                return 200, self.access.answer(method, path, body)
            except HttpError as refused:
                return refused.status, {"error": refused.texts[0]} if refused.texts else None
        if path.startswith("sys/"):
            return self._sys(method, path.removeprefix("sys/"), body)
        mount = next((m for m in self.mounts if path.startswith(f"{m}/")), None)
        if mount is None:
            return 404, {"error": f'no handler for route "{path}"'}
        return self._engine(method, mount, path.removeprefix(f"{mount}/"), body)

    def _sys(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "mounts":
            return 200, {f"{name}/": entry for name, entry in self.mounts.items()}
        if path.startswith("mounts/"):
            return self._mount(method, path.removeprefix("mounts/"), body)
        if path == "config/auditing/request-headers":
            return 200, {"headers": self.headers}
        if path.startswith("config/auditing/request-headers/"):
            self.headers[path.rpartition("/")[2]] = {"hmac": body["hmac"]}
            return 204, None
        if path == "capabilities-self":
            return 200, dict.fromkeys(body["paths"], self.rights)
        if path == "plugins/reload/backend":
            for name in body["mounts"]:
                entry = self.mounts[name.rstrip("/")]
                entry["running_plugin_version"] = entry["plugin_version"]
            return 200, {}
        if path == "plugins/catalog":
            return 200, {"detailed": self.catalog}
        if path.startswith("plugins/catalog/secret/"):
            version = self.params[f"sys/{path}"][-1].get("version", "")
            name = path.rpartition("/")[2]
            known = version not in self.unregistered
            return (200, {"name": name, "version": version}) if known else (404, None)
        if path == "health":
            if isinstance(self.server_health, VaultError):
                raise self.server_health
            return 200, self.server_health
        if path == "internal/ui/mounts":
            return 200, {}
        if path == "ha-status":
            if isinstance(self.nodes, VaultError):
                raise self.nodes
            return 200, {"nodes": self.nodes}
        raise AssertionError(f"nobody taught the fake server {method} {path}")

    def _mount(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = path.removesuffix("/tune")
        if method == "GET":
            entry = self.mounts.get(name)
            return (200, entry) if entry else (400, {"error": "No secret engine mount at " + name})
        if path == name:
            if name in self.mounts:
                return 400, {"error": f"path is already in use at {name}/"}
            version = body.get("config", {}).get("plugin_version", "")
            entry = {"plugin_version": version, "running_plugin_version": version}
            self.mounts[name] = {**body, **entry}
            self.roles[name], self.configs[name] = {}, {}
            return 204, None
        entry = self.mounts[name]
        entry["options"] = {**(entry.get("options") or {}), **body.pop("options", {})}
        for field in ("description", "plugin_version"):
            if field in body:
                entry[field] = body.pop(field)
        entry["config"] = {**entry.get("config", {}), **body}
        return 204, None

    def _engine(self, method: str, mount: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "config":
            return self._config(method, mount, body)
        if path == "config/verify":
            proof = {"ok": True, "status": 200, "message": "", "request_id": "t"}
            roles = {**dict.fromkeys(self.roles[mount], proof), **self.proofs.get(mount, {})}
            return 200, {"key_id": "k", "roles": roles}
        if path == "config/history":
            return self._history(mount)
        if path == "roles":
            roles = self.roles[mount]
            return (200, {"keys": list(roles), "key_info": roles}) if roles else (404, None)
        if path.startswith("roles/"):
            return self._role(method, mount, path.removeprefix("roles/"), body)
        if path == "health":
            answer = self.health.get(
                mount, {"healthy": True, "key_id": "k", "token_service": {"reachable": True}}
            )
            if isinstance(answer, VaultError):
                raise answer
            return 200, answer
        raise AssertionError(f"nobody taught the fake engine {method} {path}")

    def _history(self, mount: str) -> tuple[int, Any]:
        if not self.has_history:
            return 404, {"error": "unsupported path"}
        known = self.configs[mount].get("history", {})
        info = {str(version): {"key_id": key} for version, key in known.items()}
        return 200, {"keys": list(info), "key_info": info}

    def _role(self, method: str, mount: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        old = self.roles[mount].get(name)
        if method == "GET":
            return (200, old) if old else (404, None)
        version = old["version"] if old else 0
        if body.pop("cas", version) != version:
            return 409, {"error": "cas"}
        self.roles[mount][name] = {**(old or {}), **body, "version": version + 1}
        return 200, {"version": version + 1}

    def _config(self, method: str, mount: str, body: dict[str, Any]) -> tuple[int, Any]:
        old = self.configs[mount]
        if method == "GET":
            shown = {name: value for name, value in old.items() if name != "history"}
            return 200, {"credentials_configured": False, "credential_version": 0, **shown}
        version = old.get("version", 0)
        if method == "DELETE":
            kept = {name: old[name] for name in ("credential_version", "history")}
            self.configs[mount] = {**kept, "version": version + 1}
            return 200, {"version": version + 1}
        if body.pop("cas", version) != version:
            return 409, {"error": "cas"}
        new = {**old, **body, "version": version + 1}
        credential = new.pop("credentials_json", None)
        if credential is not None:
            assert isinstance(credential, Secret), "a credential travels as a Secret"
            parsed = json.loads(credential.reveal())
            number = old.get("credential_version", 0) + 1
            new |= {
                "credentials_configured": True,
                "client_id": parsed["clientID"],
                "key_id": parsed["keyID"],
                "credential_version": number,
                "history": {**old.get("history", {}), number: parsed["keyID"]},
            }
        elif not old.get("credentials_configured"):
            return 400, {"error": "the first config needs a credential"}
        self.configs[mount] = new
        return 200, {"version": new["version"], "warnings": []}


class FakeCredentials:
    """A credential source; ``missing`` names mounts whose reference leads nowhere."""

    def __init__(self, number: int = 1, missing: frozenset[str] = frozenset()) -> None:
        self.number = number
        self.missing = missing
        self.resolved: list[str] = []

    def identify(self, mount, live):
        """The identity of the mount's n-th credential."""
        from skyflowctl.credentials.errors import UnresolvedReferenceError
        from support.planning import identity

        if mount in self.missing:
            raise UnresolvedReferenceError("there is no file", why="no such file")
        return identity(mount, self.number)

    def resolve(self, mount):
        """The n-th credential: of its shape only."""
        from skyflowctl.credentials.model import Credential

        who = self.identify(mount, None)
        self.resolved.append(mount)
        text = json.dumps({"clientID": who.client_id, "keyID": who.key_id, "privateKey": "k"})
        return Credential(who, Secret(text))

    def prepare_apply(self):
        """Nothing is needed."""


class FakeReplacer:
    """A replacer that only writes; ``calls`` is what it was asked: (word, mount, path, key)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, str]] = []
        self.says: tuple[Problem, ...] = ()

    def replace(self, mount, path, credential, gateway, *, allow_revoked=False):
        """Write the credential, without any proof."""
        self.calls.append(("replace", mount, path, credential.id.key_id))
        gateway.engine(path).write_config({"credentials_json": credential.json})
        return self.says

    def finish(self, mount, path, gateway):
        """Note it."""
        self.calls.append(("finish", mount, path, ""))
        return self.says
