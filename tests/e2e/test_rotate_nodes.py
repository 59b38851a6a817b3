"""Three real nodes, each of which proves a new credential itself, or is found out."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import Tenant, audited, new_tenant, register_engine
from support.emulator import RunningEmulator

from skyflowctl.clock import SystemClock
from skyflowctl.errors import NotPermittedError, RefusedError
from skyflowctl.rotation.cluster import Cluster, NodeDisagreesError, open_nodes
from skyflowctl.rotation.model import Options, RotationJob
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import RedirectRefusedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.responses import ClusterNode
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Request

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(240),
]
ROLES = ("reader", "writer")


@pytest.fixture(scope="module")
def cluster(emulator: RunningEmulator, tmp_path_factory) -> Iterator[ServerCluster]:
    with running_cluster() as running:
        register_engine(running, emulator, tmp_path_factory.mktemp("copy"))
        yield running


@pytest.fixture
def tenant(cluster: ServerCluster, emulator: RunningEmulator) -> Tenant:
    """A mount with two roles and a credential, known to every node."""
    cluster.wait_ready()
    made = new_tenant(cluster, emulator, "n", *(f"r-{name}" for name in ROLES))
    leader = cluster.leader()
    for name in ROLES:
        body = {"role_ids": [f"r-{name}"], "cas": 0}
        assert made.call(leader, "POST", f"roles/{name}", body)[0] == 200
    assert made.call(leader, "POST", "config", {"credentials_json": made.credentials})[0] == 200
    for node in cluster.nodes:
        for name in ROLES:
            made.wait_for_key(node, name)
    return made


def make_transport(
    cluster: ServerCluster, *nodes: ServerNode, token: str = "", timeout: float = 30
) -> HttpTransport:
    target = Target(
        address=nodes[0].address,
        namespace="",
        token=Secret(token or cluster.token),
        source="flags",
        ca_cert=str(cluster.ca),
        nodes=tuple(node.address for node in nodes[1:]),
    )
    return HttpTransport(target, run_id="nodes-e2e", timeout=timeout)


def make_world(transport: HttpTransport) -> Dependencies:
    def connect(node: ClusterNode) -> Gateway | None:
        try:
            return Gateway(transport.at_node(node.api_address))
        except RedirectRefusedError:
            return None

    return Dependencies(Gateway(transport), connect, SystemClock(), "nodes-e2e", time.sleep)


@contextmanager
def opened(
    transport: HttpTransport, tenant: Tenant, seconds: float = 30, **options: object
) -> Iterator[tuple[Gateway, Cluster]]:
    world, job = make_world(transport), RotationJob("n", tenant.path, Options(**options))
    try:
        with open_nodes(world, job, timeout=timedelta(seconds=seconds)) as nodes:
            yield world.gateway, nodes
    finally:
        transport.close()


def write_new_key(gateway: Gateway, tenant: Tenant) -> str:
    """A new credential through the gateway, so that it knows the write's index."""
    old = tenant.key_id
    gateway.engine(tenant.path).write_config({"credentials_json": Secret(tenant.new_key())})
    assert tenant.key_id != old
    return tenant.key_id


@contextmanager
def held(node: ServerNode) -> Iterator[None]:
    """A node that stands still, as a machine does that is paused."""
    assert node.process
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.process.pid, signal.SIGCONT)


def all_of(cluster: ServerCluster) -> set[str]:
    return {node.address for node in cluster.nodes}


def test_every_node_proves_a_new_key_itself(cluster: ServerCluster, tenant: Tenant):
    """Ten keys, asked for right after each write, through a standby: no answer is stale."""
    standby, *others = [*cluster.standbys(), cluster.leader()]
    with opened(make_transport(cluster, standby, *others), tenant) as (gateway, nodes):
        assert set(nodes.names) == all_of(cluster)
        for _ in range(10):
            key = write_new_key(gateway, tenant)
            proof = nodes.verify(tenant.path, key)
            assert (set(proof.nodes), proof.left_out, proof.polled) == (all_of(cluster), (), False)
            # Whoever proved it mints with it: at once, and on each node.
            assert {tenant.creds_key(node, "reader") for node in cluster.nodes} == {key}
        assert nodes.warnings == ()
    for node in cluster.nodes:
        mine = [
            one for one in audited(node, f"{tenant.path}/config/verify") if not one.get("error")
        ]
        assert len(mine) >= 10, f"{node.name} was not asked itself"


