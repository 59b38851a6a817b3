"""One apply of 1,000 objects on three nodes, while the cluster loses its leader."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import register_engine
from support.emulator import RunningEmulator
from support.stack import BIN, clean_environ

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(300),
]
OBJECTS = 1_000
MOUNTS, SECRETS = 10, 100


def manifest_text(name: str) -> str:
    """Ten mounts with two roles and their logins, 100 KV secrets, and policies up to 1,000."""
    lines = ["version: 1", f"manifest: {name}", f"auth: {{{name}: {{type: approle}}}}", "mounts:"]
    for number in range(MOUNTS):
        lines += [f"  {name}-{number}:", "    credentials: {file: key.json}", "    roles:"]
        for role in ("reader", "writer"):
            login = f"{name}-{number}-{role}"
            lines += [f"      {role}:", f"        role_ids: [r-{role}]"]
            lines += [f"        consumers: {{{name}: {{{login}: {{token_ttl: 20m}}}}}}"]
    lines += ["engines:", f"  {name}-kv:", "    type: kv", "    version: 2", "    secrets:"]
    secret = "{user: {value: app}, password: {generate: {length: 20}}}"
    lines += [f"      s{number:03}: {secret}" for number in range(SECRETS)]
    lines += ["policies:"]
    rule = 'rules: {{"secret/data/{0}": [read]}}'
    lines += [f"  {name}-{number:03}: {{{rule.format(number)}}}" for number in range(OBJECTS)]
    return "\n".join((*lines, ""))


@dataclass
class Operator:
    """Runs skyflowctl with every node of a cluster named."""

    cluster: ServerCluster
    emulator: RunningEmulator
    folder: Path

    @contextlib.contextmanager
    def running(self, first: ServerNode, *args: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command whose first address is this node's, at most until the block ends."""
        others = [one.address for one in self.cluster.nodes if one is not first]
        environ = clean_environ() | {
            "HOME": str(self.folder),
            "BAO_ADDR": first.address,
            "BAO_TOKEN": self.cluster.token,
            "BAO_CACERT": str(self.cluster.ca),
            "SKYFLOWCTL_NODES": ",".join(others),
            "SKYFLOWCTL_ALLOW_HOSTS": self.emulator.host,
            "SSL_CERT_FILE": str(self.emulator.ca),
        }
        with subprocess.Popen(
            [os.fspath(BIN / "skyflowctl"), *args, "-o", "json"],
            env=environ,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, first: ServerNode, *args: str, code: int = 0) -> dict[str, Any]:
        """Run a command to its end; see :meth:`done`."""
        with self.running(first, *args) as process:
            return self.done(process, code)

    def done(self, running: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
        """The data of a command, which ends with this code."""
        out, err = running.communicate(timeout=200)
        assert running.returncode == code, (running.returncode, out[-3000:], err[-3000:])
        return json.loads(out)["data"]

    def wait_for(self, process: subprocess.Popen[str], name: str, policies: int) -> None:
        """Wait until a running apply has written so many policies of a manifest."""

        def written() -> bool:
            assert process.poll() is None, ("it is over already", process.communicate())
            try:
                listed = self.cluster.call(self.cluster.leader(), "LIST", "sys/policies/acl")[1]
            except OSError:
                return False
            names = listed.get("data", {}).get("keys", [])
            return sum(one.startswith(f"{name}-") for one in names) >= policies

        wait_until(written, f"no {policies} policies are written", 90, 0.05)


@pytest.fixture(scope="module")
def operator(emulator: RunningEmulator, tmp_path_factory) -> Iterator[Operator]:
    with running_cluster() as cluster:
        folder = tmp_path_factory.mktemp("failover")
        register_engine(cluster, emulator, tmp_path_factory.mktemp("copy"))
        (folder / "key.json").write_text(emulator.new_account("r-reader", "r-writer"))
        (folder / "key.json").chmod(0o600)
        yield Operator(cluster, emulator, folder)


def step_down(cluster: ServerCluster, leader: ServerNode) -> None:
    assert cluster.call(leader, "PUT", "sys/step-down")[0] == 204


def kill_and_start(cluster: ServerCluster, leader: ServerNode) -> None:
    leader.kill()
    wait_until(lambda: cluster.leader() is not leader, "no new leader", 60)
    cluster.start(leader)


def restart_every_node(cluster: ServerCluster, leader: ServerNode) -> None:
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        cluster.start(node)


EVENTS = {100: step_down, 350: kill_and_start, 650: restart_every_node}
"""By the number of policies that are written by then."""


def test_one_apply_of_a_thousand_objects_writes_each_once(operator: Operator):
    cluster = operator.cluster
    (operator.folder / "mounts.yaml").write_text(manifest_text("failover"))
    with operator.running(cluster.leader(), "apply", "-y") as process:
        for written, event in EVENTS.items():
            operator.wait_for(process, "failover", written)
            event(cluster, cluster.leader())
        summary = operator.done(process)["summary"]
    assert (summary["failed"], summary["create"] >= OBJECTS) == (0, True), summary
    cluster.wait_ready()
    for node in cluster.nodes:
        assert cluster.served_by(node) == node.name  # each standby reads by itself
        planned = operator.run(node, "plan")
        assert (planned["actions"], planned["drift"]) == ([], [])
    assert_written_once(cluster, "failover")


def assert_written_once(cluster: ServerCluster, name: str) -> None:
    """Nothing was written twice: every version is the first."""

    def read(path: str) -> dict[str, Any]:
        return cluster.call(cluster.leader(), "GET", path)[1]["data"]

    for number in range(SECRETS):
        assert read(f"{name}-kv/metadata/s{number:03}")["current_version"] == 1
    for number in range(MOUNTS):
        mount = f"skyflow/{name}-{number}"
        config = read(f"{mount}/config")
        assert config["credential_version"] == 1
        roles = read(f"{mount}/roles?list=true")["key_info"]
        assert {one: role["version"] for one, role in roles.items()} == {"reader": 1, "writer": 1}
