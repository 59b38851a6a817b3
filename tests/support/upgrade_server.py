"""Nodes that run versions of a plugin, as measured on OpenBao 2.7.2, and a kill at any request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from skyflowctl.errors import SkyflowctlError
from skyflowctl.vault.errors import GuardedError, VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import ClusterNode
from skyflowctl.vault.transport import Reply, Request, make_reply
from support.transports import FakeTransport

NAME = "skyflow"
OLD, NEW, BROKEN, DEAD = "v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3"


class KilledError(BaseException):
    """The command ends here, whatever it would have caught."""


@dataclass
class RunningPlugin:
    """What one node last started for a mount."""

    version: str
    serves: bool = True


@dataclass
class UpgradeServer:
    """A server with some nodes and mounts; the first node is the leader.

    ``dies_at``: the number of the request that is answered to nobody. ``lacks``: which versions'
    files a node does not have, by its name. ``guarded``: the paths of a control group.
    ``tune_error``: the answer to every tune. ``registered``: the entries that a command wrote;
    ``delete`` removes one, or fails to.
    """

    mounts: dict[str, dict[str, Any]]
    names: tuple[str, ...] = ("n0",)
    lacks: dict[str, set[str]] = field(default_factory=dict)
    spoiled: dict[str, set[str]] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    dies_at: int = 0
    requests: int = 0
    log: list[tuple[str, str, str]] = field(default_factory=list)
    running: dict[tuple[str, str], RunningPlugin] = field(default_factory=dict)
    rights: tuple[str, ...] = ("root",)
    guarded: tuple[str, ...] = ()
    config_status: int = 0
    tune_error: SkyflowctlError | None = None
    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    delete: Callable[[dict[str, Any], str], Any] = dict.pop
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for path, entry in self.mounts.items():
            for name in self.names:
                self.running[name, path] = RunningPlugin(entry["plugin_version"])

    def gateway(self) -> Gateway:
        """The gateway of a command."""
        return Gateway(NodeTransport(self, self.names[0]))

    def connect(self, node: ClusterNode) -> Gateway:
        """A gateway to one node."""
        return Gateway(NodeTransport(self, node.api_address))

    def start(self, name: str, path: str) -> None:
        """Start on a node what the mount is tuned to.

        Raises:
            VaultError: it does not start; the mount has no plugin there then.
        """
        version = self.mounts[path]["plugin_version"]
        bad = {DEAD, *self.lacks.get(name, ()), *self.spoiled.get(name, ())}
        if version in bad:
            self.running[name, path].serves = False
            raise error_for(
                400, ("cannot reload plugin: checksums did not match",), method="PUT", path=path
            )
        self.running[name, path] = RunningPlugin(version)

    def serves(self, path: str) -> bool:
        """Whether every node serves a mount and mints."""
        found = [self.running[name, path] for name in self.names]
        return all(one.serves and one.version != BROKEN for one in found)

    def versions(self, path: str) -> set[str]:
        """What the nodes run."""
        return {self.running[name, path].version for name in self.names}


@dataclass
class NodeTransport(FakeTransport):
    """Requests to one node; the leader's are the server's."""

    cluster: UpgradeServer
    name: str
    cluster_id: str = "c1"
    requests_made: int = 0

    def send(self, request: Request) -> Reply:
        """Answer one request, unless the command is killed right after it was carried out."""
        with self.cluster.lock:
            self.cluster.requests += 1
            number = self.cluster.requests
            try:
                data = self._answer(request)
            finally:
                if number == self.cluster.dies_at:
                    raise KilledError
        return make_reply(200, {"data": data}, {})

    def refuse_guarded(self, method: str, path: str) -> None:
        """Refuse the paths of a control group."""
        if path in self.cluster.guarded:
            raise GuardedError("parked", why="", fix="", method=method, path=path)

    def _answer(self, request: Request) -> Mapping[str, Any]:
        path = request.path
        if request.method not in {"GET", "LIST"}:
            self.cluster.log.append((self.name, request.method, path))
        for prefix, answer in self._answers().items():
            if path.startswith(prefix):
                return answer(path.removeprefix(prefix), request)
        mount, _, rest = path.rpartition("/")
        return self._engine(mount.removesuffix("/config"), rest)

    def _answers(self) -> dict[str, Callable[[str, Request], Mapping[str, Any]]]:
        return {
            "sys/ha-status": lambda *_: {"nodes": [self._node(one) for one in self.cluster.names]},
            "sys/capabilities-self": lambda _, asked: {
                path: list(self.cluster.rights) for path in asked.body["paths"]
            },
            f"sys/plugins/catalog/secret/{NAME}": self._catalog,
            "sys/plugins/catalog": lambda *_: {
                "detailed": [
                    {"type": "secret", "name": NAME, "version": version}
                    for version in self.cluster.registered
                ]
            },
            "sys/plugins/reload/backend": self._reload,
            "sys/mounts": self._mounts,
        }

    def _node(self, name: str) -> dict[str, Any]:
        return {"api_address": name, "hostname": name, "active_node": name == self.cluster.names[0]}

    def _catalog(self, _: str, request: Request) -> Mapping[str, Any]:
        if request.method == "POST":
            if self.cluster.spoiled.get(self.name) or request.body["command"].endswith(DEAD):
                return {}  # stored without a word, because it cannot be asked
            own = request.body["command"].partition("-")[2]
            if request.body["version"] == own:
                self.cluster.registered[own] = {"name": NAME, **request.body}
                return {}
            text = f"plugin reported version ({own}) did not match requested"
            raise error_for(400, (text,), method="POST", path=request.path)
        version = request.params["version"]
        if request.method == "DELETE":
            if version in self.cluster.registered:
                self.cluster.delete(self.cluster.registered, version)
            return {}
        if version in self.cluster.registered:
            return self.cluster.registered[version]
        if version not in {OLD, NEW, BROKEN, DEAD}:
            raise error_for(404, (), method="GET", path=request.path)
        if version in self.cluster.lacks.get(self.name, ()):
            text = f"error while validating the command path: lstat /p/skyflow-{version}: "
            raise error_for(
                500, (text + "no such file or directory",), method="GET", path=request.path
            )
        return {
            "name": NAME,
            "version": version,
            "sha256": f"digest-{version}",
            "command": f"skyflow-{version}",
            "args": list(self.cluster.args),
        }

    def _reload(self, _: str, request: Request) -> Mapping[str, Any]:
        for path in request.body["mounts"]:
            self.cluster.start(self.name, path.strip("/"))
        return {}

    def _mounts(self, rest: str, request: Request) -> Mapping[str, Any]:
        path = rest.strip("/")
        if path.endswith("/tune"):
            self._tune(path.removesuffix("/tune"), request.body)
            return {}
        if path:
            return self._entry(path)
        return {f"{one}/": self._entry(one) for one in self.cluster.mounts}

    def _tune(self, path: str, body: Mapping[str, Any]) -> None:
        if self.cluster.tune_error:
            raise self.cluster.tune_error
        entry = self.cluster.mounts[path]
        entry["plugin_version"] = body.get("plugin_version", entry["plugin_version"])
        merged = {**entry["options"], **body.get("options", {})}
        kept = {name: value for name, value in merged.items() if value}
        if kept != entry["options"]:
            entry["options"] = kept
            for name in self.cluster.names[1:]:
                with suppress(VaultError):  # nobody is told
                    self.cluster.start(name, path)

    def _entry(self, path: str) -> Mapping[str, Any]:
        runs = self.cluster.running[self.name, path]
        entry = self.cluster.mounts[path]
        return {
            "type": NAME,
            **entry,
            "running_plugin_version": runs.version,
            "running_sha256": f"digest-{runs.version}",
        }

    def _engine(self, mount: str, rest: str) -> Mapping[str, Any]:
        runs = self.cluster.running[self.name, mount]
        if not runs.serves:
            text = f'no handler for route "{mount}". route entry found, but backend is nil.'
            raise error_for(404, (text,), method="GET", path=mount)
        if rest == "config":
            if self.cluster.config_status:
                raise error_for(self.cluster.config_status, ("no",), method="GET", path=mount)
            return {"credentials_configured": True}
        assert rest == "verify"
        ok = runs.version != BROKEN
        return {"roles": {"reader": {"ok": ok, "status": 200 if ok else 401, "message": "no"}}}


def mount_entry(version: str = OLD, **options: str) -> dict[str, Any]:
    """A mount that is tuned to a version."""
    return {"plugin_version": version, "options": dict(options)}
