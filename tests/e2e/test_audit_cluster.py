"""The audit logs of three nodes with two devices each, read as one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.audit_story import Admin, App, Asked, Http, Story, reads
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import Tenant, new_tenant, register_engine, skyflowctl
from support.emulator import RunningEmulator

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(180),
]

SECOND = """
audit "file" "second" {
  options {
    file_path = "audit-second.log"
  }
}
"""
CTX = "order:ORD-42"
OF_A_DEVICE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|hmac-sha256:[0-9a-f]{64}")
OWN = ("--app", "orders", "--app", "batches")


@dataclass
class Told:
    """The cluster, its mount, and what was asked of which node."""

    tenant: Tenant
    leader: ServerNode
    asked: list[Asked] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)

    @property
    def logs(self) -> list[str]:
        """Both devices of every node, each under its node's name."""
        nodes = self.tenant.cluster.nodes
        return [f"{node.name}={node.folder}/audit*.log" for node in nodes]

    def ask(self, node: ServerNode, app: App, role: str, ctx: str) -> None:
        """Have an app ask one node, which must serve it itself."""
        cluster = self.tenant.cluster
        assert cluster.context
        story = Story(Http(node.address, cluster.context))
        self.asked.append(story.ask(app, self.tenant.path, role, ctx))
        self.nodes.append(node.name)

    def answer(self, *args: str) -> dict[str, Any]:
        """What an audit command says of all logs together."""
        cluster = self.tenant.cluster
        done = skyflowctl(
            cluster, self.leader, cluster.folder, "audit", args[0], *self.logs, *args[1:],
            "-o", "json",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["data"]

    def same(self, data: dict[str, Any], *wanted: int) -> None:
        """The rows are the requests at these places of the list, each once and in order."""
        rows = data["requests"]
        assert [(row["request_id"], row["node"], row["app"], row["outcome"]) for row in rows] == [
            (one.request_id, self.nodes[at], one.app, one.outcome)
            for at, one in ((at, self.asked[at]) for at in wanted)
        ]


@pytest.fixture(scope="module")
def told(emulator: RunningEmulator, tmp_path_factory) -> Iterator[Told]:
    with running_cluster(stanzas=SECOND, voting=False) as cluster:
        register_engine(cluster, emulator, tmp_path_factory.mktemp("copy"))
        tenant = new_tenant(cluster, emulator, "t", "r-reader")
        yield use(Told(tenant, cluster.leader()), *cluster.standbys())


def use(told: Told, one: ServerNode, other: ServerNode) -> Told:
    """A mount tuned as apply does it, a role, a credential, logins through leader and standby, reads of every node, and a
    new credential written through a standby."""
    tenant, leader = told.tenant, told.leader
    tuned = {"audit_non_hmac_response_keys": ["key_id"]}
    tune = f"sys/mounts/{tenant.path}/tune"
    assert tenant.cluster.call(leader, "POST", tune, tuned)[0] == 204
    assert tenant.call(leader, "POST", "roles/reader", {"role_ids": ["r-reader"]})[0] == 200
    body = {"credentials_json": tenant.credentials}
    assert tenant.call(leader, "POST", "config", body)[0] == 200
    service, batch = log_in(tenant.cluster, tenant, leader, one)
    for node in tenant.cluster.nodes:
        wait_until(lambda node=node: can_ask(tenant, node, service, batch), "no token yet")
    for node in (leader, one, other):
        told.ask(node, service, "reader", CTX)
    told.ask(other, batch, "reader", CTX)
    told.ask(one, batch, "reader", "order:ORD-43")
    status, _, served = tenant.call(one, "POST", "config", {"credentials_json": tenant.new_key()})
    assert (status, served) == (200, leader.name)
    return told


def log_in(
    cluster: ServerCluster, tenant: Tenant, leader: ServerNode, standby: ServerNode
) -> tuple[App, App]:
    """An application with a service token of the leader, and one with a batch token of a
    standby: it has no accessor, and only its entity names it."""
    assert cluster.context
    admin = Admin(Http(leader.address, cluster.context), cluster.token)
    admin.do("POST", "sys/auth/approle", {"type": "approle"})
    admin.policy("reader", reads(f"{tenant.path}/creds/reader"))
    service = admin.approle("orders", ["reader"])
    at = Http(standby.address, cluster.context)
    return service, admin.approle("batches", ["reader"], at, token_type="batch")


def can_ask(tenant: Tenant, node: ServerNode, *apps: App) -> bool:
    """Whether a node knows the tokens, the role and the credential."""
    assert tenant.cluster.context
    http = Http(node.address, tenant.cluster.context)
    paths = ("auth/token/lookup-self", f"{tenant.path}/config")
    known = all(http.send(app.token, "GET", paths[0])[0] == 200 for app in apps)
    return known and tenant.creds_key(node, "reader") == tenant.key_id


def test_three_nodes_and_two_devices_are_one_trail(told: Told):
    data = told.answer("who", *OWN)
    told.same(data, 0, 1, 2, 3, 4)
    times = [row["time"] for row in data["requests"]]
    assert times == sorted(times)
    assert {row["auth"] for row in data["requests"]} == {"approle"}
    counts = Counter(told.nodes)
    for node in set(told.nodes):
        rows = told.answer("who", *OWN, "--log-node", node)["requests"]
        assert len(rows) == counts[node]


def test_a_ctx_is_found_however_each_device_hashed_it(told: Told):
    told.same(told.answer("who", "--ctx", CTX), 0, 1, 2, 3)
    told.same(told.answer("who", "--ctx", "order:ORD-43"), 4)
    cluster = told.tenant.cluster
    for device in ("main", "second"):
        path = f"sys/audit-hash/{device}"
        hashed = cluster.call(told.leader, "POST", path, {"input": CTX})[1]["data"]["hash"]
        told.same(told.answer("who", "--hashed", hashed), 0, 1, 2, 3)


def test_the_forward_is_counted_and_is_no_error(told: Told):
    data = told.answer("report")
    assert data["counts"]["forwards"] >= 1
    assert data["counts"]["unpaired"] == 0
    assert data["counts"]["damaged"] == {}
    written = [one for one in data["changes"] if one["kind"] == "write"]
    assert [(one["outcome"], one["node"]) for one in written] == [("granted", told.leader.name)] * 2
    assert written[-1]["key_id"] == told.tenant.key_id
    apps = {one["app"]: one for one in data["usage"]}
    assert (apps["orders"]["requests"], apps["orders"]["distinct_ctx"]) == (3, 1)
    assert (apps["batches"]["requests"], apps["batches"]["distinct_ctx"]) == (2, 2)
    assert data["totals"]["errors"] == apps["root"]["errors"]


def test_one_device_tells_the_same_as_two(told: Told):
    both = told.answer("report")
    cluster = told.tenant.cluster
    single = [f"{node.name}={node.folder}/audit.log" for node in cluster.nodes]
    done = skyflowctl(
        cluster, told.leader, cluster.folder, "audit", "report", *single, "-o", "json"
    )
    one = json.loads(done.stdout)["data"]
    for name in ("usage", "changes", "totals"):
        assert _apart_from_device(one[name]) == _apart_from_device(both[name])
    # Each device stamps an entry by itself, so the two can differ by milliseconds.
    pairs = zip(_times(one["changes"]), _times(both["changes"]), strict=True)
    assert all(abs(a - b) < timedelta(seconds=1) for a, b in pairs)
    assert (one["counts"]["duplicates"], one["counts"]["forwards"]) == (
        0,
        both["counts"]["forwards"],
    )
    assert both["counts"]["duplicates"] > len(told.asked)


def _apart_from_device(value: Any) -> Any:
    """The value without what each device has for itself: its clock's time, its salt's hashes."""
    if isinstance(value, dict):
        return {name: _apart_from_device(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_apart_from_device(one) for one in value]
    return OF_A_DEVICE.sub("…", value) if isinstance(value, str) else value


def _times(changes: list[dict[str, Any]]) -> list[datetime]:
    return [datetime.fromisoformat(change["time"]) for change in changes]
