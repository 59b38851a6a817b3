"""A server without sockets: mounts, audited headers and catalog as in OpenBao.

It hosts the real engine, so a dry run changes a mount exactly as a real apply does. It has one
namespace and no ACL; every caller is root.
"""

import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Protocol

from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    Operation,
    StorageError,
)
from skyflowctl.frozen import dataclass
from skyflowctl.vault.memory_access import (
    BUILT_IN_ENGINES,
    SERVED_PATHS,
    HttpError,
    MemoryAccess,
)
from skyflowctl.vault.memory_kv import MemoryKv

_OPERATIONS = {"GET": Operation.READ, "LIST": Operation.LIST, "DELETE": Operation.DELETE}
_SYSTEM_TYPES = {"sys": "system", "cubbyhole": "cubbyhole", "identity": "identity"}
_CONFIG_LISTS = (
    "passthrough_request_headers",
    "allowed_response_headers",
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
)
_CONFIG_NUMBERS = ("default_lease_ttl", "max_lease_ttl")


class MountedEngine(Protocol):
    """The methods that an engine needs in order to be mounted here."""

    async def handle(self, request: EngineRequest) -> EngineReply:
        """Answer one request."""

    async def exists(self, request: EngineRequest) -> bool | None:
        """Whether a write would change an existing object; None if there is no such path."""


class EngineMaker(Protocol):
    """Makes the engine of a new mount."""

    def __call__(self, path: str, options: Mapping[str, str]) -> MountedEngine:
        """Return an engine with its own storage, empty or seeded, for a mount and its options."""


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """One request to this server."""

    method: str
    path: str
    body: Mapping[str, Any] = field(repr=False)
    params: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def writes(self) -> bool:
        """Whether the method is POST or PUT."""
        return self.method in {"POST", "PUT"}


@dataclass(slots=True)
class Mounted:
    """One mount: its entry in ``sys/mounts``, and its engine if it is of our type."""

    entry: dict[str, Any]
    engine: MountedEngine | None = None


