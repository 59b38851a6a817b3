"""A second engine with the basic API, as a real plugin: config, roles, creds, health.

It answers and stores as the public Go plugin of the same name does: one JSON record
``config`` with the credential's text in it, ``role/<name>``, no mark of a format; a config
read without identity; health that looks at nothing but the config; ctx rules, cas and other
unknown fields dropped without a word; times in nanoseconds; every write a 204.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from skyflowctl.clock import SystemClock
from skyflowctl.engine.contract import EngineError, EngineReply, EngineRequest, Operation, Storage
from skyflowctl.skyflow.minting import Minter, MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import (
    TokenService,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)

_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
_HOSTS = "BASIC_ENGINE_HOSTS"
_SCRIPT = """\
#!{python} -B
import sys
sys.path[:0] = {paths!r}
from support.basic_engine import main
sys.exit(main())
"""


def go_time() -> str:
    """Now as Go writes it into JSON: nanoseconds, and the machine's own offset."""
    text = datetime.now().astimezone().isoformat(timespec="microseconds")
    return f"{text[:26]}123{text[26:]}"


class BasicEngine:
    """One mount. ``hosts`` are the token services that may be asked."""

    def __init__(self, storage: Storage, service: TokenService, hosts: frozenset[str]) -> None:
        self._storage = storage
        self._service = service
        self._minter = Minter(service, SystemClock(), allowed_hosts=hosts)

    async def handle(self, request: EngineRequest) -> EngineReply:
        """Answer one request."""
        operation = "update" if request.operation is Operation.CREATE else request.operation.value
        if operation == "help":
            return EngineReply(
                {"help": "The Skyflow secrets engine.", "see_also": [], "openapi": None}
            )
        folder, _, name = request.path.rstrip("/").partition("/")
        if not name and folder in {"config", "health", "roles"}:
            return await self._call(f"{folder}_{operation}", request.data)
        if folder not in {"roles", "creds"} or not _NAME.fullmatch(name):
            raise EngineError(404, "unsupported path")
        return await self._call(f"{folder[:-1]}_{operation}", request.data, name)

    async def _call(self, action: str, *arguments: Any) -> EngineReply:
        handler = getattr(self, f"_{action}", None)
        if handler is None:
            raise EngineError(405, "unsupported operation")
        return await handler(*arguments)

    async def exists(self, request: EngineRequest) -> bool | None:
        """Tell whether a write would create or update."""
        folder, _, name = request.path.partition("/")
        if folder == "config":
            return await self._load("config") is not None
        return await self._load(f"role/{name}") is not None if folder == "roles" else None

    def invalidate(self, key: str) -> None:
        """Nothing is cached."""

    def special_paths(self) -> tuple[str, ...]:
        """What holds credentials."""
        return ("config", "role/*")

    async def aclose(self) -> None:
        """Close the connections to the token service."""
        await self._service.aclose()

    # config --------------------------------------------------------------------

    async def _config_read(self, _data: Mapping[str, Any]) -> EngineReply:
        config = await self._load("config")
        if config is None:
            return EngineReply()
        public = {name: config.get(name) for name in ("version", "tags")}
        public["credentials_configured"] = True
        public["description"] = config.get("description", "")
        public["last_updated"] = config["last_updated"][:19] + "Z"
        return EngineReply({**public, **_credentials_type(config)})

    async def _config_update(self, data: Mapping[str, Any]) -> EngineReply:
        config = await self._load("config") or {"version": 1}
        for name, other in (
            ("credentials_json", "credentials_file_path"),
            ("credentials_file_path", "credentials_json"),
        ):
            if name in data:
                config[name] = _text(data[name])
                config.pop(other, None)
        if not (config.get("credentials_json") or config.get("credentials_file_path")):
            missing = "either credentials_file_path or credentials_json must be provided"
            raise EngineError(400, f"invalid configuration: {missing}")
        _patch(config, data)
        if data.get("validate_credentials", True):
            await self._mint(config, None, None, "credential validation failed")
        config |= {"version": config["version"] + 1, "last_updated": go_time()}
        await self._store("config", config)
        told = {"version": config["version"], "timestamp": config["last_updated"]}
        await self._store(f"config_history/{config['version']}", told)
        return EngineReply()

    async def _config_delete(self, _data: Mapping[str, Any]) -> EngineReply:
        await self._storage.delete("config")
        return EngineReply()

    # roles ---------------------------------------------------------------------

    async def _roles_list(self, _data: Mapping[str, Any]) -> EngineReply:
        names = await self._storage.list("role/")
        return EngineReply({"keys": names} if names else None)

    async def _role_read(self, _data: Mapping[str, Any], name: str) -> EngineReply:
        role = await self._load(f"role/{name}")
        if role is None:
            return EngineReply()
        return EngineReply({"description": "", "tags": None, **role})

    async def _role_update(self, data: Mapping[str, Any], name: str) -> EngineReply:
        role = await self._load(f"role/{name}") or {"name": name, "created_at": go_time()}
        if "role_ids" in data:
            role["role_ids"] = _texts(data["role_ids"])
        if len(role.get("role_ids") or ()) != 1:
            raise EngineError(400, "invalid role: role_ids is required")
        _patch(role, data)
        await self._store(f"role/{name}", {**role, "updated_at": go_time()})
        return EngineReply()

    async def _role_delete(self, _data: Mapping[str, Any], name: str) -> EngineReply:
        await self._storage.delete(f"role/{name}")
        return EngineReply()

    # tokens --------------------------------------------------------------------

    async def _cred_read(self, data: Mapping[str, Any], name: str) -> EngineReply:
        role = await self._load(f"role/{name}")
        if role is None:
            raise EngineError(400, f'role "{name}" not found')
        config = await self._load("config")
        if config is None:
            raise EngineError(400, "backend not configured")
        why = "failed to generate token: failed to generate bearer token"
        token = await self._mint(config, role["role_ids"][0], data.get("ctx"), why)
        return EngineReply({"access_token": token, "token_type": "Bearer"})

    async def _health_read(self, _data: Mapping[str, Any]) -> EngineReply:
        told = {"timestamp": go_time()[:19] + "Z", "version": "v1.0.0"}
        config = await self._load("config")
        if config is None:
            return EngineReply({**told, "healthy": False, "error": "backend not configured"})
        good = {"healthy": True, "configuration_status": "ok"}
        return EngineReply({**told, **good, **_credentials_type(config)})

    async def _mint(
        self, config: Mapping[str, Any], role_id: str | None, ctx: str | None, why: str
    ) -> str:
        path = config.get("credentials_file_path")
        try:
            text = Path(path).read_text() if path else config["credentials_json"]
            account = load_trusted(text)
            credential = MintingCredential(account, SigningKey.trusted(account.private_key))
            return (await self._minter.mint(credential, role_id, ctx)).access_token.reveal()
        except (
            TokenServiceRefusedError,
            TokenServiceUnreachableError,
            OSError,
            ValueError,
        ) as error:
            raise EngineError(400, f"{why}: {error}") from None
        except Exception as error:
            raise EngineError(400, f"{why}: {type(error).__name__}") from None

    async def _load(self, key: str) -> dict[str, Any] | None:
        raw = await self._storage.get(key)
        return json.loads(raw) if raw else None

    async def _store(self, key: str, value: Mapping[str, Any]) -> None:
        await self._storage.put(key, json.dumps(value).encode() + b"\n")


