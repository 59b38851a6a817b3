"""Secrets of kv version 2 engines in the in-process server, which keeps no value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from skyflowctl.vault.live import LiveSecret
from skyflowctl.vault.memory_access import HttpError

_MISMATCH = "check-and-set parameter did not match the current version"


@dataclass(slots=True)
class MemoryKv:
    """The secrets by API path, ``ENGINE/data/PATH``."""

    secrets: dict[str, LiveSecret] = field(default_factory=dict)

    def answer(
        self, method: str, engine: str, path: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the data of the answer; None for 204.

        Raises:
            HttpError: the request fails.
        """
        part, _, name = path.partition("/")
        if method == "LIST" and part == "detailed-metadata":
            return self._listed(f"{engine}/data/{name}")
        key = f"{engine}/data/{name}"
        found = self.secrets.get(key)
        if found is None and method in {"GET", "PATCH"}:
            raise HttpError(404)
        live = found or LiveSecret(0)
        if part == "metadata":
            return self._metadata(method, key, live, body)
        if part == "subkeys" and method == "GET":
            if live.deleted or not live.version:
                raise HttpError(404)
            return {"subkeys": dict.fromkeys(sorted(live.fields))}
        if part == "data" and method != "GET":
            return self._write(method, key, live, body)
        raise HttpError(404, "unsupported path")

    def _listed(self, prefix: str) -> Mapping[str, Any]:
        info: dict[str, Any] = {}
        for key in self.secrets:
            if key.startswith(prefix):
                name, slash, _ = key.removeprefix(prefix).partition("/")
                info[name + slash] = {} if slash else self._as_metadata(self.secrets[key])
        if not info:
            raise HttpError(404)
        return {"keys": sorted(info), "key_info": info}

    def _as_metadata(self, live: LiveSecret) -> Mapping[str, Any]:
        newest = {"deletion_time": live.deleted_at, "destroyed": False}
        return {
            "current_version": live.version,
            "custom_metadata": dict(live.custom_metadata),
            "versions": {str(live.version): newest} if live.version else {},
        }

    def _metadata(
        self, method: str, key: str, live: LiveSecret, body: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        if method == "GET":
            return self._as_metadata(live)
        if method == "DELETE":
            self.secrets.pop(key, None)
            return None
        kept = live.custom_metadata if method == "PATCH" else {}
        custom = {**kept, **(body.get("custom_metadata") or {})}
        self.secrets[key] = replace(live, custom_metadata=custom)
        return None

    def _write(
        self, method: str, key: str, live: LiveSecret, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        cas = (body.get("options") or {}).get("cas", live.version)
        if cas != live.version:
            raise HttpError(400, _MISMATCH)
        names = frozenset(body.get("data") or ())
        names |= live.fields if method == "PATCH" else frozenset()
        written = LiveSecret(live.version + 1, live.custom_metadata, names)
        self.secrets[key] = written
        return {"version": written.version}