def test_another_key_than_the_live_one_is_proved_by_nobody(cluster: ServerCluster, tenant: Tenant):
    with opened(make_transport(cluster, *cluster.nodes), tenant, 1) as (gateway, nodes):
        gateway.engine(tenant.path).config()
        with pytest.raises(NodeDisagreesError) as caught:
            nodes.verify(tenant.path, "some-other-key")
    first = caught.value.problems[0]
    assert tenant.key_id in first.why
    assert any(address in first.summary for address in all_of(cluster))


def test_a_role_that_does_not_mint_is_no_proof_unless_it_may_fail(
    cluster: ServerCluster, tenant: Tenant
):
    body = {"role_ids": ["r-unknown"], "cas": 0}
    assert tenant.call(cluster.leader(), "POST", "roles/broken", body)[0] == 200
    with opened(make_transport(cluster, *cluster.nodes), tenant) as (gateway, nodes):
        gateway.engine(tenant.path).config()
        with pytest.raises(NodeDisagreesError) as caught:
            nodes.verify(tenant.path, tenant.key_id)
        assert "role broken: " in caught.value.problems[0].why
        proof = nodes.verify(tenant.path, tenant.key_id, roles_may_fail={"broken"})
    assert set(proof.nodes) == all_of(cluster)


def ahead(index: str) -> str:
    """An index that no standby has reached yet."""
    raw = json.loads(base64.b64decode(index))
    raw["value"] = str(int(raw["value"]) + 10_000)
    return base64.b64encode(json.dumps(raw).encode()).decode()


def test_a_standby_that_lags_behind_is_proved_only_by_the_version_it_holds(
    cluster: ServerCluster, tenant: Tenant
):
    transport = make_transport(cluster, *cluster.nodes)
    with opened(transport, tenant, 2) as (gateway, nodes):
        gateway.engine(tenant.path).config()
        future = ahead(transport.newest_index)
        with pytest.raises(NodeDisagreesError) as caught:
            nodes.verify(tenant.path, tenant.key_id, index=future)
    named = {one.summary.split(" ")[0] for one in caught.value.problems}
    assert named <= {node.address for node in cluster.standbys()}
    assert {one.why for one in caught.value.problems} == {"it lags behind the cluster"}
    with opened(make_transport(cluster, *cluster.nodes), tenant) as (gateway, nodes):
        proof = nodes.verify(tenant.path, tenant.key_id, index=future)
    assert (set(proof.nodes), proof.polled) == (all_of(cluster), True)


def test_a_standby_that_stands_still_is_not_proved_until_it_has_caught_up(
    cluster: ServerCluster, tenant: Tenant
):
    slow = cluster.standbys()[0]
    leader_first = [cluster.leader(), *cluster.standbys()]
    with opened(make_transport(cluster, *leader_first, timeout=3), tenant, 4) as (gateway, nodes):
        with held(slow):
            key = write_new_key(gateway, tenant)
            with pytest.raises(NodeDisagreesError) as caught:
                nodes.verify(tenant.path, key)
        (problem,) = caught.value.problems
        assert problem.summary.startswith(slow.address)
        assert "does not answer" in problem.why
        # It still has the old key in its memory: it must not count before that is gone.
        _wait_until_proved(nodes, tenant, key)
        assert tenant.creds_key(slow, "reader") == key


