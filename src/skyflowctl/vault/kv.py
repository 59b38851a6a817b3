"""Secrets of kv version 2 engines. No call returns a value, only versions, marks and names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skyflowctl.secret import Secret
from skyflowctl.vault.errors import NotFoundError
from skyflowctl.vault.live import LiveMount, LiveSecret
from skyflowctl.vault.transport import Request, Transport

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
_SETTINGS = ("cas_required", "delete_version_after", "max_versions", "metadata_cas_required")


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
        marked = _without_fields(data)
        if not marked.version:
            return marked
        try:
            found = self._read(f"{engine}/subkeys/{path}", {"depth": "1"})
        except NotFoundError:
            newest = (data.get("versions") or {}).get(str(marked.version)) or {}
            at = "" if newest.get("destroyed") else str(newest.get("deletion_time") or "")
            return replace(marked, deleted=True, deleted_at=at)
        return replace(marked, fields=frozenset(found.get("subkeys") or ()))

    def secrets(self, engine: str) -> dict[str, LiveSecret]:
        """Return every secret of an engine by its API path, without the names of its fields.

        One request for each folder; a server without detailed lists needs one for each secret too.
        """
        found: dict[str, LiveSecret] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            for name, raw in self._listed(engine, folder).items():
                path = f"{folder}{name}"
                if name.endswith("/"):
                    folders.append(path)
                else:
                    found[secret_path(engine, path)] = _without_fields(raw)
        return dict(sorted(found.items()))

    def _listed(self, engine: str, folder: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the metadata of each secret in a folder, and an empty map for each folder."""
        try:
            listed = self._list(f"{engine}/detailed-metadata/{folder}")
        except NotFoundError as error:
            if error.empty:
                return {}
        else:
            return listed.get("key_info") or {}
        names = [str(one) for one in self._list(f"{engine}/metadata/{folder}").get("keys") or ()]
        return {
            name: {} if name.endswith("/") else self._read(f"{engine}/metadata/{folder}{name}")
            for name in names
        }

    def delete(self, engine: str, path: str) -> None:
        """Delete a secret with all of its versions and its metadata; a missing one is no error."""
        request = Request("DELETE", f"{engine}/metadata/{path}", idempotent=True, fresh=True)
        self._transport.send(request)

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

    def _list(self, path: str) -> Mapping[str, Any]:
        return self._transport.send(Request("LIST", path, fresh=True)).data or {}

    def _send(
        self, method: str, path: str, body: Mapping[str, object], *, again: bool = True
    ) -> None:
        headers = MERGE_PATCH if method == "PATCH" else None
        self._transport.send(
            Request(method, path, body=body, headers=headers, idempotent=again, fresh=True)
        )


def _without_fields(data: Mapping[str, Any]) -> LiveSecret:
    """Return a secret as its metadata has it."""
    custom = {key: str(value) for key, value in (data.get("custom_metadata") or {}).items()}
    settings = {name: data[name] for name in _SETTINGS if name in data}
    return LiveSecret(int(data.get("current_version") or 0), custom, settings=settings)