@dataclass(slots=True)
class MemoryServer:
    """The server's state. Only one event loop may use it.

    Args:
        plugin_name: the mount type that is hosted here.
        plugin_version: the version that this engine runs as.
        make_engine: makes the engine of a new mount.
    """

    plugin_name: str
    plugin_version: str
    make_engine: EngineMaker
    cluster_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    mounts: dict[str, Mounted] = field(default_factory=dict)
    audited_headers: dict[str, bool] = field(default_factory=dict)
    catalog: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    moves: dict[str, tuple[str, str]] = field(default_factory=dict)
    wrapped: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    access: MemoryAccess = field(default_factory=MemoryAccess)
    kv: MemoryKv = field(default_factory=MemoryKv)

    def __post_init__(self) -> None:
        for path, kind in _SYSTEM_TYPES.items():
            self.mounts[path] = Mounted(_entry(kind, {}))
        self.catalog[self.plugin_name, self.plugin_version] = {
            "sha256": "",
            "command": self.plugin_name,
            "args": [],
        }

    async def answer(self, question: MemoryRequest) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer to one request."""
        request_id = str(uuid.uuid4())
        try:
            data = await self._route(question, request_id)
        except HttpError as refusal:
            return refusal.status, {"errors": list(refusal.texts)}
        if data is None:
            return 204, {}
        # Through JSON, as over a network, so that no tuple, date or subclass is returned.
        body = {"request_id": request_id, "data": json.loads(json.dumps(data)), "warnings": None}
        if question.path == "sys/health":
            return 200, dict(data)
        ttl = question.headers.get("X-Vault-Wrap-TTL")
        return 200, self._wrap(question.path, body, ttl) if ttl else body

    def _wrap(self, path: str, body: dict[str, Any], ttl: str) -> dict[str, Any]:
        token = "s." + secrets.token_urlsafe(18)
        self.wrapped[token] = body
        info = {"token": token, "accessor": secrets.token_urlsafe(12), "creation_path": path}
        seconds = int(ttl.rstrip("smh")) * {"m": 60, "h": 3600}.get(ttl[-1], 1)
        return {"request_id": body["request_id"], "wrap_info": info | {"ttl": seconds}}

    async def _route(self, question: MemoryRequest, request_id: str) -> Mapping[str, Any] | None:
        if question.path.startswith(SERVED_PATHS):
            return self._access(question)
        if question.path.startswith("sys/"):
            return _System(self).answer(question)
        if self.access.is_in_namespace(question.path):
            raise HttpError(404)  # a namespace here has no contents
        for path, mounted in self.mounts.items():
            if not question.path.startswith(path + "/"):
                continue
            if mounted.entry["type"] == "kv":
                return self._kv(path, question)
            if mounted.engine:
                return await _dispatch(mounted.engine, path, question, request_id)
            if mounted.entry["type"] in BUILT_IN_ENGINES:
                return self._access(question)
        raise HttpError(404, f'no handler for route "{question.path}". route entry not found.')

    def _kv(self, engine: str, question: MemoryRequest) -> Mapping[str, Any] | None:
        path = question.path[len(engine) + 1 :]
        return self.kv.answer(question.method, engine, path, question.body)

    def _access(self, question: MemoryRequest) -> Mapping[str, Any] | None:
        return self.access.answer(question.method, question.path, question.body)

    def enable(self, path: str, body: Mapping[str, Any]) -> None:
        """Mount an engine.

        Raises:
            HttpError: the path is in use, or the type is not in the catalog.
        """
        for used in self.mounts:
            if (path + "/").startswith(used + "/") or (used + "/").startswith(path + "/"):
                raise HttpError(400, f"path is already in use at {used}/")
        kind = str(body.get("type", ""))
        hosted = kind == self.plugin_name
        if not hosted and kind not in BUILT_IN_ENGINES:
            raise HttpError(400, f"plugin not found in the catalog: {kind}")
        entry = _entry(kind, body)
        if hosted:
            wanted = (body.get("config") or {}).get("plugin_version") or self.plugin_version
            self._check_version(wanted)
            entry |= {"plugin_version": wanted, "running_plugin_version": wanted}
        self.mounts[path] = Mounted(
            entry, self.make_engine(path, dict(entry["options"])) if hosted else None
        )

    def move(self, source: str, target: str) -> str:
        """Move a mount with its engine, and return the id of the move.

        Raises:
            HttpError: nothing is mounted there, or the new path is in use or reserved.
        """
        if target.split("/", maxsplit=1)[0] in {"sys", "auth"}:
            raise HttpError(400, f"cannot remount to destination {target}/")
        for used in self.mounts:
            if (target + "/").startswith(used + "/") or (used + "/").startswith(target + "/"):
                raise HttpError(400, f'path already in use at "{used}/"')
        if source not in self.mounts:
            raise HttpError(400, f'no matching mount at "{source}/"')
        self.mounts[target] = self.mounts.pop(source)
        made = str(uuid.uuid4())
        self.moves[made] = (source, target)
        return made

    def tune(self, path: str, body: Mapping[str, Any]) -> None:
        """Change a mount's entry in place; unknown fields are accepted and ignored.

        Raises:
            HttpError: nothing is mounted there, or the plugin version is unknown.
        """
        entry = self.mounts[path].entry
        if "plugin_version" in body:
            self._check_version(body["plugin_version"])
            entry["plugin_version"] = body["plugin_version"]
        if "description" in body:
            entry["description"] = body["description"]
        merged = {**entry["options"], **(body.get("options") or {})}
        entry["options"] = {name: value for name, value in merged.items() if value}
        entry["config"] = _config({**entry["config"], **body})

    def reload(self, body: Mapping[str, Any]) -> None:
        """Restart mounts, each in the version that it was tuned to."""
        named = {path.strip("/") for path in body.get("mounts") or ()}
        for path, mounted in self.mounts.items():
            if path in named or mounted.entry["type"] == body.get("plugin"):
                mounted.entry["running_plugin_version"] = mounted.entry["plugin_version"]

    def _check_version(self, version: str) -> None:
        if (self.plugin_name, version) not in self.catalog:
            raise HttpError(400, f"plugin not found in the catalog: {self.plugin_name}")


def _entry(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    options = body.get("options") or {}
    return {
        "type": kind,
        "description": body.get("description") or "",
        "options": {name: str(value) for name, value in options.items()},
        "config": _config(body.get("config") or {}),
        "plugin_version": "",
        "running_plugin_version": "",
        "running_sha256": "",
        "uuid": str(uuid.uuid4()),
    }


def _config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored form: numbers are always present, lists only if not empty."""
    config: dict[str, Any] = {name: int(given.get(name) or 0) for name in _CONFIG_NUMBERS}
    config |= {name: list(given[name]) for name in _CONFIG_LISTS if given.get(name)}
    return config | {"force_no_cache": False}


async def _dispatch(
    engine: MountedEngine, path: str, question: MemoryRequest, request_id: str
) -> Mapping[str, Any] | None:
    """Pass a request to a mounted engine as a server does: existence check first, then statuses."""
    request = EngineRequest(
        operation=_OPERATIONS.get(question.method, Operation.UPDATE),
        path=question.path[len(path) + 1 :],
        data=question.body if question.writes else dict(question.params),
        mount_point=path + "/",
        request_id=request_id,
        display_name="root",
        headers={name.lower(): (value,) for name, value in question.headers.items()},
    )
    try:
        if question.writes and await engine.exists(request) is False:
            request = _as_create(request)
        reply = await engine.handle(request)
    except EngineError as error:
        raise HttpError(error.status, error.message) from None
    except StorageError as error:
        raise HttpError(500, str(error)) from None
    if reply.data is None and request.operation in {Operation.READ, Operation.LIST}:
        raise HttpError(404)
    return reply.data


