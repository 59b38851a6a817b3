"""Rotations under load on three nodes, and with the leader killed in the middle of one."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.cli import checked_envelope
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import register_engine, skyflowctl
from support.emulator import RunningEmulator
from support.rotation_load import (
    Door,
    Minted,
    Read,
    Readers,
    Wanted,
    cut_overs,
    failures,
    held_rotation,
)
from support.stack import BIN, clean_environ

from skyflowctl.version import semver

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(240),
]

MOUNTS = ("orders", "payments", "purchases")
MANIFEST = "version: 1\nmanifest: load\nplugin: {name: skyflow, version: %s}\nmounts:\n" + "".join(
    f"""  {name}:
    credentials: {{file: {name}.json}}
    rotation: {{retire_margin: 2s}}
    roles: {{reader: {{role_ids: [r-reader]}}, writer: {{role_ids: [r-writer]}}}}
"""
    for name in MOUNTS
)
ROTATED = "payments"
WANTED = [Wanted(f"skyflow/{name}", role) for role in ("reader", "writer") for name in MOUNTS]
CLIENTS = 9
# Three nodes share the machine that one has alone.
PACE = 0.03
TOKEN_SECONDS = 2
ROTATIONS = 10
READS = 5_000
BETWEEN = 100
LONGEST_FAILOVER = 30.0


@dataclass
class Site:
    """A cluster with three applied mounts, and the folder of their manifest."""

    cluster: ServerCluster
    emulator: RunningEmulator
    folder: Path

    def environ(self) -> dict[str, str]:
        """What names every node, the emulator's host and the operator's token."""
        return {
            "SKYFLOWCTL_NODES": ",".join(node.address for node in self.cluster.nodes),
            "SKYFLOWCTL_ALLOW_HOSTS": self.emulator.host,
            "SSL_CERT_FILE": str(self.bundle()),
        }

    def bundle(self) -> Path:
        """Both CAs: the cluster's and the emulator's are not the same."""
        both = self.folder / "bundle.pem"
        both.write_text(self.cluster.ca.read_text() + self.emulator.ca.read_text())
        return both

    def run(self, node: ServerNode, *args: str, code: int = 0) -> dict[str, Any]:
        """One command as a process; its envelope."""
        done = skyflowctl(
            self.cluster, node, self.folder, *args, "-o", "json", **self.environ()
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return checked_envelope(done.stdout)

    def start(self, node: ServerNode, *args: str) -> subprocess.Popen[str]:
        """The same, still running."""
        return subprocess.Popen(
            [os.fspath(BIN / "skyflowctl"), *args, "-o", "json"],
            env=self.targeting(node),
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def targeting(self, node: ServerNode) -> dict[str, str]:
        """The whole environment of a command with one node as its address."""
        return (
            clean_environ()
            | self.environ()
            | {
                "HOME": str(self.folder),
                "BAO_ADDR": node.address,
                "BAO_TOKEN": self.cluster.token,
                "BAO_CACERT": str(self.cluster.ca),
            }
        )

    def rotate_held(self, node: ServerNode, *args: str) -> list[dict[str, Any]]:
        """A rotation whose commits wait for the readers; its outcomes."""
        words = ("rotate", *args, "-y", "-o", "json")
        environ = self.targeting(node) | {"OPERATOR": self.emulator.operator_token.reveal()}
        done = held_rotation(words, BETWEEN, self.audit_logs(), environ, self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        outcomes: list[dict[str, Any]] = checked_envelope(done.stdout)["data"]["mounts"]
        return outcomes

    def by_operator(self) -> tuple[str, ...]:
        """The words with which Skyflow makes the new keys, and deletes the old ones."""
        found = self.emulator
        words = ("--operator-token", "env:OPERATOR", "--account-id", found.account_id)
        return ("--generate", *words, "--management-host", found.host)

    def successor(self, name: str) -> str:
        """A file with a new key of a mount's account; its name."""
        account = json.loads((self.folder / f"{name}.json").read_text())["clientID"]
        text = self.emulator.control.create_key(account).reveal()
        file = self.folder / f"{json.loads(text)['keyID']}.json"
        file.write_text(text)
        file.chmod(0o600)
        return file.name

    def config(self, node: ServerNode, name: str) -> dict[str, Any]:
        """A mount's config as one node has it; empty while it gives none."""
        try:
            status, body, _ = self.cluster.call(node, "GET", f"skyflow/{name}/config")
        except OSError:
            return {}
        return body["data"] if status == 200 else {}

    def readers(self) -> Readers:
        doors = [Door(node.name, node.address) for node in self.cluster.nodes]
        token, ca = self.cluster.token, self.cluster.ca
        return Readers(doors, WANTED, token, ca, clients=CLIENTS, pace=PACE)

    def audit_logs(self) -> list[Path]:
        return [node.audit_log for node in self.cluster.nodes]


