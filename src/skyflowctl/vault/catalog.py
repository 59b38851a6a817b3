"""The server's plugin catalog: the registered secrets plugins, by name and version."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.vault.errors import NotFoundError, VaultError
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.responses import CatalogEntry
from skyflowctl.vault.transport import Request, Transport

_ROOT = "sys/plugins/catalog"
# OpenBao 2.7 checks the file before it answers (500), so an entry cannot be read without it.
_NO_FILE = re.compile(r"validating the command path: lstat (.+): no such file or directory")


class RunningState(StrEnum):
    """How the plugin that a mount runs compares with the catalog."""

    OK = "ok"
    DIFFERS = "differs"
    NOT_REGISTERED = "not_registered"
    NOT_TOLD = "not_told"
    DOES_NOT_RUN = "does_not_run"
    NOT_KNOWN = "not_known"


@dataclass(frozen=True, slots=True)
class RunningMount:
    """The plugin that one mount really runs.

    ``detail`` says why it does not run, or why that is unknown.
    """

    path: str
    version: str
    sha256: str
    state: RunningState
    detail: str = ""

    @property
    def fault(self) -> str:
        """The fault in one line; empty if none is known."""
        if self.state is RunningState.NOT_REGISTERED:
            return f"{self.path} runs {self.version}, which is not in the catalog"
        if self.state is RunningState.DIFFERS:
            return (
                f"{self.path} runs another file than the one that is registered as {self.version}"
            )
        return ""


REGISTER_WANTED = (
    "decide which file to run, then: skyflowctl plugin register PLUGIN_DIRECTORY/FILE --reload"
)
"""The fix for every fault of a running mount: one registration updates both catalog and mount."""


def compare(live: LiveMount, entries: Iterable[CatalogEntry]) -> RunningMount:
    """Compare the plugin that a mount runs with the catalog's entries."""
    registered = {entry.version: entry.sha256 for entry in entries if entry.name == live.type}
    version, running = live.running_plugin_version, live.running_sha256
    if not running:
        state = RunningState.NOT_TOLD
    elif version not in registered:
        state = RunningState.NOT_REGISTERED
    else:
        same = registered[version] == running
        state = RunningState.OK if same else RunningState.DIFFERS
    return RunningMount(live.path, version, running, state)


class Catalog:
    """Secrets plugins of one server. Every method raises ``errors.VaultError``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(
        self,
        name: str,
        *,
        sha256: str,
        command: str,
        version: str,
        args: Sequence[str] = (),
        env: Sequence[str] = (),
    ) -> None:
        """Write a catalog entry. The server checks neither the digest nor the start of the plugin.

        Args:
            name: the plugin's name, which is the mount type.
            sha256: hex digest of the file.
            command: the file's name in the server's plugin directory.
            version: semantic, with a leading ``v``.
            args: arguments of the process.
            env: ``NAME=value`` texts without secrets; a read of the entry omits them.
        """
        body: dict[str, Any] = {"sha256": sha256, "command": command, "version": version}
        if args:
            body["args"] = list(args)
        if env:
            body["env"] = list(env)
        self._transport.send(
            Request("POST", f"{_ROOT}/secret/{name}", body=body, idempotent=True, fresh=True)
        )

    def list(self) -> tuple[CatalogEntry, ...]:
        """Return every secrets plugin, built-in ones too, in one request."""
        data = self._transport.send(Request("GET", _ROOT, fresh=True)).data or {}
        detailed = data.get("detailed") or ()
        return tuple(_entry(raw) for raw in detailed if raw.get("type") == "secret")

    def names(self) -> Mapping[str, Sequence[str]]:
        """Return the names of all plugins, built-in ones too, by type: auth, database, secret."""
        data = self._transport.send(Request("GET", _ROOT, fresh=True)).data or {}
        return {kind: data[kind] for kind in ("auth", "database", "secret") if data.get(kind)}

    def read(self, name: str, version: str) -> CatalogEntry | None:
        """Return one entry with its command and arguments, or None.

        An entry whose file is missing on the server has neither digest nor arguments.
        """
        params = {"version": version} if version else None
        try:
            reply = self._transport.send(
                Request("GET", f"{_ROOT}/secret/{name}", params=params, fresh=True)
            )
        except NotFoundError:
            return None
        except VaultError as error:
            missing = _NO_FILE.search("\n".join(error.messages))
            if missing is None:
                raise
            command = PurePosixPath(missing[1]).name
            return CatalogEntry(
                name, version, builtin=False, sha256="", command=command, file_missing=True
            )
        return _entry(reply.data or {})

    def delete(self, name: str, version: str) -> bool:
        """Remove an entry and return whether it is gone.

        The server reports success even if it removed nothing, so the entry is read back.
        """
        params = {"version": version} if version else None
        self._transport.send(
            Request("DELETE", f"{_ROOT}/secret/{name}", params=params, idempotent=True, fresh=True)
        )
        return all((entry.name, entry.version) != (name, version) for entry in self.list())

    def reload(self, name: str, *, every_node: bool = True) -> None:
        """Restart the plugin's processes, on this node or on all nodes."""
        body: dict[str, Any] = {"plugin": name}
        self._reload(body, every_node)

    def reload_mounts(self, paths: Sequence[str], *, every_node: bool = True) -> None:
        """Restart only the processes of these mounts."""
        self._reload({"mounts": [f"{path}/" for path in paths]}, every_node)

    def _reload(self, body: dict[str, Any], every_node: bool) -> None:
        if every_node:
            body["scope"] = "global"
        self._transport.send(
            Request("PUT", "sys/plugins/reload/backend", body=body, idempotent=True, fresh=True)
        )


def completed(catalog: Catalog, entry: CatalogEntry) -> CatalogEntry:
    """Return a listed entry, completed with its command, arguments and file."""
    read = catalog.read(entry.name, entry.version)
    if read is None:
        return entry
    return replace(entry, command=read.command, args=read.args, file_missing=read.file_missing)


def _entry(raw: Mapping[str, Any]) -> CatalogEntry:
    return CatalogEntry(
        name=str(raw.get("name", "")),
        version=str(raw.get("version") or ""),
        builtin=bool(raw.get("builtin")),
        sha256=str(raw.get("sha256") or ""),
        command=str(raw.get("command") or ""),
        args=tuple(raw.get("args") or ()),
    )
