"""No read of an application fails while three nodes change their leader or restart."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from support.application_reads import ApplicationReads
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import Tenant, new_tenant, register_engine
from support.emulator import RunningEmulator

from skyflowctl.client import AppRole, ServerEndpoint, TokenSource

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(240),
]
ROLE = "reader"


@pytest.fixture(scope="module")
def tenant(emulator: RunningEmulator, tmp_path_factory) -> Iterator[Tenant]:
    with running_cluster() as cluster:
        register_engine(cluster, emulator, tmp_path_factory.mktemp("copy"))
        made = new_tenant(cluster, emulator, "app", "r-reader")
        leader = cluster.leader()
        role = {"role_ids": ["r-reader"], "ctx_pattern": "order:*", "ctx_probe": "order:probe"}
        assert made.call(leader, "POST", f"roles/{ROLE}", role)[0] == 200
        body = {"credentials_json": made.credentials}
        assert made.call(leader, "POST", "config", body)[0] == 200
        _make_login(cluster, made.path)
        yield made


def _make_login(cluster: ServerCluster, mount: str) -> None:
    policy = f'path "{mount}/creds/{ROLE}" {{ capabilities = ["read", "update"] }}'
    for path, body in (
        ("sys/auth/approle", {"type": "approle"}),
        ("sys/policies/acl/app", {"policy": policy}),
        ("auth/approle/role/app", {"token_policies": ["app"], "token_ttl": "1h"}),
    ):
        status, answer, _ = cluster.call(cluster.leader(), "POST", path, body)
        assert status == 204, answer


def new_source(tenant: Tenant, first: str) -> TokenSource:
    """A source that knows all three nodes. Its login is new: a standby may not know it yet."""
    cluster, role = tenant.cluster, "auth/approle/role/app"
    cluster.wait_ready()
    leader, standbys = cluster.leader(), cluster.standbys()
    nodes = [leader, *standbys] if first == "leader" else [*standbys, leader]
    endpoint = ServerEndpoint(
        nodes[0].address, nodes=tuple(one.address for one in nodes[1:]), ca_cert=str(cluster.ca)
    )
    role_id = cluster.call(leader, "GET", f"{role}/role-id")[1]["data"]["role_id"]
    secret_id = cluster.call(leader, "POST", f"{role}/secret-id", {})[1]["data"]["secret_id"]
    return TokenSource(AppRole(role_id, secret_id), server=endpoint)


def step_down(cluster: ServerCluster, leader: ServerNode) -> None:
    assert cluster.call(leader, "PUT", "sys/step-down")[0] == 204
    wait_until(lambda: cluster.leader() is not leader, "the leader stays", 60)


def kill_the_leader(cluster: ServerCluster, leader: ServerNode) -> None:
    leader.kill()
    wait_until(lambda: cluster.leader() is not leader, "no new leader", 60)
    cluster.start(leader)


def restart_every_node(cluster: ServerCluster, leader: ServerNode) -> None:
    """As after a power cut of all three: what they know is what raft has on disk."""
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        cluster.start(node)
    assert cluster.leader()


def restart_in_turn(cluster: ServerCluster, leader: ServerNode) -> None:
    """As for an upgrade of the machines: one node after the other, the leader last."""
    for node in [*cluster.standbys(), leader]:
        assert node.process
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(30)
        cluster.start(node)
        cluster.wait_ready()


EVENTS = [
    (step_down, "leader"),
    (kill_the_leader, "leader"),
    (kill_the_leader, "standby"),
    (restart_every_node, "leader"),
    (restart_in_turn, "standby"),
]


@pytest.mark.parametrize(
    ("event", "first"), EVENTS, ids=[f"{one.__name__}, {first} first" for one, first in EVENTS]
)
def test_no_read_fails(
    tenant: Tenant, event: Callable[[ServerCluster, ServerNode], None], first: str
):
    cluster = tenant.cluster
    with (
        new_source(tenant, first) as source,
        ApplicationReads(source, tenant.path, ROLE) as reads,
    ):
        reads.wait_for(100, new=20)
        event(cluster, cluster.leader())
        reads.wait_for(200, new=40)
    assert reads.failed == []
    print(f"{event.__name__}: {reads.reads} reads, the slowest took {reads.slowest:.1f} s")
