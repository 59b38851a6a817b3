"""Every node of a cluster is asked itself, and what is wrong with one is told apart from the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.cli import checked_envelope
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import Tenant, new_tenant, register_engine, skyflowctl
from support.emulator import RunningEmulator

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def tenant(emulator: RunningEmulator, tmp_path_factory) -> Iterator[Tenant]:
    with running_cluster(shared_plugins=False) as cluster:
        register_engine(cluster, emulator, tmp_path_factory.mktemp("copy"))
        made = new_tenant(cluster, emulator, "t", "r-reader")
        leader = cluster.leader()
        role = {"role_ids": ["r-reader"], "cas": 0}
        assert made.call(leader, "POST", "roles/reader", role)[0] == 200
        config = {"credentials_json": made.credentials}
        assert made.call(leader, "POST", "config", config)[0] == 200
        for node in cluster.nodes:
            made.wait_for_key(node, "reader")
        yield made


class Operator:
    """Runs commands against one node, with all or some of the nodes named."""

    def __init__(self, cluster: ServerCluster, folder: Any) -> None:
        self.cluster = cluster
        self.folder = folder

    def data(self, node: ServerNode, *words: str, code: int = 0, named: bool = True) -> Any:
        every = ",".join(one.address for one in self.cluster.nodes) if named else ""
        done = skyflowctl(
            self.cluster, node, self.folder, *words, "-o", "json", SKYFLOWCTL_NODES=every
        )
        assert done.returncode == code, done.stdout + done.stderr
        return checked_envelope(done.stdout)["data"]

    def states(self, node: ServerNode, *words: str, code: int = 0) -> dict[str, str]:
        """The state of each node by its name, by one command."""
        names = {one.address: one.name for one in self.cluster.nodes}
        nodes = self.data(node, *words, code=code)["nodes"]
        return {names[one["node"]]: one["state"] for one in nodes}


@pytest.fixture
def operator(tenant: Tenant, tmp_path) -> Operator:
    return Operator(tenant.cluster, tmp_path)


COMMANDS = (("health",), ("status",), ("plugin", "list"))


def well(cluster: ServerCluster) -> dict[str, str]:
    leader = cluster.leader()
    return {one.name: "active" if one is leader else "standby" for one in cluster.nodes}


def test_three_nodes_that_are_well(tenant: Tenant, operator: Operator):
    cluster = tenant.cluster
    for words in COMMANDS:
        assert operator.states(cluster.standbys()[0], *words) == well(cluster)
    nodes = operator.data(cluster.leader(), "plugin", "list")["nodes"]
    running = {one["running"][tenant.path] for one in nodes}
    assert len(running) == 1
    assert len(running.pop()) == 64
    assert all(abs(one["clock_skew_seconds"]) <= 1 for one in nodes)


def test_only_named_nodes_are_asked(tenant: Tenant, operator: Operator):
    leader = tenant.cluster.leader()
    for words in COMMANDS:
        nodes = operator.data(leader, *words, named=False)["nodes"]
        states = {one["node"]: one["state"] for one in nodes}
        assert states.pop(leader.address) == "active"
        assert list(states.values()) == ["not_asked"] * 2


def test_a_node_without_the_file_looks_healthy_and_is_found(tenant: Tenant, operator: Operator):
    cluster = tenant.cluster
    standby = cluster.standbys()[0]
    file = standby.plugin_dir / "skyflow"
    away = file.rename(standby.folder / "away")
    restart(cluster, standby)
    try:
        wait_until(lambda: cluster.served_by(standby) == standby.name, "it serves no reads", 60)
        assert cluster.health(standby) == 429, "by its own health it is well"
        for words in COMMANDS:
            found = operator.states(cluster.leader(), *words, code=6)
            assert found == {**well(cluster), standby.name: "plugin_missing"}, words
    finally:
        away.rename(file)
        restart(cluster, standby)
        cluster.wait_ready()


def test_a_standby_that_serves_no_reads_itself(tenant: Tenant, operator: Operator):
    cluster = tenant.cluster
    standby = cluster.standbys()[0]
    cluster.stanzas = "disable_standby_reads = true\n"
    restart(cluster, standby)
    try:
        leader = cluster.leader().name
        wait_until(lambda: cluster.served_by(standby) == leader, "it does not forward", 60)
        for words in COMMANDS:
            found = operator.states(cluster.leader(), *words)
            assert found == {**well(cluster), standby.name: "standby_forwards"}, words
    finally:
        cluster.stanzas = ""
        restart(cluster, standby)
        cluster.wait_ready()


def test_a_sealed_standby(tenant: Tenant, operator: Operator):
    cluster = tenant.cluster
    standby = cluster.standbys()[0]
    cluster.call(standby, "PUT", "sys/seal")
    wait_until(lambda: cluster.health(standby) == 503, "it is not sealed")
    try:
        for words in COMMANDS:
            found = operator.states(cluster.leader(), *words, code=6)
            assert found == {**well(cluster), standby.name: "sealed"}, words
    finally:
        restart(cluster, standby)
        cluster.wait_ready()


def test_a_standby_without_a_quorum(tenant: Tenant, operator: Operator):
    cluster = tenant.cluster
    survivor, *others = [*cluster.standbys(), cluster.leader()]
    for node in others:
        node.kill()
    try:
        assert cluster.health(survivor) == 429, "by its own health it is well"
        found = operator.states(survivor, "health", code=6)
        assert found == {
            survivor.name: "standby_without_leader",
            **{one.name: "unreachable" for one in others},
        }
    finally:
        for node in others:
            cluster.start(node)
        cluster.wait_ready()


def restart(cluster: ServerCluster, node: ServerNode) -> None:
    node.kill()
    cluster.start(node)
    wait_until(lambda: cluster.health(node) == 429, f"{node.name} is no standby", 60)
