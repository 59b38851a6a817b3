"""Nodes that do not say how new their answers are, that lag, and that are cut off."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.scripted_nodes import (
    NEW,
    OLD,
    PATH,
    SILENT,
    ScriptedCluster,
    refused_by,
)

from skyflowctl.rotation.cluster import NodeDisagreesError
from skyflowctl.vault.failed_answers import error_for


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


def test_servers_without_an_index_are_polled_until_it_stays_so(cluster: ScriptedCluster):
    cluster.leader.newest_index = ""
    for node in cluster.nodes.values():
        node.tells_index = False
    fickle = cluster.nodes["b"]
    keys = iter([NEW, NEW, NEW, OLD])
    fickle.plan = [lambda: setattr(fickle, "key", next(keys, NEW)) for _ in range(5)]
    with cluster.opened() as nodes:
        proof = nodes.verify(PATH, NEW)
    assert (proof.nodes, proof.polled) == (("a", "b", "c"), True)
    asked = [path for path, _ in fickle.seen if path == f"{PATH}/config/verify"]
    assert len(asked) == 9, "five in a row, after three and the old one"


def test_a_poll_ends_at_the_time_that_was_stated(cluster: ScriptedCluster):
    cluster.leader.newest_index = ""
    cluster.nodes["b"].key = OLD
    with (
        cluster.opened(poll=timedelta(seconds=1)) as nodes,
        pytest.raises(NodeDisagreesError) as caught,
    ):
        nodes.verify(PATH, NEW)
    # The others were not asked to the end, and are not accused.
    assert [one.summary[0] for one in caught.value.problems] == ["b"]
    assert cluster.slept < 10


def test_a_node_that_goes_on_lagging_is_proved_by_the_version_it_holds(cluster: ScriptedCluster):
    cluster.nodes["b"].applied = 99
    with cluster.opened() as nodes:
        proof = nodes.verify(PATH, NEW)
        assert (proof.nodes, proof.polled) == (("a", "b", "c"), True)
    cluster.nodes["b"].version = 1
    assert refused_by(cluster).problems[0].why == "it lags behind the cluster"


def test_a_cut_off_is_proved_role_by_role(cluster: ScriptedCluster):
    for node in cluster.nodes.values():
        node.configured = False
    with cluster.opened() as nodes:
        cuts = nodes.verify_cut_off(PATH, {"reader": None, "writer": {"order": "1"}})
    assert [one.node for one in cuts] == ["a", "b", "c"]
    assert all(one.proved for one in cuts)
    assert {(r.role, r.answer) for one in cuts for r in one.roles} == {
        ("reader", "mount not configured"),
        ("writer", "mount not configured"),
    }
    # An error comes without an index, so each is asked once whether it knows one.
    for node in cluster.nodes.values():
        assert [path for path, _ in node.seen].count("auth/token/lookup-self") == 1


def test_a_403_proves_no_cut_off_by_itself(cluster: ScriptedCluster):
    forbidden = error_for(403, ("permission denied",), method="GET", path="x")
    for node in cluster.nodes.values():
        node.creds, node.configured = forbidden, False
    cluster.nodes["b"].configured = True
    with cluster.opened() as nodes:
        a, b, _ = nodes.verify_cut_off(PATH, {"reader": None})
    assert (a.proved, "config/verify says" in a.roles[0].answer) == (True, True)
    assert (b.proved, b.problem) == (False, "it still holds a credential")


def test_reused_tokens_must_be_gone_on_every_node(cluster: ScriptedCluster):
    for node in cluster.nodes.values():
        node.configured = False
    cluster.nodes["b"].reused = 3
    cluster.nodes["c"].health = error_for(403, ("permission denied",), method="GET", path="x")
    with cluster.opened() as nodes:
        a, b, c = nodes.verify_cut_off(PATH, {"reader": None})
    assert (a.proved, c.proved) == (True, True)
    assert (b.proved, b.problem) == (False, "it still holds 3 reused tokens")


def test_reused_tokens_that_go_are_waited_for(cluster: ScriptedCluster):
    for node in cluster.nodes.values():
        node.configured = False
    cluster.nodes["b"].reused = 3

    def drop() -> None:
        cluster.nodes["b"].reused = 0

    cluster.on_sleep = drop
    with cluster.opened() as nodes:
        assert all(one.proved for one in nodes.verify_cut_off(PATH, {"reader": None}))


def test_a_node_that_does_not_tell_what_it_reuses_proves_no_cut_off(cluster: ScriptedCluster):
    for node in cluster.nodes.values():
        node.configured = False
    cluster.nodes["b"].health = SILENT
    with cluster.opened() as nodes:
        a, b, _ = nodes.verify_cut_off(PATH, {"reader": None})
    assert (a.proved, b.proved) == (True, False)
    assert "does not answer" in b.problem


def test_a_node_that_cannot_be_asked_proves_no_cut_off(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        for node in cluster.nodes.values():
            node.configured = False
        cluster.nodes["c"].down = SILENT
        cuts = nodes.verify_cut_off(PATH, {"reader": None})
    assert [one.proved for one in cuts] == [True, True, False]
    assert "does not answer" in cuts[2].problem
