"""``plugin upgrade`` on three nodes, each with a plugin directory of its own."""

from __future__ import annotations

import json
import threading
import urllib.error
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import Tenant, new_tenant, skyflowctl
from support.emulator import RunningEmulator, running_emulator
from support.upgrading import NEW, OLD, build_version, version_source

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(240),
]
SPOILED, BROKEN = "v1.0.2", "v1.0.3"
CLIENTS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upgrade")


@pytest.fixture(scope="module")
def service() -> Iterator[RunningEmulator]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def cluster(service: RunningEmulator, folder: Path) -> Iterator[ServerCluster]:
    with running_cluster(shared_plugins=False, voting=False) as running:
        register(running, service, folder, OLD)
        yield running


def register(cluster: ServerCluster, service: RunningEmulator, folder: Path, version: str) -> None:
    """Build a version into every node's plugin directory, and register it."""
    source = version_source(folder, version, broken=version == BROKEN)
    entry = build_version(source, [node.plugin_dir for node in cluster.nodes], version) | {
        "args": ["--allow-host", service.host],
        "env": [f"SSL_CERT_FILE={service.ca}"],
    }
    where = "sys/plugins/catalog/secret/skyflow"
    assert cluster.call(cluster.leader(), "PUT", where, entry)[0] == 204


@pytest.fixture(scope="module")
def tenants(cluster: ServerCluster, service: RunningEmulator, folder: Path) -> list[Tenant]:
    """The mount that is upgraded, and another one; both serve on every node."""
    made = [new_tenant(cluster, service, name, "r-reader") for name in ("upgraded", "other")]
    for tenant in made:
        body = {"role_ids": ["r-reader"], "cas": 0}
        leader = cluster.leader()
        assert tenant.call(leader, "POST", "roles/reader", body)[0] == 200
        body = {"credentials_json": tenant.credentials}
        assert tenant.call(leader, "POST", "config", body)[0] == 200
        for node in cluster.nodes:
            tenant.wait_for_key(node, "reader")
    # Mounted before them: an enable without a version takes the newest.
    for version in (NEW, SPOILED, BROKEN):
        register(cluster, service, folder, version)
    return made


