"""The engine on three nodes: each serves reads itself, a write through a standby mints once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.cli import checked_envelope
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import (
    READ_ONLY,
    Tenant,
    audited,
    fresh_gateway,
    new_tenant,
    register_engine,
    skyflowctl,
)
from support.emulator import RunningEmulator

from skyflowctl.version import semver

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(180),
]
ROLES = ("reader", "writer", "third")
MANIFEST = """version: 1
manifest: on-three-nodes
plugin: {{name: skyflow, version: {version}}}
mounts:
  orders:
    description: Orders
    credentials: {{file: orders.json}}
    roles:
      reader: {{role_ids: [r-reader]}}
      writer: {{role_ids: [r-writer], ctx: {{pattern: "order:*", probe: "order:probe"}}}}
  payments:
    credentials: {{file: payments.json}}
    roles:
      reader: {{role_ids: [r-reader]}}
"""


@pytest.fixture(scope="module")
def cluster(emulator: RunningEmulator, tmp_path_factory) -> Iterator[ServerCluster]:
    with running_cluster() as running:
        register_engine(running, emulator, tmp_path_factory.mktemp("copy"))
        yield running


@pytest.fixture
def tenant(cluster: ServerCluster, emulator: RunningEmulator) -> Tenant:
    """A mount of this test alone, not configured."""
    return new_tenant(cluster, emulator, "t", *(f"r-{name}" for name in ROLES))


@pytest.fixture
def configured(tenant: Tenant) -> Tenant:
    """The same with its three roles and a credential, on every node."""
    leader = tenant.cluster.leader()
    for name in ROLES:
        write_role(tenant, leader, name)
    body = {"credentials_json": tenant.credentials}
    assert tenant.call(leader, "POST", "config", body)[0] == 200
    for node in tenant.cluster.nodes:
        for name in ROLES:
            tenant.wait_for_key(node, name)
    return tenant


def write_role(tenant: Tenant, node: ServerNode, name: str) -> None:
    body = {"role_ids": [f"r-{name}"], "cas": 0}
    assert tenant.call(node, "POST", f"roles/{name}", body)[0] == 200


def test_every_node_serves_the_engines_reads_itself(configured: Tenant):
    cluster = configured.cluster
    assert {node.name for node in cluster.standbys()} < {node.name for node in cluster.nodes}
    for node in cluster.nodes:
        for path in ("config", "roles/reader", "roles?list=true", "health", "creds/reader"):
            status, _, served = configured.call(node, "GET", path)
            assert (status, served) == (200, node.name), path
        # Its own audit file has the request, and nobody else's.
        seen = audited(node, f"{configured.path}/roles/reader")
        assert any(one["request"]["operation"] == "read" for one in seen)


def test_every_write_through_a_standby_works_and_mints_no_more_than_once_a_role(tenant: Tenant):
    """The standby's engine gets each write first; the leader's runs it again."""
    cluster = tenant.cluster
    leader, standby = cluster.leader(), cluster.standbys()[0]
    first = tenant.credentials
    role = {"role_ids": ["r-reader"], "description": "changed"}
    writes = [
        *(("POST", f"roles/{name}", {"role_ids": [f"r-{name}"], "cas": 0}, 0) for name in ROLES),
        ("POST", "config", {"credentials_json": first, "cas": 0}, 3),
        ("POST", "config", {"description": "a patch", "tags": ["a:b"]}, 0),
        ("POST", "config", {"credentials_json": first}, 0),
        ("POST", "config", {"rotation_id": "rotation-1"}, 0),
        ("POST", "config", {"credentials_json": tenant.new_key(), "rotation_id": "rotation-1"}, 3),
        ("POST", "config", {"credentials_json": first, "validate_credentials": False}, 0),
        ("POST", "roles/reader", role, 0),
        ("DELETE", "roles/third", None, 0),
        ("POST", "config", {"credentials_json": tenant.new_key()}, 2),
        ("DELETE", "config", None, 0),
    ]
    for method, path, body, expected in writes:
        before = tenant.exchanges()
        status, data, served = tenant.call(standby, method, path, body)
        assert status in {200, 204}, (path, data)
        assert served == leader.name, f"{path} was not forwarded"
        assert tenant.exchanges() - before == expected, (method, path, sorted(body or ()))
    config = tenant.call(leader, "GET", "config")[1]
    fields = ("credentials_configured", "version", "credential_version")
    assert [config[name] for name in fields] == [False, 8, 4]
    listed = tenant.call(leader, "GET", "roles?list=true")[1]["key_info"]
    assert {name: one["version"] for name, one in listed.items()} == {"reader": 2, "writer": 1}
    forwarded = audited(standby, f"{tenant.path}/config")
    errors = [one["error"] for one in forwarded if one["request"]["operation"] != "read"]
    assert len(errors) == 8
    assert all(READ_ONLY in error for error in errors), "the standby's engine was not asked first"


def test_a_refused_credential_through_a_standby_is_tried_once_a_role(tenant: Tenant):
    cluster = tenant.cluster
    standby = cluster.standbys()[-1]
    write_role(tenant, standby, "reader")
    tenant.emulator.control.delete_key(tenant.client_id, tenant.key_id)
    body = {"credentials_json": tenant.credentials}
    status, _, served = tenant.call(standby, "POST", "config", body)
    assert (status, served, tenant.exchanges()) == (502, cluster.leader().name, 1)
    lost = {"description": "x", "cas": 7}
    assert tenant.call(standby, "POST", "config", lost)[0] == 409
    assert tenant.exchanges() == 1


def test_posts_that_store_nothing_are_answered_by_the_node_that_was_asked(configured: Tenant):
    for node in configured.cluster.nodes:
        asked = partial(configured.call, node, "POST")
        posts = [
            ("config/verify", {}, 3),
            ("config/verify", {"credentials_json": configured.credentials}, 3),
            ("creds/reader", {"ctx": {"order": "1", "vip": True}}, 1),
            ("creds/reader", {"ctx": "order:1"}, 1),
        ]
        for path, body, expected in posts:
            before = configured.exchanges()
            status, data, served = asked(path, body)
            assert (status, served) == (200, node.name), (path, data)
            assert data["key_id"] == configured.key_id
            assert configured.exchanges() - before == expected, path
        roles = asked("config/verify", {})[1]["roles"]
        assert {name: one["ok"] for name, one in roles.items()} == dict.fromkeys(ROLES, True)


def test_every_node_signs_data_tokens_itself_without_an_exchange(configured: Tenant):
    tokens = ["4111-tok", "9999-tok", "4111-tok"]
    before = configured.exchanges()
    for node in configured.cluster.nodes:
        body = {"data_tokens": tokens}
        status, data, served = configured.call(node, "POST", "sign/reader", body)
        assert (status, served) == (200, node.name), data
        assert [one["data_token"] for one in data["signed_data_tokens"]] == tokens
        # A node that tried to write would have an answer that sends the request to the leader.
        seen = audited(node, f"{configured.path}/sign/reader")
        assert seen
        assert READ_ONLY not in json.dumps(seen)
    assert configured.exchanges() == before


def test_a_role_change_on_the_leader_soon_counts_on_every_node(configured: Tenant):
    """The standbys hold the role in memory: only InvalidateKey can make them forget it."""
    cluster = configured.cluster
    body = {"ctx_pattern": "order:*", "ctx_probe": "order:probe"}
    assert configured.call(cluster.leader(), "POST", "roles/reader", body)[0] == 200
    for node in cluster.nodes:

        def refused(node: ServerNode = node) -> bool:
            return configured.call(node, "GET", "creds/reader")[0] == 400

        wait_until(refused, f"{node.name} still mints without a ctx", 15, 0.02)
        status, _, served = configured.call(node, "GET", "creds/reader?ctx=order:1")
        assert (status, served) == (200, node.name)


def test_a_new_credential_through_a_standby_is_soon_used_by_every_node(configured: Tenant):
    cluster = configured.cluster
    for standby in cluster.standbys():
        body = {"credentials_json": configured.new_key()}
        status, data, served = configured.call(standby, "POST", "config", body)
        assert (status, served) == (200, cluster.leader().name), data
        for node in cluster.nodes:
            configured.wait_for_key(node, "reader")
        again = {configured.creds_key(node, "reader") for node in cluster.nodes for _ in range(5)}
        assert again == {configured.key_id}, "a node went back to the old key"


def test_what_was_written_is_planned_upon_at_once_through_any_standby(configured: Tenant):
    """A plan in a new process sees the last write, though standbys and caches lag behind."""
    cluster = configured.cluster
    leader, standbys = cluster.leader(), cluster.standbys()
    stale = 0
    for number in range(30):
        body = {"description": str(number)}
        assert configured.call(leader, "POST", "config", body)[0] == 200
        assert configured.call(leader, "POST", "roles/reader", body)[0] == 200
        gateway = fresh_gateway(cluster, standbys[number % 2])
        engine = gateway.read_live_state([configured.path], "skyflow").engines[configured.path]
        seen = {engine.config.description, engine.roles["reader"].description}
        stale += seen != {str(number)}
        gateway.close()
    assert stale == 0


@pytest.fixture
def folder(tmp_path: Path, emulator: RunningEmulator) -> Path:
    """A manifest with two mounts, and their credentials beside it."""
    (tmp_path / "mounts.yaml").write_text(MANIFEST.format(version=semver()))
    for name in ("orders", "payments"):
        file = tmp_path / f"{name}.json"
        file.write_text(emulator.new_account("r-reader", "r-writer"))
        file.chmod(0o600)
    return tmp_path


def run(cluster: ServerCluster, folder: Path, node: ServerNode, *args: str, expect: int) -> dict:
    host = json.loads((folder / "orders.json").read_text())["tokenURI"].split("/")[2]
    named = ",".join(each.address for each in cluster.nodes)
    done = skyflowctl(
        cluster, node, folder, *args, "-o", "json",
        SKYFLOWCTL_NODES=named, SKYFLOWCTL_ALLOW_HOSTS=host,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return checked_envelope(done.stdout)


def forget(cluster: ServerCluster) -> None:
    for name in ("orders", "payments"):
        cluster.call(cluster.leader(), "DELETE", f"sys/mounts/skyflow/{name}")


def test_apply_through_one_standby_and_plan_through_the_other(cluster, emulator, folder):
    one, other = cluster.standbys()
    ask = partial(run, cluster, folder)
    before = emulator.control.counters()["exchanges"]
    try:
        applied = ask(one, "apply", "-y", expect=0)["data"]
        assert {action["result"] for action in applied["actions"]} == {"done"}
        minted = emulator.control.counters()["exchanges"] - before
        assert minted == 3, "the config write tries each role, and the apply does not again"
        for _ in range(2):
            planned = ask(other, "plan", "--detailed-exitcode", expect=0)["data"]
            assert planned["actions"] == []
        health_names_every_node(cluster, one, ask)
    finally:
        forget(cluster)


def health_names_every_node(cluster: ServerCluster, one: ServerNode, ask) -> None:
    addresses = {node.address for node in cluster.nodes}
    rows = ask(one, "health", "--refresh", expect=0)["data"]["mounts"]
    asked = {(row["name"], row["node"], row["state"]) for row in rows}
    assert asked == {(name, at, "ok") for name in ("orders", "payments") for at in addresses}


def test_health_tells_which_node_is_not_well(cluster, folder):
    leader, (one, other) = cluster.leader(), cluster.standbys()
    ask = partial(run, cluster, folder)
    ask(leader, "apply", "-y", expect=0)
    other.kill()
    try:
        rows = ask(one, "health", "orders", expect=6)["data"]["mounts"]
        states = {row["node"]: row["state"] for row in rows}
        assert states == {
            leader.address: "ok", one.address: "ok", other.address: "unreachable",
        }  # fmt: skip
    finally:
        cluster.start(other)
        cluster.wait_ready()
        forget(cluster)
