"""What counts as a node's own proof, with nodes that answer by a script."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from skyflowctl.clock import SystemClock
from skyflowctl.errors import Refused
from skyflowctl.rotation.model import Job, Options
from skyflowctl.rotation.nodes import NodeDisagrees, Nodes, open_nodes
from skyflowctl.rotation.ports import World
from skyflowctl.vault.answers import Node
from skyflowctl.vault.failures import VaultError, failure
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Reply, make_reply
from skyflowctl.vault.unanswered import no_answer, no_connection, unnamed_host

PATH = "skyflow/order"
MINTS = {"ok": True, "status": 200, "message": ""}
REFUSED = {"ok": False, "status": 401, "message": "token service refused: 401"}
UNWELL = {"ok": False, "status": 503, "message": "try later"}
GONE = no_connection("GET", "", "https://x", "connection refused")
SILENT = no_answer("GET", "", "https://x", "no answer in time")
PASSES_ON = unnamed_host("GET", "", "https://x")
OLD, NEW = "key-old", "key-new"


def index(value: int, cluster: str = "c1") -> str:
    raw = json.dumps({"cluster": cluster, "value": str(value)})
    return base64.b64encode(raw.encode()).decode()


def lagging() -> VaultError:
    return failure(429, (), method="POST", path=PATH)


@dataclass
class FakeNode:
    """A node with its own view; ``plan`` are failures of the next answers."""

    name: str
    node_id: str
    key: str = NEW
    version: int = 2
    applied: int = 100
    tells_index: bool = True
    cluster: str = "c1"
    sealed: bool = False
    roles: dict[str, Mapping[str, Any]] = field(default_factory=lambda: {"reader": MINTS})
    plan: list[VaultError | Callable[[], None]] = field(default_factory=list)
    down: VaultError | None = None
    creds: VaultError | None = None
    configured: bool = True
    answered_as: str = ""
    seen: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    requests_made: int = 0
    closed: bool = False

    @property
    def cluster_id(self) -> str:
        return self.cluster

    def request(self, method: str, path: str, *, headers=None, **_: object) -> Reply:
        """One request; see Transport."""
        self.seen.append((path, headers or {}))
        if self.down is not None:
            raise self.down
        if path == "sys/health":
            body = {"cluster_id": self.cluster, "sealed": self.sealed, "initialized": True}
            return make_reply(200, body, {"X-Vault-Raft-Node-Id": self.node_id})
        if path == f"{PATH}/config/verify" and self.plan:
            step = self.plan.pop(0)
            if isinstance(step, VaultError):
                raise step
            step()
        self._check(headers or {})
        return self._answer(path)

    def _check(self, headers: Mapping[str, str]) -> None:
        asked = headers.get("X-Vault-Index")
        if asked and self.tells_index:
            assert headers["X-Vault-Inconsistent"] == "fail"
            if int(json.loads(base64.b64decode(asked))["value"]) > self.applied:
                raise lagging()

    def _answer(self, path: str) -> Reply:
        by = {"X-Vault-Raft-Node-Id": self.answered_as or self.node_id}
        headers = by | ({"X-Vault-Index": index(self.applied)} if self.tells_index else {})
        if path.startswith(f"{PATH}/creds/") and self.creds is not None:
            raise self.creds
        if path.startswith(PATH) and not self.configured:
            raise failure(400, ("mount not configured",), method="POST", path=path)
        data: dict[str, Any] = {"key_id": self.key, "version": self.version, "roles": self.roles}
        return make_reply(200, {"data": data}, headers)

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Leader(FakeNode):
    """The way to the cluster: it lists the nodes and knows the newest index."""

    newest_index = index(100)
    named_nodes: tuple[str, ...] = ()
    listing: list[dict[str, Any]] | VaultError

    def request(self, method: str, path: str, **more: Any) -> Reply:
        """One request; see Transport."""
        if path == "sys/ha-status":
            if isinstance(self.listing, VaultError):
                raise self.listing
            return make_reply(200, {"data": {"nodes": self.listing}}, {})
        if path == f"{PATH}/config":
            data = {"credentials_configured": True, "key_id": NEW, "version": 2}
            return make_reply(200, {"data": data}, {})
        return super().request(method, path, **more)


def listed(*names: str, active: str = "a", **echoes: str) -> list[dict[str, Any]]:
    return [
        {"api_address": name, "active_node": name == active, "last_echo": echoes.get(name)}
        for name in names
    ]


class Cluster:
    """Three nodes a, b and c, with a as the leader, and a clock that waits for nobody."""

    def __init__(self) -> None:
        self.leader = Leader("cluster", "id-a")
        self.leader.listing = listed("a", "b", "c")
        self.nodes = {name: FakeNode(name, f"id-{name}") for name in "abc"}
        self.unnamed: set[str] = set()
        self.slept = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def connect(self, node: Node) -> Gateway | None:
        if node.api_address in self.unnamed:
            return None
        return Gateway(self.nodes[node.api_address])

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept += seconds
        self.on_sleep()
        time.sleep(0)

    @contextmanager
    def opened(self, **options: Any) -> Iterator[Nodes]:
        world = World(Gateway(self.leader), self.connect, SystemClock(), "run", self.sleep)
        job = Job("order", PATH, Options(**options))
        with open_nodes(world, job) as nodes:
            yield nodes


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def refused_by(cluster: Cluster, **more: Any) -> NodeDisagrees:
    with cluster.opened() as nodes, pytest.raises(NodeDisagrees) as caught:
        nodes.prove(PATH, NEW, **more)
    return caught.value


def test_every_node_is_asked_for_itself_and_for_nothing_older_than_the_write(cluster: Cluster):
    with cluster.opened() as nodes:
        assert nodes.names == ("a", "b", "c")
        proof = nodes.prove(PATH, NEW)
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
        assert node.closed
    assert not cluster.leader.closed


def test_a_polite_not_yet_is_asked_again(cluster: Cluster):
    cluster.nodes["b"].plan = [lagging(), lagging()]
    with cluster.opened() as nodes:
        assert nodes.prove(PATH, NEW).nodes == ("a", "b", "c")
    assert 0 < cluster.slept < 1


def test_an_old_answer_that_comes_with_an_index_is_waited_out(cluster: Cluster):
    slow = cluster.nodes["b"]
    slow.key = OLD
    slow.plan = [lambda: None, lambda: None, lambda: setattr(slow, "key", NEW)]
    with cluster.opened() as nodes:
        assert "b" in nodes.prove(PATH, NEW).nodes


def test_a_node_that_keeps_the_old_key_is_named_with_what_it_said(cluster: Cluster):
    cluster.nodes["c"].key = OLD
    (problem,) = refused_by(cluster).problems
    assert problem.summary.startswith("c does not prove")
    assert (NEW in problem.summary, OLD in problem.why) == (True, True)


def test_an_answer_of_another_node_does_not_count(cluster: Cluster):
    cluster.nodes["b"].answered_as = "id-a"
    (problem,) = refused_by(cluster).problems
    assert (problem.summary[0], problem.why) == ("b", "id-a answered")


def test_a_node_that_passes_requests_on_is_refused_before_anything_is_written(cluster: Cluster):
    cluster.nodes["b"].down = PASSES_ON
    with pytest.raises(Refused) as caught, cluster.opened():
        pass
    assert "passes the request on" in caught.value.problems[0].why


@pytest.mark.parametrize("answer", [REFUSED, UNWELL])
def test_every_role_must_mint(cluster: Cluster, answer: Mapping[str, Any]):
    cluster.nodes["b"].roles = {"reader": MINTS, "writer": answer}
    (problem,) = refused_by(cluster).problems
    assert problem.why == f"role writer: {answer['message']}"
    with cluster.opened() as nodes:
        proof = nodes.prove(PATH, NEW, roles_may_fail=frozenset({"writer"}))
    assert proof.nodes == ("a", "b", "c")


def test_a_refusal_is_final_soon_and_a_blip_is_waited_out(cluster: Cluster):
    cluster.nodes["b"].roles = {"reader": REFUSED}
    refused_by(cluster)
    assert cluster.slept < 1
    blip = cluster.nodes["b"]
    blip.roles = {"reader": UNWELL}
    blip.plan = [*[lambda: None] * 6, lambda: setattr(blip, "roles", {"reader": MINTS})]
    with cluster.opened() as nodes:
        assert "b" in nodes.prove(PATH, NEW).nodes


def test_nothing_minted_is_no_proof(cluster: Cluster):
    cluster.nodes["a"].roles = {}
    assert refused_by(cluster).problems[0].why == "it has minted nothing"


def test_a_dead_node_counts_once_the_cluster_has_given_it_up(cluster: Cluster):
    with cluster.opened() as nodes:
        cluster.nodes["a"].down = GONE
        waits = iter(range(100))

        def elect() -> None:
            if next(waits) == 5:
                cluster.leader.listing = listed("b", "c", active="b")

        cluster.on_sleep = elect
        proof = nodes.prove(PATH, NEW)
        assert (proof.nodes, proof.left_out) == (("b", "c"), ("a",))
        assert next(waits) > 5
        assert [one.code for one in nodes.warnings] == ["node-left-out"]
        cluster.nodes["a"].down = None
        assert nodes.prove(PATH, NEW).nodes == ("a", "b", "c")


def test_a_dead_node_that_is_listed_still_is_no_proof(cluster: Cluster):
    with cluster.opened() as nodes:
        cluster.nodes["b"].down = GONE
        with pytest.raises(NodeDisagrees, match="b does not prove"):
            nodes.prove(PATH, NEW)
    assert cluster.slept >= 29


def test_a_dead_node_with_an_old_echo_is_given_up(cluster: Cluster):
    new, old = "2026-11-22T18:21:40.562986406Z", "2026-11-22T18:21:20.550743734Z"
    with cluster.opened() as nodes:
        cluster.nodes["b"].down = GONE
        cluster.leader.listing = listed("a", "b", "c", b=old, c=new)
        assert nodes.prove(PATH, NEW).left_out == ("b",)


def test_a_silent_node_may_come_back_and_is_never_given_up(cluster: Cluster):
    with cluster.opened() as nodes:
        cluster.nodes["b"].down = SILENT
        cluster.leader.listing = listed("a", "c")
        with pytest.raises(NodeDisagrees) as caught:
            nodes.prove(PATH, NEW)
    assert "does not answer" in caught.value.problems[0].why


def test_when_no_node_can_be_reached_nothing_is_proved(cluster: Cluster):
    with cluster.opened() as nodes:
        for node in cluster.nodes.values():
            node.down = GONE
        cluster.leader.listing = []
        with pytest.raises(NodeDisagrees) as caught:
            nodes.prove(PATH, NEW)
    assert len(caught.value.problems) == 3


def test_a_node_that_joins_meanwhile_is_proved_too(cluster: Cluster):
    cluster.nodes["d"] = FakeNode("d", "id-d")
    with cluster.opened() as nodes:
        cluster.leader.listing = listed("a", "b", "c", "d")
        assert nodes.prove(PATH, NEW).nodes == ("a", "b", "c", "d")


def test_a_node_that_joins_unnamed_is_no_proof(cluster: Cluster):
    cluster.unnamed = {"d"}
    with cluster.opened() as nodes:
        cluster.leader.listing = listed("a", "b", "c", "d")
        with pytest.raises(NodeDisagrees, match=r"joined the cluster meanwhile.*: d"):
            nodes.prove(PATH, NEW)


def test_a_named_node_that_the_leader_does_not_list_is_proved_too(cluster: Cluster):
    """Cut off from its leader, a standby serves on from what it knew."""
    cluster.leader.listing = listed("a", "b")
    cluster.leader.named_nodes = ("b", "c")
    cluster.nodes["c"].key = OLD
    with cluster.opened() as nodes:
        assert nodes.names == ("a", "b", "c")
        with pytest.raises(NodeDisagrees, match="c does not prove"):
            nodes.prove(PATH, NEW)


def test_a_named_address_of_a_node_that_is_listed_or_of_another_cluster_is_left_out(
    cluster: Cluster,
):
    cluster.leader.named_nodes = ("alias", "stranger")
    cluster.nodes["alias"] = FakeNode("alias", "id-b")
    cluster.nodes["stranger"] = FakeNode("stranger", "id-x", cluster="c2")
    with cluster.opened() as nodes:
        assert nodes.names == ("a", "b", "c")
        assert [one.code for one in nodes.warnings] == ["node-of-another-cluster"]
    assert cluster.nodes["alias"].closed
    assert cluster.nodes["stranger"].closed


def test_unnamed_nodes_are_refused_with_the_fix(cluster: Cluster):
    cluster.unnamed = {"b", "c"}
    with pytest.raises(Refused) as caught, cluster.opened():
        pass
    (problem,) = caught.value.problems
    assert problem.summary.endswith(": b, c")
    assert all(word in problem.fix for word in ("--node", "SKYFLOWCTL_NODES", "unverified"))
    with cluster.opened(unverified_nodes=True) as nodes:
        assert nodes.prove(PATH, NEW).nodes == ("a",)
        assert [one.code for one in nodes.warnings] == ["unnamed-nodes"]


def test_a_login_that_may_not_list_the_nodes(cluster: Cluster):
    cluster.leader.listing = failure(403, ("permission denied",), method="GET", path="x")
    with pytest.raises(Refused) as caught, cluster.opened():
        pass
    assert 'path "sys/ha-status" { capabilities = ["read"] }' in caught.value.problems[0].fix
    with cluster.opened(unverified_nodes=True) as nodes:
        assert nodes.prove(PATH, NEW).nodes == ("the server",)
        assert [one.code for one in nodes.warnings] == ["nodes-unknown"]


@pytest.mark.parametrize("names", [(), ("a",)])
def test_a_server_without_other_nodes_is_asked_at_its_own_address(
    cluster: Cluster, names: tuple[str, ...]
):
    cluster.leader.listing = listed(*names)
    cluster.leader.tells_index = False
    cluster.unnamed = {"a"}
    with cluster.opened() as nodes:
        assert nodes.prove(PATH, NEW).nodes == ("the server",)
    assert cluster.slept == 0


def test_a_server_in_this_process_is_never_asked_for_nodes(cluster: Cluster):
    cluster.leader.listing = failure(404, (), method="GET", path="sys/ha-status")
    world = World(Gateway(cluster.leader), None, SystemClock(), "run", cluster.sleep)
    with open_nodes(world, Job("order", PATH)) as nodes:
        assert str(nodes.prove(PATH, NEW)) == "by the server"


def test_servers_without_an_index_are_polled_until_it_stays_so(cluster: Cluster):
    cluster.leader.newest_index = ""
    for node in cluster.nodes.values():
        node.tells_index = False
    fickle = cluster.nodes["b"]
    keys = iter([NEW, NEW, NEW, OLD])
    fickle.plan = [lambda: setattr(fickle, "key", next(keys, NEW)) for _ in range(5)]
    with cluster.opened() as nodes:
        proof = nodes.prove(PATH, NEW)
    assert (proof.nodes, proof.polled) == (("a", "b", "c"), True)
    asked = [path for path, _ in fickle.seen if path == f"{PATH}/config/verify"]
    assert len(asked) == 9, "five in a row, after three and the old one"


def test_a_poll_ends_at_the_time_that_was_stated(cluster: Cluster):
    cluster.leader.newest_index = ""
    cluster.nodes["b"].key = OLD
    with cluster.opened(poll=timedelta(seconds=1)) as nodes, pytest.raises(NodeDisagrees) as caught:
        nodes.prove(PATH, NEW)
    # The others were not asked to the end, and are not accused.
    assert [one.summary[0] for one in caught.value.problems] == ["b"]
    assert cluster.slept < 10


def test_a_node_that_goes_on_lagging_is_proved_by_the_version_it_holds(cluster: Cluster):
    cluster.nodes["b"].applied = 99
    with cluster.opened() as nodes:
        proof = nodes.prove(PATH, NEW)
        assert (proof.nodes, proof.polled) == (("a", "b", "c"), True)
    cluster.nodes["b"].version = 1
    assert refused_by(cluster).problems[0].why == "it lags behind the cluster"


def test_a_cut_off_is_proved_role_by_role(cluster: Cluster):
    for node in cluster.nodes.values():
        node.configured = False
    with cluster.opened() as nodes:
        cuts = nodes.prove_cut_off(PATH, {"reader": None, "writer": {"order": "1"}})
    assert [one.node for one in cuts] == ["a", "b", "c"]
    assert all(one.proved for one in cuts)
    assert {(r.role, r.answer) for one in cuts for r in one.roles} == {
        ("reader", "mount not configured"),
        ("writer", "mount not configured"),
    }


def test_a_403_proves_no_cut_off_by_itself(cluster: Cluster):
    forbidden = failure(403, ("permission denied",), method="GET", path="x")
    for node in cluster.nodes.values():
        node.creds, node.configured = forbidden, False
    cluster.nodes["b"].configured = True
    with cluster.opened() as nodes:
        a, b, _ = nodes.prove_cut_off(PATH, {"reader": None})
    assert (a.proved, "config/verify says" in a.roles[0].answer) == (True, True)
    assert (b.proved, b.problem) == (False, "it still holds a credential")


def test_a_node_that_cannot_be_asked_proves_no_cut_off(cluster: Cluster):
    with cluster.opened() as nodes:
        for node in cluster.nodes.values():
            node.configured = False
        cluster.nodes["c"].down = SILENT
        cuts = nodes.prove_cut_off(PATH, {"reader": None})
    assert [one.proved for one in cuts] == [True, True, False]
    assert "does not answer" in cuts[2].problem
