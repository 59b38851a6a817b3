"""A node that is cut off from the others: an apply goes on without it, and it never answers wrong.

The network is divided by namespaces where they can be made, else by proxies: the output says so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from support.cluster import ServerNode, running_cluster, wait_until
from support.cluster_operator import ClusterOperator
from support.partition import Network, divisible_network

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(300),
]
POLICIES, SECRETS = 900, 100
UNREACHABLE = 69
ASKED = (("plan", "--detailed-exitcode"), ("plan",), ("status",), ("apply", "-y"))
"""What a node without the others is asked."""


def manifest_text() -> str:
    lines = ["version: 1", "manifest: divided", "mounts: {}", "policies:"]
    rule = 'rules: {{"secret/data/{0}": [read]}}'
    lines += [f"  divided-{number:03}: {{{rule.format(number)}}}" for number in range(POLICIES)]
    lines += ["engines:", "  divided-kv:", "    type: kv", "    version: 2", "    secrets:"]
    secret = "{user: {value: app}, password: {generate: {length: 20}}}"
    lines += [f"      s{number:03}: {secret}" for number in range(SECRETS)]
    return "\n".join((*lines, ""))


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with divisible_network() as made:
        print(f"divided by {made.name}")
        yield made


@pytest.fixture(scope="module")
def operator(network: Network, tmp_path_factory) -> Iterator[ClusterOperator]:
    with running_cluster(place=network.place) as cluster:
        folder = tmp_path_factory.mktemp("divided")
        (folder / "mounts.yaml").write_text(manifest_text())
        yield ClusterOperator(cluster, folder)


def test_an_apply_outlives_a_partition_whose_minority_never_answers_wrong(
    operator: ClusterOperator, network: Network
):
    cluster = operator.cluster
    lonely = cluster.leader()
    with operator.running(lonely, "apply", "-y") as process:
        operator.wait_for(process, "divided", 100)
        network.cut(cluster, lonely)
        began = time.monotonic()
        assert_never_wrong(operator, lonely)  # while it may still take itself for the leader
        summary = operator.done(process)["summary"]
    print(f"{network.name}: applied {time.monotonic() - began:.0f} s after the cut")
    assert (summary["failed"], summary["create"] >= POLICIES + SECRETS) == (0, True), summary
    others = [one for one in cluster.nodes if one is not lonely]
    wait_until(lambda: any(cluster.health(one) == 200 for one in others), "no new leader")
    leader = next(one for one in others if cluster.health(one) == 200)
    assert cluster.health(lonely) == 429, "it is a standby that serves reads"
    assert cluster.call(lonely, "GET", "sys/policies/acl/default")[0] == 200
    # The minority knows nothing of this: without care it would say "no changes".
    assert cluster.call(leader, "DELETE", "sys/policies/acl/divided-007")[0] == 204
    assert_never_wrong(operator, lonely)
    planned = operator.run(lonely, "plan")  # the others are named, so they are asked
    assert [one["path"] for one in planned["actions"]] == ["sys/policies/acl/divided-007"]
    network.heal(cluster, lonely)
    cluster.wait_ready()
    operator.run(lonely, "apply", "-y")
    for node in cluster.nodes:
        assert cluster.served_by(node) == node.name
        assert operator.run(node, "plan")["actions"] == []
    for number in range(SECRETS):
        path = f"divided-kv/metadata/s{number:03}"
        answer = cluster.call(cluster.leader(), "GET", path)[1]
        assert answer["data"]["current_version"] == 1


def assert_never_wrong(operator: ClusterOperator, lonely: ServerNode) -> None:
    """A node without the others is no source of answers: each command says so."""
    with contextlib.ExitStack() as stack:
        words = [(*one, "--timeout", "4s") for one in ASKED]
        asked = [stack.enter_context(operator.running(lonely, *one, alone=True)) for one in words]
        for process in asked:
            out, err = process.communicate(timeout=60)
            assert process.returncode == UNREACHABLE, (process.args, process.returncode, out, err)
