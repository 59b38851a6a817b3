"""A three-node OpenBao raft cluster for tests: real TLS, static seal, one audit stanza.

Every node runs in its own folder, so that the audit stanzas are identical with a relative
path: a standby whose audit devices differ never serves a read itself. The plugin directory
is shared unless a node is given its own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.bao import _dev_certificate, bao_binary, free_port_pair
from support.tied import die_with_parent

# A server's own variable wins over one of the same name in a catalog entry.
_DROPPED = ("BAO_", "VAULT_", "SSL_CERT")
_CONFIG = """
storage "raft" {{
  path = "{folder}/data"
  node_id = "{name}"
  performance_multiplier = 1
{joins}}}
listener "tcp" {{
  address = "{host}:{port}"
  cluster_address = "{host}:{cluster_port}"
  tls_cert_file = "{cert}"
  tls_key_file = "{key}"
}}
api_addr = "https://{host}:{port}"
cluster_addr = "https://{advertised}"
plugin_directory = "{plugins}"
enable_response_header_raft_node_id = true
seal "static" {{
  current_key_id = "k1"
  current_key = "env://BAO_UNSEAL_KEY"
}}
audit "file" "main" {{
  options {{
    file_path = "audit.log"
  }}
}}
"""
_JOIN = """  retry_join {{
    leader_api_addr = "{address}"
    leader_ca_cert_file = "{ca}"
  }}
"""


@dataclass
class ServerNode:
    """One node: its folder holds ``audit.log``, ``server.log`` and its raft data.

    ``prefix`` is put before its command; ``advertised`` is where the other nodes find its raft.
    """

    name: str
    port: int
    folder: Path
    plugin_dir: Path
    address: str = ""
    process: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    advertised: str = ""

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def kill(self) -> None:
        """SIGKILL, as a machine that loses power."""
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(15)


@dataclass
class ServerCluster:
    """Three nodes that share a CA, an unseal key and a root token."""

    folder: Path
    ca: Path
    cert: Path
    key: Path
    unseal_key: str
    nodes: list[ServerNode]
    token: str = ""
    context: ssl.SSLContext | None = field(default=None, repr=False)
    stanzas: str = ""

    def call(
        self, node: ServerNode, method: str, path: str, body: object | None = None
    ) -> tuple[int, dict, dict[str, str]]:
        """One plain API call to one node: status, parsed body, headers in lower case."""
        request = urllib.request.Request(
            f"{node.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Request": "true"}
            | ({"X-Vault-Token": self.token} if self.token else {}),
        )
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=15) as reply:
                raw, status, headers = reply.read(), reply.status, reply.headers
        except urllib.error.HTTPError as error:
            raw, status, headers = error.read(), error.code, error.headers
        return status, json.loads(raw) if raw else {}, {k.lower(): v for k, v in headers.items()}

    def start(self, node: ServerNode) -> None:
        """Start, or start again, one node."""
        joins = "".join(
            _JOIN.format(address=other.address, ca=self.ca)
            for other in self.nodes
            if other is not node
        )
        config = node.folder / "bao.hcl"
        config.write_text(
            _CONFIG.format(
                folder=node.folder,
                name=node.name,
                host=node.host,
                port=node.port,
                cluster_port=node.port + 1,
                advertised=node.advertised or f"{node.host}:{node.port + 1}",
                joins=joins,
                cert=self.cert,
                key=self.key,
                plugins=node.plugin_dir,
            )
            + self.stanzas
        )
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)},
            "BAO_UNSEAL_KEY": self.unseal_key,
            "PLUGIN_UNIX_SOCKET_DIR": str(node.folder / "s"),
            "HOME": str(node.folder),
        }
        with (node.folder / "server.log").open("ab") as log:
            node.process = subprocess.Popen(
                [*node.prefix, bao_binary(), "server", "-config", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=node.folder,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def health(self, node: ServerNode) -> int:
        """A node's ``sys/health`` status; 0 when it does not answer."""
        try:
            return self.call(node, "GET", "sys/health")[0]
        except OSError:
            return 0

    def leader(self) -> ServerNode:
        """The active node, once there is one."""
        found: list[ServerNode] = []

        def search() -> bool:
            found[:] = [node for node in self.nodes if self.health(node) == 200]
            return len(found) == 1

        wait_until(search, "no active node")
        return found[0]

    def standbys(self) -> list[ServerNode]:
        """The nodes that answer as standbys now."""
        return [node for node in self.nodes if self.health(node) == 429]

    def wait_ready(self, *, voting: bool = True) -> None:
        """Wait for three voters, unless nothing depends on it, and for both standbys to
        serve reads themselves and forward writes."""
        wait_until(lambda: not voting or self.voters() == 3, "not three voters")
        wait_until(self._standbys_serve, "the standbys do not serve reads")

    def voters(self) -> int:
        """How many voters the active node counts; 0 when it cannot be asked."""
        try:
            status, body, _ = self.call(self.leader(), "GET", "sys/storage/raft/configuration")
        except OSError:
            return 0
        servers = body["data"]["config"]["servers"] if status == 200 else []
        return sum(bool(server["voter"]) for server in servers)

    def _standbys_serve(self) -> bool:
        standbys = self.standbys()
        return len(standbys) == 2 and all(
            self.served_by(node) == node.name and self._knows_leader(node) for node in standbys
        )

    def _knows_leader(self, node: ServerNode) -> bool:
        """Whether a node names the active one: a write sent to it is then forwarded."""
        try:
            body = self.call(node, "GET", "sys/leader")[1]
        except OSError:
            return False
        return body.get("leader_address") == self.leader().address

    def served_by(self, node: ServerNode, path: str = "sys/mounts") -> str:
        """The node id that really served a read sent to this node."""
        try:
            return self.call(node, "GET", path)[2].get("x-vault-raft-node-id", "")
        except OSError:
            return ""

    def tail(self) -> str:
        """The last lines of every node's log, for assertion messages."""
        logs = [(node.name, node.folder / "server.log") for node in self.nodes]
        return "\n".join(f"--- {name}\n{log.read_text()[-1500:]}" for name, log in logs)