def _wait_until_proved(nodes: Cluster, tenant: Tenant, key: str) -> None:
    """Ask until all three nodes prove the key; a failure shows the last answer."""
    last: list[object] = []

    def proved() -> bool:
        try:
            proof = nodes.verify(tenant.path, key)
        except NodeDisagreesError as error:
            last[:] = error.problems
            return False
        last[:] = [proof]
        return len(proof.nodes) == 3

    try:
        wait_until(proved, "not every node proved it", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from error


def test_the_leader_dies_between_the_write_and_the_proof(cluster: ServerCluster, tenant: Tenant):
    leader, standbys = cluster.leader(), cluster.standbys()
    with opened(make_transport(cluster, leader, *standbys), tenant) as (gateway, nodes):
        key = write_new_key(gateway, tenant)
        leader.kill()
        try:
            started = time.monotonic()
            proof = nodes.verify(tenant.path, key)
            assert time.monotonic() - started < 40
            assert set(proof.nodes) == {node.address for node in standbys}
            assert proof.left_out == (leader.address,)
            assert cluster.leader().address in proof.nodes, "the new leader was not proved"
            assert [one.code for one in nodes.warnings] == ["node-left-out"]
            assert {tenant.creds_key(node, "reader") for node in standbys} == {key}
        finally:
            cluster.start(leader)
        # It is asked again as soon as it is there again, by the same command.
        _wait_until_proved(nodes, tenant, key)


def test_a_dead_standby_is_waited_for_until_the_cluster_has_given_it_up(
    cluster: ServerCluster, tenant: Tenant
):
    dead = cluster.standbys()[0]
    order = [cluster.leader(), *cluster.standbys()]
    dead.kill()
    try:
        with opened(make_transport(cluster, *order), tenant) as (gateway, nodes):
            assert [one.code for one in nodes.warnings] == ["node-left-out"]
            proof = nodes.verify(tenant.path, write_new_key(gateway, tenant))
            assert set(proof.nodes) == all_of(cluster) - {dead.address}
    finally:
        cluster.start(dead)


def test_nodes_that_nobody_named_are_refused_or_warned_about(
    cluster: ServerCluster, tenant: Tenant
):
    leader = cluster.leader()
    others = all_of(cluster) - {leader.address}
    with pytest.raises(RefusedError) as caught, opened(make_transport(cluster, leader), tenant):
        pass
    (problem,) = caught.value.problems
    assert all(address in problem.summary for address in others)
    assert "SKYFLOWCTL_NODES" in problem.fix
    transport = make_transport(cluster, leader)
    with opened(transport, tenant, unverified_nodes=True) as (gateway, nodes):
        proof = nodes.verify(tenant.path, write_new_key(gateway, tenant))
        assert proof.nodes == (leader.address,)
        assert [one.code for one in nodes.warnings] == ["unnamed-nodes"]


def new_login(cluster: ServerCluster, policy: str) -> str:
    """A token with just this policy, as soon as every node knows both."""
    leader, name = cluster.leader(), f"nodes-{secrets.token_hex(3)}"
    cluster.call(leader, "PUT", f"sys/policies/acl/{name}", {"policy": policy})
    made = cluster.call(leader, "POST", "auth/token/create", {"policies": [name]})[1]
    accessor, token = made["auth"]["accessor"], made["auth"]["client_token"]

    def known(node: ServerNode) -> bool:
        asked = cluster.call(node, "POST", "auth/token/lookup-accessor", {"accessor": accessor})
        return asked[0] == cluster.call(node, "GET", f"sys/policies/acl/{name}")[0] == 200

    wait_until(lambda: all(known(node) for node in cluster.nodes), "the login is not known", 15)
    return token


ENGINE = 'path "skyflow/+/config" { capabilities = ["read", "update"] }\n'
VERIFY = 'path "skyflow/+/config/verify" { capabilities = ["update"] }\n'


def test_a_login_that_may_not_list_the_nodes_is_told_the_line_it_lacks(
    cluster: ServerCluster, tenant: Tenant
):
    policy = ENGINE + VERIFY
    token = new_login(cluster, policy)
    with (
        pytest.raises(NotPermittedError) as caught,
        opened(make_transport(cluster, *cluster.nodes, token=token), tenant),
    ):
        pass
    (problem,) = caught.value.problems
    line = problem.fix.removeprefix("add to this login's policy: ").split(", or go on")[0]
    token = new_login(cluster, policy + line)
    transport = make_transport(cluster, *cluster.nodes, token=token)
    with opened(transport, tenant) as (gateway, nodes):
        proof = nodes.verify(tenant.path, write_new_key(gateway, tenant))
    assert set(proof.nodes) == all_of(cluster)


def test_a_server_that_tells_no_index_is_polled(
    cluster: ServerCluster, tenant: Tenant, monkeypatch
):
    """An older server: the write's index is not known, so that a standby may answer stale."""
    monkeypatch.setattr(HttpTransport, "newest_index", property(lambda _: ""))
    with opened(make_transport(cluster, *cluster.nodes), tenant) as (gateway, nodes):
        key = write_new_key(gateway, tenant)
        proof = nodes.verify(tenant.path, key)
        assert proof.polled
        assert set(proof.nodes) == all_of(cluster)
        assert {tenant.creds_key(node, "writer") for node in cluster.nodes} == {key}


def test_the_nodes_are_watched_while_clients_read(cluster: ServerCluster, tenant: Tenant):
    """Proving again and again disturbs nobody."""
    failed: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for node in cluster.nodes:
                status = tenant.call(node, "GET", "creds/reader")[0]
                failed.extend([status] if status != 200 else [])

    reader = threading.Thread(target=read)
    with opened(make_transport(cluster, *cluster.nodes), tenant) as (gateway, nodes):
        key = write_new_key(gateway, tenant)
        reader.start()
        try:
            proofs = [len(nodes.verify(tenant.path, key).nodes) for _ in range(10)]
        finally:
            stop.set()
            reader.join()
    assert proofs == [3] * 10
    assert failed == []


def test_a_cut_off_is_proved_by_every_node(cluster: ServerCluster, tenant: Tenant):
    probes = dict.fromkeys(ROLES)
    with opened(make_transport(cluster, *cluster.nodes, timeout=3), tenant, 2) as (gateway, nodes):
        gateway.engine(tenant.path).config()
        before = nodes.verify_cut_off(tenant.path, probes)
        assert not any(one.proved for one in before)
        assert {one.problem for one in before} == {"it still holds a credential"}
        gateway.transport.send(
            Request("DELETE", f"{tenant.path}/config", idempotent=True, fresh=True)
        )
        after = nodes.verify_cut_off(tenant.path, probes)
    assert {one.node for one in after} == all_of(cluster)
    assert all(one.proved for one in after)
    answers = {(role.role, role.answer) for one in after for role in one.roles}
    assert answers == {(name, "mount not configured") for name in ROLES}


def test_every_node_drops_its_reused_tokens(cluster: ServerCluster, tenant: Tenant):
    role = {"reuse_min_ttl": "30m", "reuse_per": "role"}
    assert tenant.call(cluster.leader(), "POST", "roles/reader", role)[0] == 200

    def answer(node: ServerNode) -> dict:
        status, data, served = tenant.call(node, "GET", "creds/reader")
        assert (status, served) == (200, node.name)
        return data

    def entries(node: ServerNode) -> int:
        return tenant.call(node, "GET", "health")[1]["reuse"]["entries"]

    def fill() -> dict[str, str]:
        wait_until(lambda: all(answer(one).get("reused") for one in cluster.nodes), "no reuse", 15)
        return {node.name: answer(node)["access_token"] for node in cluster.nodes}

    first = fill()
    assert len(set(first.values())) == 3, "each node has its own"
    with opened(make_transport(cluster, *cluster.nodes), tenant) as (gateway, nodes):
        nodes.verify(tenant.path, write_new_key(gateway, tenant))
        again = {node.name: answer(node) for node in cluster.nodes}
        assert {one["key_id"] for one in again.values()} == {tenant.key_id}
        assert not set(first.values()) & {one["access_token"] for one in again.values()}
        fill()
        assert [entries(node) for node in cluster.nodes] == [1, 1, 1]
        gateway.transport.send(
            Request("DELETE", f"{tenant.path}/config", idempotent=True, fresh=True)
        )
        cuts = nodes.verify_cut_off(tenant.path, dict.fromkeys(ROLES))
    assert all(one.proved for one in cuts)
    assert [entries(node) for node in cluster.nodes] == [0, 0, 0]


def test_a_login_that_reads_no_tokens_proves_a_cut_off_by_what_the_nodes_hold(
    cluster: ServerCluster, tenant: Tenant
):
    policy = ENGINE + VERIFY + 'path "sys/ha-status" { capabilities = ["read"] }'
    token = new_login(cluster, policy)
    tenant.call(cluster.leader(), "DELETE", "config")
    transport = make_transport(cluster, *cluster.nodes, token=token)
    with opened(transport, tenant) as (gateway, nodes):
        gateway.engine(tenant.path).config()
        cuts = nodes.verify_cut_off(tenant.path, dict.fromkeys(ROLES))
    assert all(one.proved for one in cuts)
    said = {role.answer for one in cuts for role in one.roles}
    assert said == {"this login may not read it; config/verify says: mount not configured"}