@pytest.fixture(scope="module")
def site(emulator: RunningEmulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("load")
    (folder / "mounts.yaml").write_text(MANIFEST % semver())
    for name in MOUNTS:
        file = folder / f"{name}.json"
        file.write_text(emulator.new_account("r-reader", "r-writer"))
        file.chmod(0o600)
    with running_cluster() as cluster:
        register_engine(cluster, emulator, tmp_path_factory.mktemp("copy"))
        made = Site(cluster, emulator, folder)
        # Before the first token: the engine remembers the longest life that it has seen.
        emulator.control.set_token_lifetime(TOKEN_SECONDS)
        made.run(cluster.leader(), "apply", "-y")
        for node in cluster.nodes:
            wait_until(lambda node=node: every_mount_mints(made, node), f"{node.name} mints not")
        yield made
        emulator.control.set_token_lifetime(3600)


def every_mount_mints(site: Site, node: ServerNode) -> bool:
    replies = [
        site.cluster.call(node, "GET", f"{one.mount}/creds/{one.role}") for one in WANTED
    ]  # fmt: skip
    return all(
        status == 200 and headers.get("x-vault-raft-node-id") == node.name
        for status, _, headers in replies
    )


def check_spread(reads: list[Read], nodes: list[ServerNode]) -> None:
    """Every node has served its share itself: no read was forwarded."""
    assert all(one.served_by == one.door for one in reads if one.good)
    shares = {node.name: sum(one.served_by == node.name for one in reads) for node in nodes}
    assert min(shares.values()) >= len(reads) / len(nodes) / 3, shares


def test_no_read_fails_on_any_node_while_credentials_are_replaced(site: Site) -> None:
    leader, standby = site.cluster.leader(), site.cluster.standbys()[0]
    minted = Minted(site.emulator.control)
    site.emulator.control.reset_log()
    rotated, begun = [], time.time()
    with site.readers() as clients:
        clients.wait_for(BETWEEN)
        for number in range(ROTATIONS):
            file = site.successor(ROTATED)
            asked = (leader, standby)[number % 2]
            (done,) = site.rotate_held(asked, ROTATED, "--credentials", f"file:{file}")
            assert done["result"] == "rotated", done
            rotated.append((done["from"], done["to"]))
            if number == ROTATIONS // 2:
                minted.collect()
        everything = site.rotate_held(standby, "--all", "--retire-old", *site.by_operator())
        clients.wait_for(READS)
    minted.collect()
    assert failures(clients.reads) == []
    check_spread(clients.reads, site.cluster.nodes)
    replaced = cut_overs(site.audit_logs(), f"skyflow/{ROTATED}", begun)
    rotated += [(one["from"], one["to"]) for one in everything if one["name"] == ROTATED]
    assert len(replaced) == len(rotated) == ROTATIONS + 1
    for (old, _), one in zip(rotated, replaced, strict=True):
        assert len(one.reads(clients.reads)) >= BETWEEN, one
        assert old not in minted.keys_of(r for r in clients.reads if r.begun > one.commit)
    check_retired(site, everything)


def check_retired(site: Site, everything: list[dict[str, Any]]) -> None:
    """Each mount was rotated once by --all, and Skyflow does not know its old key any more."""
    assert {one["name"]: one["result"] for one in everything} == dict.fromkeys(MOUNTS, "rotated")
    accounts = site.emulator.control.state()["accounts"].values()
    known = {key for account in accounts for key in account["keys"]}
    assert known.isdisjoint(one["from"] for one in everything)
    assert known >= {one["to"] for one in everything}


def test_a_leader_killed_in_the_middle_costs_the_failover_and_no_more(
    site: Site, record_property
) -> None:
    cluster = site.cluster
    leader, survivors = cluster.leader(), cluster.standbys()
    minted = Minted(site.emulator.control)
    site.emulator.control.reset_log()
    old = site.config(leader, ROTATED)["key_id"]
    file = site.successor(ROTATED)
    new = file.removesuffix(".json")
    command = ("rotate", ROTATED, "--credentials", f"file:{file}", "-y")
    with site.readers() as clients:
        clients.wait_for(BETWEEN)
        running = site.start(survivors[0], *command, "--watch", "10s")
        try:
            wait_until(lambda: site.config(leader, ROTATED)["key_id"] == new, "not written")
            clients.wait_for(len(clients.reads) + BETWEEN)
            assert site.config(leader, ROTATED)["rotation"]["state"] == "open"
            killed = time.time()
            leader.kill()
            over = failover_end(site, clients, survivors, killed)
            _, errors = running.communicate(timeout=90)
        finally:
            running.kill()
            running.communicate()
        cluster.start(leader)
        cluster.wait_ready()
        wait_until(lambda: every_mount_mints(site, leader), f"{leader.name} is not back")
        back = time.time()
        assert running.returncode in {0, 3}, errors
        finish(site, survivors[0], command, new)
        done = time.time()
        clients.wait_for(len(clients.reads) + 3 * BETWEEN)
    minted.collect()
    counted = check_failures(clients.reads, leader, killed, over, back)
    for name, value in zip(("dead_node", "failover"), counted, strict=True):
        record_property(f"reads_failed_{name}", value)
    record_property("failover_seconds", round(over - killed, 2))
    assert site.config(cluster.leader(), ROTATED)["key_id"] == new
    late = [one for one in clients.reads if one.begun > done and one.mount.endswith(ROTATED)]
    assert {one.served_by for one in late if one.good} == {node.name for node in cluster.nodes}
    assert old not in minted.keys_of(late)


def failover_end(site: Site, clients: Readers, survivors: list[ServerNode], killed: float) -> float:
    """When the first good answers came from every survivor after one of them led."""
    led: list[float] = []

    def leads() -> bool:
        if any(site.cluster.health(node) == 200 for node in survivors):
            led.append(time.time())
        return bool(led)

    wait_until(leads, "no new leader", LONGEST_FAILOVER, 0.05)
    first: dict[str, float] = {}

    def all_answer() -> bool:
        for one in list(clients.reads):
            if one.good and one.begun > led[0]:
                first.setdefault(one.door, one.ended)
        return {node.name for node in survivors} <= set(first)

    wait_until(all_answer, "a survivor does not answer", LONGEST_FAILOVER, 0.05)
    over = max(first[node.name] for node in survivors)
    assert over - killed < LONGEST_FAILOVER
    return over


def finish(site: Site, node: ServerNode, command: tuple[str, ...], new: str) -> None:
    """The same command again ends what the dead leader left, unless it is done already."""
    current = site.config(site.cluster.leader(), ROTATED)
    if current["key_id"] == new and current["rotation"]["state"] != "open":
        return
    (done,) = site.run(node, *command)["data"]["mounts"]
    assert (done["result"], done["live_key_id"]) == ("rotated", new), done


def check_failures(
    reads: list[Read], dead: ServerNode, killed: float, over: float, back: float
) -> tuple[int, int]:
    """Every failure is the dead node's own, or lies in the failover; how many of each."""
    failed = failures(reads)
    own = [one for one in failed if one.door == dead.name]
    others = [one for one in failed if one.door != dead.name]
    assert all(one.ended >= killed and one.begun <= back for one in own), own[-1]
    outside = [one for one in others if one.ended < killed or one.begun > over]
    assert outside == []
    return len(own), len(others)
