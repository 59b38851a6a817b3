"""Secrets of kv version 2 engines. No call returns a value, only versions, marks and names."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.secret import Secret
from skyflowctl.vault.errors import NotFoundError
from skyflowctl.vault.live import LiveMount, LiveSecret
from skyflowctl.vault.transport import Request, Transport

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def secret_path(engine: str, path: str) -> str:
    """Return the API path at which a secret is read and written."""
    return f"{engine}/data/{path}"


def is_kv2(mount: LiveMount | None) -> bool:
    """Whether a mount is a kv engine of version 2."""
    return mount is not None and mount.type == "kv" and mount.options.get("version") == "2"


class KvApi:
    """Typed calls. Every method raises :class:`skyflowctl.vault.errors.VaultError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def secret(self, engine: str, path: str) -> LiveSecret | None:
        """Return a secret without its values, in one or two requests; None if it never existed."""
        try:
            data = self._read(f"{engine}/metadata/{path}")
        except NotFoundError as error:
            if error.empty:
                return None
            raise
        version = int(data.get("current_version") or 0)
        custom = {key: str(value) for key, value in (data.get("custom_metadata") or {}).items()}
        if not version:
            return LiveSecret(0, custom)
        try:
            found = self._read(f"{engine}/subkeys/{path}", {"depth": "1"})
        except NotFoundError:
            newest = (data.get("versions") or {}).get(str(version)) or {}
            at = "" if newest.get("destroyed") else str(newest.get("deletion_time") or "")
            return LiveSecret(version, custom, deleted=True, deleted_at=at)
        return LiveSecret(version, custom, frozenset(found.get("subkeys") or ()))

    def mark(self, engine: str, path: str, custom: Mapping[str, str], *, new: bool) -> None:
        """Add to a secret's custom metadata and keep the rest of it; ``new``: create it."""
        body = {"custom_metadata": dict(custom)}
        self._send("POST" if new else "PATCH", f"{engine}/metadata/{path}", body)

    def write(self, engine: str, path: str, data: Mapping[str, Secret], version: int) -> None:
        """Write fields, and keep the others; refused if the newest version is another one."""
        body = {"data": dict(data), "options": {"cas": version}}
        self._send("PATCH" if version else "POST", secret_path(engine, path), body, again=False)

    def _read(self, path: str, params: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        return self._transport.send(Request("GET", path, params=params, fresh=True)).data or {}

    def _send(
        self, method: str, path: str, body: Mapping[str, object], *, again: bool = True
    ) -> None:
        headers = MERGE_PATCH if method == "PATCH" else None
        self._transport.send(
            Request(method, path, body=body, headers=headers, idempotent=again, fresh=True)
        )
