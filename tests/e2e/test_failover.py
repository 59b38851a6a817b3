"""Three nodes lose their leader: one apply writes every object, and no application's read fails."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.application_reads import ApplicationReads
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import Tenant, new_tenant, register_engine
from support.cluster_operator import ClusterOperator
from support.emulator import RunningEmulator

from skyflowctl.client import AppRole, ServerEndpoint, TokenSource

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(300),
]
ROLE = "reader"
OBJECTS = 1_000
MOUNTS, SECRETS = 10, 100


def manifest_text(name: str) -> str:
    """Ten mounts with two roles and their logins, 100 KV secrets, and policies up to 1,000."""
    lines = ["version: 1", f"manifest: {name}", f"auth: {{{name}: {{type: approle}}}}", "mounts:"]
    for number in range(MOUNTS):
        lines += [f"  {name}-{number}:", "    credentials: {file: key.json}", "    roles:"]
        for role in ("reader", "writer"):
            login = f"{name}-{number}-{role}"
            lines += [f"      {role}:", f"        role_ids: [r-{role}]"]
            lines += [f"        consumers: {{{name}: {{{login}: {{token_ttl: 20m}}}}}}"]
    lines += ["engines:", f"  {name}-kv:", "    type: kv", "    version: 2", "    secrets:"]
    secret = "{user: {value: app}, password: {generate: {length: 20}}}"
    lines += [f"      s{number:03}: {secret}" for number in range(SECRETS)]
    lines += ["policies:"]
    rule = 'rules: {{"secret/data/{0}": [read]}}'
    lines += [f"  {name}-{number:03}: {{{rule.format(number)}}}" for number in range(OBJECTS)]
    return "\n".join((*lines, ""))


@pytest.fixture(scope="module")
def operator(emulator: RunningEmulator, tmp_path_factory) -> Iterator[ClusterOperator]:
    with running_cluster() as cluster:
        folder = tmp_path_factory.mktemp("failover")
        register_engine(cluster, emulator, tmp_path_factory.mktemp("copy"))
        (folder / "key.json").write_text(emulator.new_account("r-reader", "r-writer"))
        (folder / "key.json").chmod(0o600)
        hosts = {"SKYFLOWCTL_ALLOW_HOSTS": emulator.host, "SSL_CERT_FILE": str(emulator.ca)}
        yield ClusterOperator(cluster, folder, hosts)


def step_down(cluster: ServerCluster, leader: ServerNode) -> None:
    assert cluster.call(leader, "PUT", "sys/step-down")[0] == 204


def kill_and_start(cluster: ServerCluster, leader: ServerNode) -> None:
    leader.kill()
    wait_until(lambda: cluster.leader() is not leader, "no new leader", 60)
    cluster.start(leader)


def restart_every_node(cluster: ServerCluster, leader: ServerNode) -> None:
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        cluster.start(node)


def restart_in_turn(cluster: ServerCluster, leader: ServerNode) -> None:
    """As for an upgrade of the machines: one node after the other, the leader last."""
    for node in [*cluster.standbys(), leader]:
        assert node.process
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(30)
        cluster.start(node)
        cluster.wait_ready()


DURING_APPLY = {100: step_down, 350: kill_and_start, 650: restart_every_node}
"""By the number of policies that are written by then."""


def test_one_apply_of_a_thousand_objects_writes_each_once(operator: ClusterOperator):
    cluster = operator.cluster
    cluster.wait_ready()
    (operator.folder / "mounts.yaml").write_text(manifest_text("failover"))
    with operator.running(cluster.leader(), "apply", "-y") as process:
        for written, event in DURING_APPLY.items():
            operator.wait_for(process, "failover", written)
            event(cluster, cluster.leader())
        summary = operator.done(process)["summary"]
    assert (summary["failed"], summary["create"] >= OBJECTS) == (0, True), summary
    cluster.wait_ready()
    for node in cluster.nodes:
        assert cluster.served_by(node) == node.name  # each standby reads by itself
        planned = operator.run(node, "plan")
        assert planned["actions"] == []
    assert_written_once(cluster, "failover")


def assert_written_once(cluster: ServerCluster, name: str) -> None:
    """Nothing was written twice: every version is the first."""

    def read(path: str) -> dict[str, Any]:
        return cluster.call(cluster.leader(), "GET", path)[1]["data"]

    for number in range(SECRETS):
        assert read(f"{name}-kv/metadata/s{number:03}")["current_version"] == 1
    for number in range(MOUNTS):
        mount = f"skyflow/{name}-{number}"
        config = read(f"{mount}/config")
        assert config["credential_version"] == 1
        roles = read(f"{mount}/roles?list=true")["key_info"]
        assert {one: role["version"] for one, role in roles.items()} == {"reader": 1, "writer": 1}


@pytest.fixture(scope="module")
def tenant(operator: ClusterOperator, emulator: RunningEmulator) -> Tenant:
    """A mount and a login of an application, made before any test."""
    cluster = operator.cluster
    made = new_tenant(cluster, emulator, "app", "r-reader")
    leader = cluster.leader()
    role = {"role_ids": ["r-reader"], "ctx_pattern": "order:*", "ctx_probe": "order:probe"}
    assert made.call(leader, "POST", f"roles/{ROLE}", role)[0] == 200
    body = {"credentials_json": made.credentials}
    assert made.call(leader, "POST", "config", body)[0] == 200
    _make_login(cluster, made.path)
    return made


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


OUTAGES = [
    (step_down, "leader"),
    (kill_and_start, "leader"),
    (kill_and_start, "standby"),
    (restart_every_node, "leader"),
    (restart_in_turn, "standby"),
]


@pytest.mark.parametrize(
    ("event", "first"), OUTAGES, ids=[f"{one.__name__}, {first} first" for one, first in OUTAGES]
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