def _as_create(request: EngineRequest) -> EngineRequest:
    return replace(request, operation=Operation.CREATE)


class _System:
    """The paths below ``sys/``."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def answer(self, question: MemoryRequest) -> Mapping[str, Any] | None:
        """Return the data of the answer; None for 204."""
        path = question.path.removeprefix("sys/")
        for prefix, handler in (
            ("mounts", self._mounts),
            ("config/auditing/request-headers", self._headers),
            ("plugins/catalog", self._catalog),
            ("remount", self._remount),
        ):
            if path == prefix or path.startswith(prefix + "/"):
                return handler(question, path.removeprefix(prefix).strip("/"))
        return self._other(question, path)

    def _other(self, question: MemoryRequest, path: str) -> Mapping[str, Any] | None:
        if path == "health":
            return {
                "initialized": True,
                "sealed": False,
                "standby": False,
                "version": "in-process",
                "cluster_id": self._server.cluster_id,
                "cluster_name": "in-process",
            }
        if path == "ha-status":
            return {"nodes": []}
        if path == "capabilities-self":
            return {name: ["root"] for name in question.body["paths"]}
        if path == "wrapping/unwrap":
            return self._unwrap(str(question.body.get("token", "")))
        if path == "plugins/reload/backend":
            self._server.reload(question.body)
            return {"reload_id": str(uuid.uuid4())}
        raise HttpError(404, "unsupported path")

    def _unwrap(self, token: str) -> Mapping[str, Any]:
        body = self._server.wrapped.pop(token, None)
        if body is None:
            raise HttpError(400, "wrapping token is not valid or does not exist")
        data: Mapping[str, Any] = body["data"]
        return data

    def _mounts(self, question: MemoryRequest, path: str) -> Mapping[str, Any] | None:
        mounts = self._server.mounts
        if not path:
            return {f"{name}/": mounted.entry for name, mounted in mounts.items()}
        tuned = path.endswith("/tune") and question.writes
        name = path.removesuffix("/tune") if tuned else path
        if question.method == "DELETE":
            mounts.pop(name, None)
            return None
        if question.writes and not tuned:
            self._server.enable(name, question.body)
            return None
        if name not in mounts:
            raise HttpError(400, f"No secret engine mount at {name}/")
        if tuned:
            self._server.tune(name, question.body)
            return None
        return mounts[name].entry

    def _remount(self, question: MemoryRequest, rest: str) -> Mapping[str, Any] | None:
        if not rest:
            paths = (str(question.body.get(key, "")).strip("/") for key in ("from", "to"))
            return {"migration_id": self._server.move(*paths)}
        known = self._server.moves.get(rest.removeprefix("status/"))
        if known is None:
            raise HttpError(404)
        source, target = known
        info = {"source_mount": f"{source}/", "target_mount": f"{target}/", "status": "success"}
        return {"migration_id": rest.removeprefix("status/"), "migration_info": info}

    def _headers(self, question: MemoryRequest, name: str) -> Mapping[str, Any] | None:
        headers = self._server.audited_headers
        if not name:
            return {"headers": {header: {"hmac": hmac} for header, hmac in headers.items()}}
        if question.method == "DELETE":
            headers.pop(name.lower(), None)
        else:
            headers[name.lower()] = bool(question.body.get("hmac"))
        return None

    def _catalog(self, question: MemoryRequest, rest: str) -> Mapping[str, Any] | None:
        catalog = self._server.catalog
        if not rest:
            names = {"secret": sorted(BUILT_IN_ENGINES | {name for name, _ in catalog})}
            return {"detailed": [_listed(key, raw) for key, raw in catalog.items()], **names}
        name = rest.removeprefix("secret/")
        version = str(question.body.get("version") or question.params.get("version") or "")
        if question.writes:
            catalog[name, version] = dict(question.body)
            return None
        if question.method == "DELETE":
            catalog.pop((name, version), None)
            return None
        if (name, version) not in catalog:
            raise HttpError(404)
        return _listed((name, version), catalog[name, version])


def _listed(key: tuple[str, str], raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": key[0],
        "version": key[1],
        "type": "secret",
        "builtin": False,
        "sha256": raw.get("sha256", ""),
        "command": raw.get("command", ""),
        "args": list(raw.get("args") or ()),
    }