@pytest.fixture(autouse=True)
def _on_the_old_version(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> Iterator[None]:
    yield
    upgrade(cluster, folder, "rollback", *(one.path for one in tenants), "--to", OLD)


def upgrade(
    cluster: ServerCluster, folder: Path, verb: str, *args: str, code: int = 0
) -> dict[str, Any]:
    """Run ``plugin upgrade`` or ``plugin rollback`` with every node named."""
    nodes = [word for node in cluster.nodes for word in ("--node", node.address)]
    words = ("plugin", verb, *args, *nodes, "-y", "-o", "json")
    done = skyflowctl(cluster, cluster.leader(), folder, *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def runs(cluster: ServerCluster, path: str) -> set[str]:
    """The versions that the nodes say they run; each must also mint itself."""
    for node in cluster.nodes:
        status, _, headers = cluster.call(node, "GET", f"{path}/creds/reader")
        assert (status, headers["x-vault-raft-node-id"]) == (200, node.name)
    answers = [cluster.call(node, "GET", f"sys/mounts/{path}")[1] for node in cluster.nodes]
    return {one["data"]["running_plugin_version"] for one in answers}


class NodesLoad:
    """Clients that read creds of two mounts at every node, and never try again."""

    def __init__(self, cluster: ServerCluster, paths: Sequence[str]) -> None:
        self.seen: dict[str, Counter[int]] = {path: Counter() for path in paths}
        self._cluster = cluster
        self._end = threading.Event()
        pairs = [(node, path) for path in paths for node in cluster.nodes] * CLIENTS
        self._threads = [
            threading.Thread(target=self._read, args=pair) for pair in pairs[: 2 * CLIENTS]
        ]

    def _read(self, node: ServerNode, path: str) -> None:
        while not self._end.wait(0.02):
            try:
                status = self._cluster.call(node, "GET", f"{path}/creds/reader")[0]
            except (OSError, urllib.error.URLError):
                status = 0
            self.seen[path][status] += 1

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for one in self._threads:
            one.join()


def test_under_load_no_request_fails_on_any_node(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> None:
    mount, other = (one.path for one in tenants)
    with NodesLoad(cluster, [mount, other]) as load:
        done = upgrade(cluster, folder, "upgrade", mount, "--to", NEW)
    (row,) = done["data"]["mounts"]
    reloads = [step["node"] for step in row["steps"] if step["name"] == "reload"]
    assert reloads[-1] == cluster.leader().address
    assert sorted(reloads) == sorted(node.address for node in cluster.nodes)
    assert runs(cluster, mount) == {NEW}
    assert runs(cluster, other) == {OLD}
    assert set(load.seen[other]) == {200}
    assert set(load.seen[mount]) == {200}
    assert min(load.seen[mount][200], load.seen[other][200]) > CLIENTS


def test_a_file_that_one_node_lacks_is_refused_before_the_first_write(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> None:
    standby = cluster.standbys()[0]
    launcher = standby.plugin_dir / f"skyflow-{NEW}"
    away = launcher.rename(launcher.with_name("away"))
    try:
        refused = upgrade(cluster, folder, "upgrade", tenants[0].path, "--to", NEW, code=5)
    finally:
        away.rename(launcher)
    (error,) = refused["errors"]
    assert error["code"] == "plugin-file-missing"
    assert standby.address in error["summary"]
    live = cluster.call(standby, "GET", f"sys/mounts/{tenants[0].path}")[1]["data"]
    assert live["plugin_version"] == OLD
    assert runs(cluster, tenants[0].path) == {OLD}


def test_a_wrong_digest_on_one_standby_goes_back_on_every_node(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> None:
    standby = cluster.standbys()[-1]
    launcher = standby.plugin_dir / f"skyflow-{SPOILED}"
    launcher.chmod(0o755)
    launcher.write_text(launcher.read_text() + "\n# changed\n")
    mount, other = (one.path for one in tenants)
    with NodesLoad(cluster, [other]) as load:
        failed = upgrade(cluster, folder, "upgrade", mount, other, "--to", SPOILED, code=3)
    assert [one["result"] for one in failed["data"]["mounts"]] == ["rolled_back", "not_started"]
    assert "checksums did not match" in failed["errors"][0]["why"]
    assert runs(cluster, mount) == {OLD}
    assert set(load.seen[other]) == {200}


def test_a_version_that_cannot_mint_reaches_one_standby_only(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> None:
    mount = tenants[0].path
    failed = upgrade(cluster, folder, "upgrade", mount, "--to", BROKEN, code=3)
    (row,) = failed["data"]["mounts"]
    assert row["result"] == "rolled_back"
    assert [step["name"] for step in row["steps"]] == ["tune", "reload", "verify", "rollback"]
    assert runs(cluster, mount) == {OLD}


def test_every_node_must_be_named(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> None:
    words = ("plugin", "upgrade", tenants[0].path, "--to", NEW, "-y", "-o", "json")
    done = skyflowctl(cluster, cluster.leader(), folder, *words)
    assert done.returncode == 5
    assert [one["code"] for one in json.loads(done.stdout)["errors"]] == ["unnamed-nodes"]


def test_a_named_node_that_is_down_is_refused_although_the_cluster_forgot_it(
    cluster: ServerCluster, tenants: list[Tenant], folder: Path
) -> None:
    """It would start with the old version later, or not at all."""
    standby = cluster.standbys()[0]
    standby.kill()
    try:
        wait_until(lambda: standby.address not in listed(cluster), "the dead node stays listed", 60)
        refused = upgrade(cluster, folder, "upgrade", tenants[0].path, "--to", NEW, code=5)
    finally:
        cluster.start(standby)
        cluster.wait_ready(voting=False)
    (error,) = refused["errors"]
    assert error["code"] == "nodes-absent"
    assert standby.address in error["summary"]
    assert runs(cluster, tenants[0].path) == {OLD}


def listed(cluster: ServerCluster) -> set[str]:
    """The nodes that the leader knows of now."""
    nodes = cluster.call(cluster.leader(), "GET", "sys/ha-status")[1]["data"]["nodes"]
    return {one["api_address"] for one in nodes}
