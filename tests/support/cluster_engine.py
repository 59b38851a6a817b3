"""The engine on a cluster: one tenant's mount, its exchanges counted, and its audit trail."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyflowctl.secret import Secret
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target
from skyflowctl.version import semver
from support.cluster import ServerCluster, ServerNode, wait_until
from support.emulator import RunningEmulator
from support.plugin import build_from, copy_source
from support.stack import BIN, clean_environ

SERVED_BY = "x-vault-raft-node-id"
READ_ONLY = "cannot write to readonly storage"


def register_engine(cluster: ServerCluster, emulator: RunningEmulator, folder: Path) -> None:
    """Build the launcher into every node's plugin directory and register it once."""
    source = copy_source(folder)
    for plugins in {node.plugin_dir for node in cluster.nodes}:
        sha256 = build_from(source, plugins, "skyflow")
    entry = {
        "sha256": sha256,
        "command": "skyflow",
        "version": semver(),
        "args": ["--allow-host", emulator.host],
        "env": [f"SSL_CERT_FILE={emulator.ca}"],
    }
    path = "sys/plugins/catalog/secret/skyflow"
    status, body, _ = cluster.call(cluster.leader(), "PUT", path, entry)
    assert status == 204, body


@dataclass
class Tenant:
    """A mount with an account of its own at the emulator, so that its exchanges are known."""

    cluster: ServerCluster
    emulator: RunningEmulator
    path: str
    client_id: str
    credentials: str = field(repr=False)

    @property
    def key_id(self) -> str:
        return json.loads(self.credentials)["keyID"]

    def new_key(self) -> str:
        """Another key of the same account; from now on it is ``credentials``."""
        self.credentials = self.emulator.control.create_key(self.client_id).reveal()
        return self.credentials

    def call(self, node: ServerNode, method: str, path: str, body: object | None = None):
        """One request below the mount: status, its data, and which node served it."""
        status, answer, headers = self.cluster.call(node, method, f"{self.path}/{path}", body)
        return status, answer.get("data") or {}, headers.get(SERVED_BY)

    def exchanges(self) -> int:
        """How many assertions of this account the token service has seen."""
        return sum(one["client_id"] == self.client_id for one in self.emulator.control.log())

    def creds_key(self, node: ServerNode, role: str) -> str:
        """The key id behind a token from one node, which must have served it itself."""
        status, data, served = self.call(node, "GET", f"creds/{role}")
        if status != 200:
            return ""
        assert served == node.name, f"{node.name} was asked, {served} answered"
        return data["key_id"]

    def wait_for_key(self, node: ServerNode, role: str, seconds: float = 15) -> None:
        """Wait until this node's own tokens come from the newest key."""
        what = f"{node.name} does not use {self.key_id}"
        wait_until(lambda: self.creds_key(node, role) == self.key_id, what, seconds, 0.02)


def new_tenant(cluster: ServerCluster, emulator: RunningEmulator, name: str, *roles: str) -> Tenant:
    """Enable a mount and wait until every node has it; nothing is configured yet."""
    credentials = emulator.new_account(*roles)
    client_id = json.loads(credentials)["clientID"]
    path = f"skyflow/{name}-{secrets.token_hex(3)}"
    tenant = Tenant(cluster, emulator, path, client_id, credentials)
    status, body, _ = cluster.call(
        cluster.leader(), "POST", f"sys/mounts/{path}", {"type": "skyflow"}
    )
    assert status == 204, (body, cluster.tail())
    for node in cluster.nodes:
        what = f"{node.name} has no {path}"
        wait_until(lambda node=node: tenant.call(node, "GET", "config")[0] == 200, what, 20)
    return tenant


def fresh_gateway(cluster: ServerCluster, node: ServerNode) -> Gateway:
    """The gateway of a new process: nothing of the cluster's state is known to it."""
    target = Target(
        address=node.address,
        namespace="",
        token=Secret(cluster.token),
        source="flags",
        ca_cert=str(cluster.ca),
        nodes=(),
    )
    return Gateway(HttpTransport(target, run_id="fresh"))


def audited(node: ServerNode, path: str) -> list[dict[str, Any]]:
    """The responses about one path in a node's own audit file."""
    entries = [json.loads(line) for line in node.audit_log.read_text().splitlines()]
    return [
        one for one in entries if one["type"] == "response" and one["request"].get("path") == path
    ]


def skyflowctl(
    cluster: ServerCluster, node: ServerNode, folder: Path, *args: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process, with one node as its address."""
    environ = clean_environ() | {
        "HOME": str(folder),
        "BAO_ADDR": node.address,
        "BAO_TOKEN": cluster.token,
        "BAO_CACERT": str(cluster.ca),
        **env,
    }
    return subprocess.run(
        [os.fspath(BIN / "skyflowctl"), *args],
        env=environ,
        cwd=folder,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
