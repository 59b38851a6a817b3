"""Proved on every node: only where each address is known to be a node of its own."""

from __future__ import annotations

import pytest
from support.scripted_nodes import NEW, PATH, FakeNode, ScriptedCluster, listed

from skyflowctl.errors import RefusedError
from skyflowctl.rotation.cluster import NodeDisagreesError


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


def one_address() -> list[dict]:
    return [
        {**node, "api_address": "a", "hostname": node["api_address"]} for node in listed(*"abc")
    ]


def test_nodes_behind_one_address_are_refused_before_anything_is_written(cluster: ScriptedCluster):
    cluster.leader.listing = one_address()
    refusal = pytest.raises(RefusedError, match="3 nodes of the cluster cannot be asked")
    with refusal as caught, cluster.opened():
        pass
    assert "api_addr" in caught.value.problems[0].fix
    with cluster.opened(unverified_nodes=True) as nodes:
        assert str(nodes.verify(PATH, NEW)).startswith("by 1 of 3 nodes")
        assert [one.code for one in nodes.warnings] == ["nodes-not-apart"]
        assert nodes.gaps == nodes.warnings


def test_nodes_without_a_name_are_asked_each_at_its_address_and_that_is_said(
    cluster: ScriptedCluster,
):
    for node in (*cluster.nodes.values(), cluster.leader):
        node.node_id = ""
    with cluster.opened() as nodes:
        assert str(nodes.verify(PATH, NEW)).startswith("at 3 addresses, each for itself")
        (warning,) = nodes.warnings
        assert warning.code == "nodes-nameless"
        assert "enable_response_header_raft_node_id = true" in warning.fix
        assert nodes.gaps == ()


def test_two_listed_addresses_of_one_process(cluster: ScriptedCluster):
    cluster.nodes["c"] = FakeNode("c", "id-b")
    with pytest.raises(RefusedError, match="cannot be asked themselves: c"), cluster.opened():
        pass
    with cluster.opened(unverified_nodes=True) as nodes:
        assert str(nodes.verify(PATH, NEW)) == "by 2 of 3 nodes"


def test_nodes_that_join_behind_one_address_are_no_proof(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        cluster.leader.listing = [*listed(*"abc"), *listed("d", "d")]
        with pytest.raises(NodeDisagreesError, match="joined the cluster meanwhile"):
            nodes.verify(PATH, NEW)


def test_a_whole_cluster_has_no_gap(cluster: ScriptedCluster):
    with cluster.opened() as nodes:
        assert str(nodes.verify(PATH, NEW)) == "by 3 nodes, each for itself"
        assert nodes.gaps == ()
