"""Proved on every node: only where each address is known to be a node of its own."""

from __future__ import annotations

import pytest
from support.scripted_nodes import NEW, PATH, Cluster, FakeNode, listed

from skyflowctl.errors import Refused
from skyflowctl.rotation.nodes import NodeDisagrees


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def one_address() -> list[dict]:
    return [
        {**node, "api_address": "a", "hostname": node["api_address"]} for node in listed(*"abc")
    ]


def test_nodes_behind_one_address_are_refused_before_anything_is_written(cluster: Cluster):
    cluster.leader.listing = one_address()
    refusal = pytest.raises(Refused, match="3 nodes of the cluster cannot be asked")
    with refusal as caught, cluster.opened():
        pass
    assert "api_addr" in caught.value.problems[0].fix
    with cluster.opened(unverified_nodes=True) as nodes:
        assert str(nodes.prove(PATH, NEW)).startswith("by 1 of 3 nodes")
        assert [one.code for one in nodes.warnings] == ["nodes-not-apart"]
        assert nodes.gaps == nodes.warnings


def test_nodes_without_a_name_may_be_one(cluster: Cluster):
    for node in (*cluster.nodes.values(), cluster.leader):
        node.node_id = ""
    cluster.nodes["b"] = cluster.nodes["c"] = cluster.nodes["a"]
    refusal = pytest.raises(Refused, match="cannot be told apart: a, b, c")
    with refusal as caught, cluster.opened():
        pass
    assert "enable_response_header_raft_node_id = true" in caught.value.problems[0].fix
    with cluster.opened(unverified_nodes=True) as nodes:
        assert str(nodes.prove(PATH, NEW)).startswith("at 3 addresses of perhaps fewer nodes")
        assert [one.code for one in nodes.gaps] == ["nodes-not-apart"]


def test_two_listed_addresses_of_one_process(cluster: Cluster):
    cluster.nodes["c"] = FakeNode("c", "id-b")
    with pytest.raises(Refused, match="cannot be asked themselves: c"), cluster.opened():
        pass
    with cluster.opened(unverified_nodes=True) as nodes:
        assert str(nodes.prove(PATH, NEW)) == "by 2 of 3 nodes"


def test_nodes_that_join_behind_one_address_are_no_proof(cluster: Cluster):
    with cluster.opened() as nodes:
        cluster.leader.listing = [*listed(*"abc"), *listed("d", "d")]
        with pytest.raises(NodeDisagrees, match="joined the cluster meanwhile"):
            nodes.prove(PATH, NEW)


def test_a_whole_cluster_has_no_gap(cluster: Cluster):
    with cluster.opened() as nodes:
        assert str(nodes.prove(PATH, NEW)) == "by 3 nodes, each for itself"
        assert nodes.gaps == ()
