"""The state of one node: its clock, its leader, and whether it answers itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.fake_server import FakeServer

from skyflowctl.operations.node_states import (
    NODE_STATES,
    NodeStatus,
    deaf_node,
    look_at,
    node_problems,
    skew_warnings,
)
from skyflowctl.vault.errors import (
    AuditBlockedError,
    ForbiddenError,
    OutcomeUnknownError,
    RedirectRefusedError,
    SealedError,
    VaultError,
)
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.node_plugins import PluginOnNode, PluginState
from skyflowctl.vault.transport import Reply, Request, make_reply

NOW = 1_795_000_000


class Clock:
    def now(self):
        return datetime.fromtimestamp(NOW, UTC)

    def monotonic(self):
        return 0.0


class Node(FakeServer):
    """A node whose answers to some paths are given; an error is raised."""

    def __init__(self, **answers: object) -> None:
        super().__init__()
        self.answers = answers

    def send(self, request: Request) -> Reply:
        key = request.path.removeprefix("sys/").replace("/", "_").replace("-", "_")
        if key not in self.answers:
            return super().send(request)
        answer = self.answers[key]
        if isinstance(answer, VaultError):
            raise answer
        return make_reply(200, answer, {})


def health(**more):
    return {"initialized": True, "sealed": False, "version": "2.7.2", **more}


def seen(**answers):
    return look_at(Gateway(Node(**answers)), None, None, clock=Clock())


@pytest.mark.parametrize(
    ("told", "skew"),
    [(NOW, 0), (NOW - 1, 0), (NOW + 90, 90), (NOW - 91, -90), (None, None), ("soon", None)],
)
def test_the_skew_of_a_clock_that_tells_whole_seconds(told, skew):
    node = seen(health=health(server_time_utc=told))
    assert (node.state, node.clock_skew_seconds, node.version) == ("active", skew, "2.7.2")
    warned = skew_warnings([node])
    assert len(warned) == (1 if skew else 0)
    if warned:
        assert ("1m30s ahead" if skew > 0 else "1m30s behind") in warned[0].summary


GONE_PLUGIN = PluginOnNode(PluginState.DOES_NOT_RUN, "no such file")
ORDER = {"skyflow/order": GONE_PLUGIN}
STANDBY = health(standby=True)
LEADER = {"ha_enabled": True, "leader_address": "https://n0"}
REDIRECT = RedirectRefusedError("to another host", why="w", fix="f")
GONE = "local node not active but active cluster node not found"


@pytest.mark.parametrize(
    ("leader", "ha_status", "itself", "state"),
    [
        (LEADER, {}, {}, "standby"),
        (LEADER, {}, REDIRECT, "standby_forwards"),
        ({"ha_enabled": True, "leader_address": ""}, {}, {}, "standby_without_leader"),
        (LEADER, REDIRECT, {}, "standby_without_leader"),
        (LEADER, error_for(500, (GONE,), method="GET", path="x"), {}, "standby_without_leader"),
        # What cannot be found out is not said.
        (LEADER, ForbiddenError("no", why="w", fix="f"), {}, "standby"),
        (LEADER, OutcomeUnknownError("hangs", why="w", fix="f"), {}, "standby"),
        (error_for(500, ("?",), method="GET", path="x"), {}, SealedError("x"), "standby"),
    ],
)
def test_a_standby_is_told_apart_by_its_leader_and_its_reads(leader, ha_status, itself, state):
    node = seen(health=STANDBY, leader=leader, ha_status=ha_status, internal_ui_mounts=itself)
    assert node.state == state
    assert bool(node.detail) == bool(node.fix) == (state != "standby")


def test_a_node_that_serves_nothing_has_a_problem_with_its_fix():
    with pytest.raises(SealedError) as raised:
        seen(health=health(sealed=True))
    nodes = [
        deaf_node("https://n1", raised.value),
        deaf_node(
            "https://n2", AuditBlockedError("blocked", why="the pipe is full", fix="read it")
        ),
        NodeStatus("https://n3", "active").with_plugins({"skyflow/pay": GONE_PLUGIN, **ORDER}),
        NodeStatus("https://n4", "standby_forwards"),
    ]
    assert [one.state for one in nodes][:3] == ["sealed", "audit_blocked", "plugin_missing"]
    problems = node_problems(nodes)
    assert [one.code for one in problems] == [
        "node-sealed", "node-audit-blocked", "node-plugin-missing",
    ]  # fmt: skip
    assert (problems[1].why, problems[1].fix) == ("the pipe is full", "read it")
    assert "skyflow/order, skyflow/pay" in problems[2].why
    assert "no such file" in problems[2].why


def test_the_schemas_know_every_state():
    folder = Path(__file__).parents[3] / "schemas" / "output"
    for name in ("health", "status", "plugin-list"):
        schema = json.loads((folder / f"{name}.schema.json").read_text())
        states = schema["properties"]["nodes"]["items"]["properties"]["state"]["enum"]
        assert states == list(NODE_STATES)