def wait_until(condition, what: str, seconds: float = 60, pause: float = 0.1) -> None:
    """Poll until the condition holds; fail with ``what`` after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(pause)


@contextlib.contextmanager
def running_cluster(
    *,
    shared_plugins: bool = True,
    stanzas: str = "",
    voting: bool = True,
    place: Callable[[ServerNode], None] | None = None,
) -> Iterator[ServerCluster]:
    """Run three nodes and wait until all vote and the standbys serve reads.

    ``stanzas`` is added to the configuration of every node; without ``voting`` nobody waits
    the 20 s until the last node may vote: enough where no leader is lost. ``place`` may give a
    node another host before it starts.
    """
    folder = Path(tempfile.mkdtemp(prefix="sfc"))
    cluster = _prepare(folder, shared_plugins, place)
    cluster.stanzas = stanzas
    try:
        for node in cluster.nodes:
            cluster.start(node)
        _initialise(cluster)
        cluster.wait_ready(voting=voting)
        yield cluster
    except AssertionError as error:
        raise AssertionError(f"{error}\n{cluster.tail()}") from error
    finally:
        _stop(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(
    folder: Path, shared_plugins: bool, place: Callable[[ServerNode], None] | None
) -> ServerCluster:
    nodes = []
    ports: set[int] = set()
    while len(nodes) < 3:
        port = free_port_pair()
        if ports & {port - 1, port, port + 1}:
            continue
        ports |= {port, port + 1}
        name = f"n{len(nodes)}"
        home = folder / name
        plugins = folder / "plugins" if shared_plugins else home / "plugins"
        for made in (home / "s", plugins):
            made.mkdir(parents=True, exist_ok=True)
        node = ServerNode(name, port, home, plugins)
        if place:
            place(node)
        node.address = f"https://{node.host}:{port}"
        nodes.append(node)
    ca, cert, key = _dev_certificate(folder, *{node.host for node in nodes})
    unseal_key = base64.b64encode(secrets.token_bytes(32)).decode()
    context = ssl.create_default_context(cafile=str(ca))
    return ServerCluster(folder, ca, cert, key, unseal_key, nodes, context=context)


def _initialise(cluster: ServerCluster) -> None:
    first = cluster.nodes[0]
    wait_until(lambda: cluster.health(first) in {200, 429, 501, 503}, "the first node is dead")
    status, body, _ = cluster.call(
        first, "PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}
    )
    assert status == 200, body
    cluster.token = body["root_token"]


def _stop(cluster: ServerCluster) -> None:
    for node in cluster.nodes:
        if node.process and node.process.poll() is None:
            node.kill()
