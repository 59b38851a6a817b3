"""Nodes of a cluster that answer by a script, and a clock that waits for nobody."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from skyflowctl.clock import SystemClock
from skyflowctl.rotation.cluster import Cluster, NodeDisagreesError, open_nodes
from skyflowctl.rotation.model import Options, RotationJob
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.vault.connection import NotSentError
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.no_response import no_connection, no_response_error, unnamed_host
from skyflowctl.vault.responses import ClusterNode
from skyflowctl.vault.transport import Reply, Request, ServerInfo, make_reply
from support.transports import FakeTransport

PATH = "skyflow/order"
MINTS = {"ok": True, "status": 200, "message": ""}
REFUSED = {"ok": False, "status": 401, "message": "token service refused: 401"}
UNWELL = {"ok": False, "status": 503, "message": "try later"}
GONE = no_connection("GET", "", "https://x", NotSentError("connection refused"))
SILENT = no_response_error("GET", "", "https://x", "no answer in time")
PASSES_ON = unnamed_host("GET", "", "https://x")
OLD, NEW = "key-old", "key-new"


def index(value: int, cluster: str = "c1") -> str:
    raw = json.dumps({"cluster": cluster, "value": str(value)})
    return base64.b64encode(raw.encode()).decode()


def lagging() -> VaultError:
    return error_for(429, (), method="POST", path=PATH)


@dataclass
class FakeNode(FakeTransport):
    """A node with its own view; ``plan`` are failures of the next answers."""

    name: str
    node_id: str
    key: str = NEW
    version: int = 2
    applied: int = 100
    tells_index: bool = True
    cluster: str = "c1"
    sealed: bool = False
    roles: dict[str, Mapping[str, Any]] = field(default_factory=lambda: {"reader": MINTS})
    plan: list[VaultError | Callable[[], None]] = field(default_factory=list)
    down: VaultError | None = None
    creds: VaultError | None = None
    configured: bool = True
    reused: int = 0
    health: VaultError | None = None
    answered_as: str = ""
    seen: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    requests_made: int = 0
    closed: bool = False

    @property
    def cluster_id(self) -> str:
        return self.cluster

    def send(self, request: Request) -> Reply:
        """One request; see Transport."""
        path, headers = request.path, request.headers
        self.seen.append((path, headers or {}))
        if self.down is not None:
            raise self.down
        if path == "sys/health":
            body = {"cluster_id": self.cluster, "sealed": self.sealed, "initialized": True}
            return make_reply(200, body, {"X-Vault-Raft-Node-Id": self.node_id})
        if path == f"{PATH}/config/verify" and self.plan:
            step = self.plan.pop(0)
            if isinstance(step, VaultError):
                raise step
            step()
        self._check(headers or {})
        return self._answer(path)

    def _check(self, headers: Mapping[str, str]) -> None:
        asked = headers.get("X-Vault-Index")
        if asked and self.tells_index:
            assert headers["X-Vault-Inconsistent"] == "fail"
            if int(json.loads(base64.b64decode(asked))["value"]) > self.applied:
                raise lagging()

    def _answer(self, path: str) -> Reply:
        by = {"X-Vault-Raft-Node-Id": self.answered_as or self.node_id}
        headers = by | ({"X-Vault-Index": index(self.applied)} if self.tells_index else {})
        if path.startswith(f"{PATH}/creds/") and self.creds is not None:
            raise self.creds
        if path == f"{PATH}/health":
            if self.health is not None:
                raise self.health
            return make_reply(200, {"data": {"reuse": {"entries": self.reused}}}, headers)
        if path.startswith(PATH) and not self.configured:
            raise error_for(400, ("mount not configured",), method="POST", path=path)
        data: dict[str, Any] = {"key_id": self.key, "version": self.version, "roles": self.roles}
        return make_reply(200, {"data": data}, headers)

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Leader(FakeNode):
    """The way to the cluster: it lists the nodes and knows the newest index."""

    newest_index = index(100)
    named_nodes: tuple[str, ...] = ()
    listing: list[dict[str, Any]] | VaultError

    @property
    def server(self) -> ServerInfo:
        return ServerInfo("the server", ("leader", *self.named_nodes))

    def send(self, request: Request) -> Reply:
        """One request; see Transport."""
        path = request.path
        if path == "sys/ha-status":
            if isinstance(self.listing, VaultError):
                raise self.listing
            return make_reply(200, {"data": {"nodes": self.listing}}, {})
        if path == f"{PATH}/config":
            data = {"credentials_configured": True, "key_id": NEW, "version": 2}
            return make_reply(200, {"data": data}, {})
        return super().send(request)


def listed(*names: str, active: str = "a", **echoes: str) -> list[dict[str, Any]]:
    return [
        {"api_address": name, "active_node": name == active, "last_echo": echoes.get(name)}
        for name in names
    ]


class ScriptedCluster:
    """Three nodes a, b and c, with a as the leader, and a clock that waits for nobody."""

    def __init__(self) -> None:
        self.leader = Leader("cluster", "id-a")
        self.leader.listing = listed("a", "b", "c")
        self.nodes = {name: FakeNode(name, f"id-{name}") for name in "abc"}
        self.unnamed: set[str] = set()
        self.slept = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def connect(self, node: ClusterNode) -> Gateway | None:
        if node.api_address in self.unnamed:
            return None
        return Gateway(self.nodes[node.api_address])

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept += seconds
        self.on_sleep()
        time.sleep(0)

    @contextmanager
    def opened(self, **options: Any) -> Iterator[Cluster]:
        world = Dependencies(Gateway(self.leader), self.connect, SystemClock(), "run", self.sleep)
        job = RotationJob("order", PATH, Options(**options))
        with open_nodes(world, job) as nodes:
            yield nodes


def refused_by(cluster: ScriptedCluster, **more: Any) -> NodeDisagreesError:
    """Return the error of a proof that a node refuses."""
    with cluster.opened() as nodes, pytest.raises(NodeDisagreesError) as caught:
        nodes.verify(PATH, NEW, **more)
    return caught.value