def _credentials_type(config: Mapping[str, Any]) -> dict[str, Any]:
    path = config.get("credentials_file_path")
    if path:
        return {"credentials_type": "file_path", "credentials_file_path": path}
    return {"credentials_type": "json"}


def _patch(record: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Take the description and the tags; an empty one is left out, as Go's omitempty does."""
    given = {name: data[name] for name in ("description", "tags") if name in data}
    if "tags" in given:
        given["tags"] = _texts(given["tags"])
    record |= given
    for name in ("description", "tags"):
        if not record.get(name):
            record.pop(name, None)


def _texts(value: Any) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    return [str(item).strip() for item in items if str(item).strip()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write_basic_plugin(plugin_dir: Path, name: str) -> str:
    """Write the plugin's script into a plugin directory; its sha256."""
    import skyflowctl

    paths = [str(Path(skyflowctl.__file__).parent.parent), str(Path(__file__).parent.parent)]
    path = plugin_dir / name
    path.write_text(_SCRIPT.format(python=sys.executable, paths=paths))
    path.chmod(0o755)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def basic_env(host: str, ca: Path) -> list[str]:
    """The environment of its catalog entry: which token service it may ask."""
    return [f"{_HOSTS}={host}", f"SSL_CERT_FILE={ca}"]


def main() -> int:
    """Run as a server's plugin."""
    from skyflowctl.plugin.__main__ import main as run
    from skyflowctl.skyflow.http.token_service import HttpTokenService

    hosts = frozenset(os.environ[_HOSTS].split(","))
    return run(
        make_factory=lambda _settings: (
            lambda storage, _options: BasicEngine(storage, HttpTokenService(), hosts)
        )
    )
