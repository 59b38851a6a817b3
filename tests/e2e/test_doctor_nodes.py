"""``doctor`` on nodes in trouble: a clock that differs, a sealed node, one that was not named."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import skyflowctl
from support.scripted import Answer, Seen, scripted
from support.stack import BIN, clean_environ


def health(ahead: int) -> dict[str, object]:
    return {
        "initialized": True,
        "sealed": False,
        "standby": False,
        "version": "2.7.2",
        "cluster_id": "c",
        "server_time_utc": int(time.time()) + ahead,
    }


@pytest.mark.parametrize(
    ("ahead", "grade", "said"), [(300, "bad", "ahead of"), (-20, "warning", "behind")]
)
def test_a_clock_that_differs_is_told_by_how_far(ahead, grade, said, tmp_path):
    def script(seen: Seen) -> Answer:
        if "sys/health" in seen.path:
            return Answer(body=health(ahead))
        return Answer(403, {"errors": ["permission denied"]})

    with scripted(Answer()) as server:
        server.script = script
        environ = {**clean_environ(), "HOME": str(tmp_path)}
        done = subprocess.run(
            [str(BIN / "skyflowctl"), "doctor", "--address", server.address, "-o", "json"],
            env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    found = json.loads(done.stdout)["data"]["findings"]
    clocks = [one for one in found if one["check"] == "nodes" and "clock" in one["summary"]]
    assert [one["grade"] for one in clocks if one["grade"] != "ok"] == [grade]
    assert said in clocks[0]["summary"]
    assert "timedatectl" in clocks[0]["fix"]
    looks = [one for one in server.seen if "standbycode" in one.path]
    assert len(looks) == 2, "the node once, and once the server as a whole"


def node_findings(
    cluster: ServerCluster, node: ServerNode, folder, *named: ServerNode, code: int
) -> dict[str, dict]:
    addresses = ",".join(one.address for one in named)
    done = skyflowctl(cluster, node, folder, "doctor", "-o", "json", SKYFLOWCTL_NODES=addresses)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)["data"]["findings"]
    names = {one.address: one.name for one in cluster.nodes}
    return {
        name: one
        for one in found
        if one["check"] == "nodes"
        for address, name in names.items()
        if address in one["summary"]
    }


@pytest.mark.real_server
@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(180)
def test_a_cluster_whose_standby_is_sealed(tmp_path):
    with running_cluster(voting=False) as cluster:
        leader, (standby, other) = cluster.leader(), cluster.standbys()
        well = node_findings(cluster, leader, tmp_path, standby, other, code=0)
        assert {one["grade"] for one in well.values()} == {"ok"}
        assert len(well) == 3
        alone = node_findings(cluster, leader, tmp_path, code=0)
        for node in (standby, other):
            assert alone[node.name]["grade"] == "unknown"
            assert f"skyflowctl doctor --node {node.address}" in alone[node.name]["fix"]
        cluster.call(standby, "PUT", "sys/seal")
        wait_until(lambda: cluster.health(standby) == 503, "it is not sealed")
        found = node_findings(cluster, leader, tmp_path, standby, other, code=6)
        assert {name: one["grade"] for name, one in found.items()} == {
            leader.name: "ok",
            other.name: "ok",
            standby.name: "bad",
        }
        assert found[standby.name]["summary"] == f"the node {standby.address} is sealed"
        assert f"bao operator unseal -address={standby.address}" in found[standby.name]["fix"]
