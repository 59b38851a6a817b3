"""What counts as a node's own proof, with nodes that answer by a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.scripted_nodes import (
    GONE,
    MINTS,
    NEW,
    OLD,
    PASSES_ON,
    PATH,
    REFUSED,
    SILENT,
    UNWELL,
    FakeNode,
    ScriptedCluster,
    index,
    lagging,
    listed,
    refused_by,
)

from skyflowctl.clock import SystemClock
from skyflowctl.errors import NotPermittedError, RefusedError
from skyflowctl.rotation.cluster import NodeDisagreesError, open_nodes
from skyflowctl.rotation.model import RotationJob
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


def test_every_node_is_asked_for_itself_and_for_nothing_older_than_the_write(
    cluster: ScriptedCluster,
):
    with cluster.opened() as nodes:
        assert nodes.names == ("a", "b", "c")
        proof = nodes.verify(PATH, NEW)
    assert (proof.nodes, proof.left_out, proof.polled) == (("a", "b", "c"), (), False)
    for node in cluster.nodes.values():
        asked = [headers for path, headers in node.seen if path == f"{PATH}/config/verify"]
        assert asked == [
            {
                "X-Vault-No-Request-Forwarding": "true",
                "X-Vault-Index": index(100),
                "X-Vault-Inconsistent": "fail",
            }
        ]
        assert [path for path, _ in node.seen if path != "sys/health"] == [f"{PATH}/config/verify"]
        assert node.closed
    assert not cluster.leader.closed


def test_a_polite_not_yet_is_asked_again(cluster: ScriptedCluster):
    cluster.nodes["b"].plan = [lagging(), lagging()]
    with cluster.opened() as nodes:
        assert nodes.verify(PATH, NEW).nodes == ("a", "b", "c")
    assert 0 < cluster.slept < 1


def test_an_old_answer_that_comes_with_an_index_is_waited_out(cluster: ScriptedCluster):
    slow = cluster.nodes["b"]
    slow.key = OLD
    slow.plan = [lambda: None, lambda: None, lambda: setattr(slow, "key", NEW)]
    with cluster.opened() as nodes:
        assert "b" in nodes.verify(PATH, NEW).nodes


def test_a_node_that_keeps_the_old_key_is_named_with_what_it_said(cluster: ScriptedCluster):
    cluster.nodes["c"].key = OLD
    (problem,) = refused_by(cluster).problems
    assert problem.summary.startswith("c does not prove")
    assert (NEW in problem.summary, OLD in problem.why) == (True, True)


def test_an_answer_of_another_node_does_not_count(cluster: ScriptedCluster):
    cluster.nodes["b"].answered_as = "id-a"
    (problem,) = refused_by(cluster).problems
    assert (problem.summary[0], problem.why) == ("b", "id-a answered")


def test_a_node_that_passes_requests_on_is_refused_before_anything_is_written(
    cluster: ScriptedCluster,
):
    cluster.nodes["b"].down = PASSES_ON
    with pytest.raises(RefusedError) as caught, cluster.opened():
        pass
    assert "passes the request on" in caught.value.problems[0].why


@pytest.mark.parametrize("answer", [REFUSED, UNWELL])
def test_every_role_must_mint(cluster: ScriptedCluster, answer: Mapping[str, Any]):
    cluster.nodes["b"].roles = {"reader": MINTS, "writer": answer}
    (problem,) = refused_by(cluster).problems
    assert problem.why == f"role writer: {answer['message']}"
    with cluster.opened() as nodes:
        proof = nodes.verify(PATH, NEW, roles_may_fail=frozenset({"writer"}))
    assert proof.nodes == ("a", "b", "c")


def test_a_refusal_is_final_soon_and_a_blip_is_waited_out(cluster: ScriptedCluster):
    cluster.nodes["b"].roles = {"reader": REFUSED}
    refused_by(cluster)
    assert cluster.slept < 1
    blip = cluster.nodes["b"]
    blip.roles = {"reader": UNWELL}
    blip.plan = [*[lambda: None] * 6, lambda: setattr(blip, "roles", {"reader": MINTS})]
    with cluster.opened() as nodes:
        assert "b" in nodes.verify(PATH, NEW).nodes


def test_nothing_minted_is_no_proof(cluster: ScriptedCluster):
    cluster.nodes["a"].roles = {}
    assert refused_by(cluster).problems[0].why == "it has minted nothing"


def test_a_dead_node_counts_once_the_cluster_has_given_it_up(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        cluster.nodes["a"].down = GONE
        waits = iter(range(100))

        def elect() -> None:
            if next(waits) == 5:
                cluster.leader.listing = listed("b", "c", active="b")

        cluster.on_sleep = elect
        proof = nodes.verify(PATH, NEW)
        assert (proof.nodes, proof.left_out) == (("b", "c"), ("a",))
        assert next(waits) > 5
        assert [one.code for one in nodes.warnings] == ["node-left-out"]
        cluster.nodes["a"].down = None
        assert nodes.verify(PATH, NEW).nodes == ("a", "b", "c")


def test_a_dead_node_that_is_listed_still_is_no_proof(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        cluster.nodes["b"].down = GONE
        with pytest.raises(NodeDisagreesError, match="b does not prove"):
            nodes.verify(PATH, NEW)
    assert cluster.slept >= 29


def test_a_dead_node_with_an_old_echo_is_given_up(cluster: ScriptedCluster):
    new, old = "2026-11-22T18:21:40.562986406Z", "2026-11-22T18:21:20.550743734Z"
    with cluster.opened() as nodes:
        cluster.nodes["b"].down = GONE
        cluster.leader.listing = listed("a", "b", "c", b=old, c=new)
        assert nodes.verify(PATH, NEW).left_out == ("b",)


def test_a_silent_node_may_come_back_and_is_never_given_up(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        cluster.nodes["b"].down = SILENT
        cluster.leader.listing = listed("a", "c")
        with pytest.raises(NodeDisagreesError) as caught:
            nodes.verify(PATH, NEW)
    assert "does not answer" in caught.value.problems[0].why


def test_when_no_node_can_be_reached_nothing_is_proved(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        for node in cluster.nodes.values():
            node.down = GONE
        cluster.leader.listing = []
        with pytest.raises(NodeDisagreesError) as caught:
            nodes.verify(PATH, NEW)
    assert len(caught.value.problems) == 3


def test_a_node_that_joins_meanwhile_is_proved_too(cluster: ScriptedCluster):
    cluster.nodes["d"] = FakeNode("d", "id-d")
    with cluster.opened() as nodes:
        cluster.leader.listing = listed("a", "b", "c", "d")
        assert nodes.verify(PATH, NEW).nodes == ("a", "b", "c", "d")


def test_a_node_that_joins_unnamed_is_no_proof(cluster: ScriptedCluster):
    cluster.unnamed = {"d"}
    with cluster.opened() as nodes:
        cluster.leader.listing = listed("a", "b", "c", "d")
        with pytest.raises(NodeDisagreesError, match=r"joined the cluster meanwhile.*: d"):
            nodes.verify(PATH, NEW)


def test_a_named_node_that_the_leader_does_not_list_is_proved_too(cluster: ScriptedCluster):
    """Cut off from its leader, a standby serves on from what it knew."""
    cluster.leader.listing = listed("a", "b")
    cluster.leader.named_nodes = ("b", "c")
    cluster.nodes["c"].key = OLD
    with cluster.opened() as nodes:
        assert nodes.names == ("a", "b", "c")
        with pytest.raises(NodeDisagreesError, match="c does not prove"):
            nodes.verify(PATH, NEW)


def test_a_named_address_of_a_node_that_is_listed_or_of_another_cluster_is_left_out(
    cluster: ScriptedCluster,
):
    cluster.leader.named_nodes = ("alias", "stranger")
    cluster.nodes["alias"] = FakeNode("alias", "id-b")
    cluster.nodes["stranger"] = FakeNode("stranger", "id-x", cluster="c2")
    with cluster.opened() as nodes:
        assert nodes.names == ("a", "b", "c")
        assert [one.code for one in nodes.warnings] == ["node-of-another-cluster"]
    assert cluster.nodes["alias"].closed
    assert cluster.nodes["stranger"].closed


def test_unnamed_nodes_are_refused_with_the_fix(cluster: ScriptedCluster):
    cluster.unnamed = {"b", "c"}
    with pytest.raises(RefusedError) as caught, cluster.opened():
        pass
    (problem,) = caught.value.problems
    assert problem.summary.endswith(": b, c")
    assert all(word in problem.fix for word in ("--node", "SKYFLOWCTL_NODES", "unverified"))
    with cluster.opened(unverified_nodes=True) as nodes:
        assert nodes.verify(PATH, NEW).nodes == ("a",)
        assert [one.code for one in nodes.warnings] == ["unnamed-nodes"]


def test_a_login_that_may_not_list_the_nodes(cluster: ScriptedCluster):
    cluster.leader.listing = error_for(403, ("permission denied",), method="GET", path="x")
    with pytest.raises(NotPermittedError) as caught, cluster.opened():
        pass
    assert 'path "sys/ha-status" { capabilities = ["read"] }' in caught.value.problems[0].fix
    with cluster.opened(unverified_nodes=True) as nodes:
        assert nodes.verify(PATH, NEW).nodes == ("the server",)
        assert [one.code for one in nodes.warnings] == ["nodes-unknown"]


@pytest.mark.parametrize("names", [(), ("a",)])
def test_a_server_without_other_nodes_is_asked_at_its_own_address(
    cluster: ScriptedCluster, names: tuple[str, ...]
):
    cluster.leader.listing = listed(*names)
    cluster.leader.tells_index = False
    cluster.unnamed = {"a"}
    with cluster.opened() as nodes:
        assert nodes.verify(PATH, NEW).nodes == ("the server",)
    assert cluster.slept == 0


def test_a_server_in_this_process_is_never_asked_for_nodes(cluster: ScriptedCluster):
    cluster.leader.listing = error_for(404, (), method="GET", path="sys/ha-status")
    world = Dependencies(Gateway(cluster.leader), None, SystemClock(), "run", cluster.sleep)
    with open_nodes(world, RotationJob("order", PATH)) as nodes:
        assert str(nodes.verify(PATH, NEW)) == "by the server"
