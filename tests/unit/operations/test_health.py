"""health and status: states, nodes, ages, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support import planning as p
from support.fake_server import FakeCredentials, FakeReplacer, FakeServer

from skyflowctl.clock import rfc3339
from skyflowctl.errors import ExitCode
from skyflowctl.executor.run import execute
from skyflowctl.manifest.model import RotationRule
from skyflowctl.operations import health as health_module
from skyflowctl.operations.blocked_audit import AuditSuspects
from skyflowctl.operations.health import STATES, health
from skyflowctl.operations.mount_refs import MountRef, declared_mounts
from skyflowctl.operations.node_states import node_warnings
from skyflowctl.operations.status import status
from skyflowctl.planner.diff import make_plan
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.no_response import no_response_error, no_token
from skyflowctl.vault.responses import ClusterNode
from skyflowctl.vault.transport import ServerInfo

TWO = p.manifest(p.mount("order"), p.mount("pay"))
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class FixedClock:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0


@pytest.fixture
def server():
    server = FakeServer()
    live = Gateway(server).read_live_state([], "skyflow")
    plan = make_plan(TWO, live, p.identities(TWO))
    assert execute(plan, Gateway(server), FakeCredentials(), FakeReplacer()).status == "ok"
    return server


def states(result):
    return {row.path: row.state for row in result.mounts}


def fail(status, text):
    return error_for(status, (text,), method="GET", path="x")


REFUSED = {"healthy": False, "token_service": {"reachable": True, "status": 401, "error": "no"}}
SILENT = {"healthy": False, "token_service": {"reachable": False, "error": "timed out"}}


class SlowClock:
    """A clock that gains 7 s each time it is looked at."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        self.seconds += 7
        return self.seconds


class TestAllMountsTogether:
    """G2: 60 s in all, however many mounts do not answer."""

    @pytest.mark.parametrize(("deadline", "limit"), [(10, "60 s"), (20, "120 s")])
    def test_g2_what_was_not_asked_in_time_is_named_so(self, server, monkeypatch, deadline, limit):
        monkeypatch.setattr(health_module, "time", SlowClock())
        mounts = [*declared_mounts(TWO)] * 10
        result = health(Gateway(server), mounts, deadline=deadline, parallelism=1)
        late = [row for row in result.mounts if row.detail.startswith("not asked")]
        assert result.mounts[0].state == "ok"
        assert result.mounts[-1] in late
        assert {row.state for row in late} == {"unreachable"}
        assert {row.detail for row in late} == {
            f"not asked: the {limit} limit for all mounts had expired"
        }
        assert "--parallelism" in late[0].fix
        assert result.exit_code == ExitCode.UNHEALTHY

    def test_g2_without_a_deadline_all_are_asked(self, server, monkeypatch):
        monkeypatch.setattr(health_module, "time", SlowClock())
        mounts = [*declared_mounts(TWO)] * 10
        assert health(Gateway(server), mounts, parallelism=1).healthy


class TestHealth:
    def test_all_is_well(self, server):
        result = health(Gateway(server), declared_mounts(TWO))
        assert states(result) == {"skyflow/order": "ok", "skyflow/pay": "ok"}
        assert (result.healthy, result.exit_code) == (True, ExitCode.OK)
        assert all(row.latency_ms is not None and not row.detail for row in result.mounts)

    @pytest.mark.parametrize(
        ("answer", "state"),
        [
            ({"healthy": False, "token_service": {}}, "unconfigured"),
            (REFUSED, "refused"),
            (SILENT, "token_service_unreachable"),
            (fail(403, "permission denied"), "forbidden"),
            (fail(404, 'no handler for route "x"'), "not_mounted"),
            (fail(404, "route entry found, but backend is nil"), "plugin_missing"),
            (fail(503, "Vault is sealed"), "sealed"),
            (fail(500, "internal error"), "unreachable"),
        ],
    )
    def test_each_state_is_told_apart_and_is_exit_6(self, server, answer, state):
        server.health["skyflow/pay"] = answer
        result = health(Gateway(server), declared_mounts(TWO))
        assert states(result) == {"skyflow/order": "ok", "skyflow/pay": state}
        assert result.mounts[1].detail
        assert result.exit_code is ExitCode.UNHEALTHY

    @pytest.mark.parametrize(
        ("server_says", "state"),
        [
            ({"initialized": True, "sealed": True}, "sealed"),
            ({"sealed": False}, "uninitialized"),
            ({"initialized": True, "replication_dr_mode": "secondary"}, "dr_secondary"),
            ({"initialized": True, "ha_connection_healthy": False}, "standby_without_leader"),
            ({"initialized": True, "removed_from_cluster": True}, "removed"),
        ],
    )
    def test_a_server_that_serves_nothing_is_asked_once(self, server, server_says, state):
        server.server_health = server_says
        before = server.requests_made
        result = health(Gateway(server), declared_mounts(TWO))
        assert set(states(result).values()) == {state}
        assert server.requests_made == before + 1

    def test_an_unreachable_server_is_asked_once(self, server):
        server.server_health = error_for(502, (), method="GET", path="sys/health")
        before = server.requests_made
        result = health(Gateway(server), declared_mounts(TWO))
        assert set(states(result).values()) == {"unreachable"}
        assert server.requests_made == before + 1
        assert result.exit_code is ExitCode.UNHEALTHY

    def test_without_names_the_server_tells_them(self, server):
        result = health(Gateway(server), None)
        assert [(row.name, row.path) for row in result.mounts] == [
            ("order", "skyflow/order"),
            ("pay", "skyflow/pay"),
        ]

    def test_without_names_and_without_a_server_one_row_says_so(self, server):
        server.server_health = error_for(502, (), method="GET", path="sys/health")
        (row,) = health(Gateway(server), None).mounts
        assert (row.name, row.path, row.state) == ("", "", "unreachable")

    def test_it_asks_for_a_probe_unless_a_cached_answer_will_do(self, server):
        health(Gateway(server), declared_mounts(TWO))
        health(Gateway(server), declared_mounts(TWO), refresh=False)
        asked = [one.get("refresh") for one in server.params["skyflow/order/health"]]
        assert asked == ["true", None]

    @pytest.mark.parametrize(
        ("answer", "detail"),
        [
            ({"healthy": True, "token_service": {"reachable": True}}, "cached, 12 s old"),
            (REFUSED, "no; cached, 12 s old"),
        ],
    )
    def test_a_cached_answer_is_told_with_its_age(self, server, answer, detail):
        server.health["skyflow/order"] = {**answer, "age_seconds": 12}
        result = health(Gateway(server), declared_mounts(TWO), refresh=False)
        assert [row.detail for row in result.mounts] == [detail, ""]

    def test_a_login_without_a_token_is_told_how_to_log_in(self, server):
        refusal = fail(403, "permission denied")
        server.health["skyflow/pay"] = no_token(refusal, "environment")
        row = health(Gateway(server), declared_mounts(TWO)).mounts[1]
        assert (row.state, row.fix) == (
            "forbidden",
            no_token(refusal, "environment").problems[0].fix,
        )
        assert "BAO_TOKEN" in row.fix


class TestNodes:
    def nodes(self, server, *names):
        server.nodes = [{"hostname": n, "api_address": f"https://{n}"} for n in names]

    def connect(self, server, *, broken=None, unnamed=None):
        closed = []

        def open_node(node: ClusterNode):
            if node.hostname == unnamed:
                return None
            other = FakeServer()
            other.mounts = server.mounts
            if node.hostname == broken:
                other.health["skyflow/pay"] = fail(404, "route entry found, but backend is nil")
            other.close = lambda: closed.append(node.hostname)
            return Gateway(other)

        return open_node, closed

    def test_a_node_without_the_plugin_is_found(self, server):
        self.nodes(server, "n0", "n1", "n2")
        connect, closed = self.connect(server, broken="n2")
        result = health(Gateway(server), declared_mounts(TWO), connect=connect)
        assert len(result.mounts) == 6
        bad = [row for row in result.mounts if row.state != "ok"]
        assert [(row.path, row.node, row.state) for row in bad] == [
            ("skyflow/pay", "https://n2", "plugin_missing")
        ]
        assert result.worst("skyflow/pay") == "plugin_missing"
        assert result.worst("skyflow/order") == "ok"
        assert result.exit_code is ExitCode.UNHEALTHY
        assert sorted(closed) == ["n0", "n1", "n2"]

    def test_a_node_that_nobody_named_gets_no_token(self, server):
        self.nodes(server, "n0", "n1")
        connect, _ = self.connect(server, unnamed="n1")
        result = health(Gateway(server), declared_mounts(TWO), connect=connect)
        assert result.unasked == ("https://n1",)
        assert {row.node for row in result.mounts} == {"https://n0"}

    def test_a_login_that_may_not_list_nodes_asks_the_address(self, server):
        server.nodes = fail(403, "permission denied")
        connect, _ = self.connect(server)
        result = health(Gateway(server), declared_mounts(TWO), connect=connect)
        assert {row.node for row in result.mounts} == {""}
        (warning,) = node_warnings(result.nodes)
        assert warning.code == "nodes-unknown"
        assert warning.fix.endswith('path "sys/ha-status" { capabilities = ["read"] }')

    def test_named_nodes_are_asked_although_the_cluster_does_not_list_them(self, server):
        server.nodes = fail(403, "permission denied")
        server.server = ServerInfo("x", ("https://n0", "https://n2"))
        broken = FakeServer()
        broken.mounts = server.mounts
        broken.server = ServerInfo("x", ("https://n2",))
        broken.health["skyflow/pay"] = fail(404, "route entry found, but backend is nil")
        server.at_node = lambda address: broken if address.endswith("n2") else server
        connect, _ = self.connect(server)
        suspects = AuditSuspects()
        result = health(Gateway(server), declared_mounts(TWO), connect=connect, suspects=suspects)
        bad = [row for row in result.mounts if row.state != "ok"]
        assert [(row.path, row.node, row.state) for row in bad] == [
            ("skyflow/pay", "https://n2", "plugin_missing")
        ]
        assert [one.code for one in node_warnings(result.nodes)] == ["nodes-unknown"]

    def test_one_node_is_no_cluster(self, server):
        self.nodes(server, "n0")
        connect, _ = self.connect(server)
        result = health(Gateway(server), declared_mounts(TWO), connect=connect)
        assert {row.node for row in result.mounts} == {""}


def test_states_are_those_of_the_contract():
    assert set(STATES) == {
        "ok",
        "unproven",
        "unconfigured",
        "refused",
        "token_service_unreachable",
        "plugin_missing",
        "not_mounted",
        "forbidden",
        "sealed",
        "uninitialized",
        "dr_secondary",
        "standby_without_leader",
        "removed",
        "audit_blocked",
        "unreachable",
    }


def entry(version: str, sha256: str) -> dict[str, str]:
    """A secrets plugin as the list of the catalog has it."""
    return {"type": "secret", "name": "skyflow", "version": version, "sha256": sha256}


class TestStatus:
    def one(self, server, mount=None, **more):
        mount = mount or declared_mounts(TWO)[0]
        (row,) = status(Gateway(server), [mount], clock=FixedClock(), **more).mounts
        return row

    def test_it_costs_three_requests_a_mount_and_three(self, server):
        before = server.requests_made
        rows = status(Gateway(server), declared_mounts(TWO), clock=FixedClock()).mounts
        assert [row.name for row in rows] == ["order", "pay"]
        assert server.requests_made - before == 3 + 3 * 2

    @pytest.mark.parametrize(
        ("registered", "code"),
        [(None, "plugin-not-registered"), ("cd" * 32, "plugin-differs")],
    )
    def test_c2_a_mount_that_runs_another_file_than_the_catalogs_is_6(
        self, server, registered, code
    ):
        version = "v9.9.9"
        server.mounts["skyflow/order"] |= {
            "running_plugin_version": version,
            "running_sha256": "ab" * 32,
        }
        if registered:
            server.catalog.append(entry(version, registered))
        result = status(Gateway(server), declared_mounts(TWO), clock=FixedClock())
        (problem,) = result.problems
        assert problem.code == code
        assert "--reload" in problem.fix
        assert result.exit_code == 6
        order, pay = result.mounts
        assert (order.catalog, pay.catalog) == (
            code.removeprefix("plugin-").replace("-", "_"),
            "not_told",
        )

    def test_c2_a_registered_file_that_is_missing_is_6(self, server):
        server.catalog.append(entry("v9.9.9", "ab" * 32))
        server.mounts["skyflow/order"] |= {
            "running_plugin_version": "v9.9.9",
            "running_sha256": "ab" * 32,
        }
        gone = "failed validating the command path: lstat /plugins/f: no such file or directory"

        def no_file(method, path):
            if path == "sys/plugins/catalog/secret/skyflow":
                raise error_for(500, (gone,), method=method, path=path)

        server.hook = no_file
        result = status(Gateway(server), declared_mounts(TWO), clock=FixedClock())
        assert [one.code for one in result.problems] == ["plugin-file-missing"]
        assert result.exit_code == 6
        assert [one.catalog for one in result.mounts] == ["file_missing", "not_told"]

    def test_c2_entries_that_may_only_be_listed_are_compared_all_the_same(self, server):
        server.catalog.append(entry("v9.9.9", "cd" * 32))
        server.mounts["skyflow/order"] |= {
            "running_plugin_version": "v9.9.9",
            "running_sha256": "ab" * 32,
        }

        def forbidden(method, path):
            if path == "sys/plugins/catalog/secret/skyflow":
                raise error_for(403, ("permission denied",), method=method, path=path)

        server.hook = forbidden
        result = status(Gateway(server), declared_mounts(TWO), clock=FixedClock())
        assert [one.code for one in result.problems] == ["plugin-differs"]
        assert [one.code for one in result.warnings] == ["catalog-not-read"]
        assert "sudo" in result.warnings[0].fix

    def test_a_catalog_that_cannot_be_read_is_said(self, server):
        def forbidden(method, path):
            if path == "sys/plugins/catalog":
                raise error_for(403, ("permission denied",), method=method, path=path)

        server.hook = forbidden
        result = status(Gateway(server), declared_mounts(TWO), clock=FixedClock())
        assert [one.code for one in result.warnings] == ["catalog-not-read"]
        assert result.exit_code == 0
        assert {one.catalog for one in result.mounts} == {"not_read"}

    def test_a_mount_in_full(self, server):
        server.mounts["skyflow/order"]["running_plugin_version"] = "v1.0.0"
        server.configs["skyflow/order"] |= {
            "credential_updated": rfc3339(NOW - timedelta(days=2)),
            "key_valid_before": "2027-01-01T00:00:00Z",
        }
        row = self.one(server)
        assert (row.engine_name, row.engine_version, row.health) == ("skyflow", "v1.0.0", "ok")
        assert row.roles == ("writer",)
        assert row.credential.key_id == "key-order-1"
        assert row.credential.version == 1
        assert row.credential.age_seconds == 2 * 86_400
        assert row.credential.expires_at == "2027-01-01T00:00:00Z"
        assert row.credential.due is False

    def test_an_engine_that_tells_no_times_has_no_age(self, server):
        credential = self.one(server).credential
        assert (credential.age_seconds, credential.expires_at) == (None, "")

    def test_due_is_by_the_mounts_own_rule(self, server):
        server.configs["skyflow/order"]["credential_updated"] = rfc3339(NOW - timedelta(days=91))
        rule = RotationRule(max_age=timedelta(days=90))
        assert self.one(server, MountRef("order", "skyflow/order", rule)).credential.due

    def test_nothing_there_and_another_type_there(self, server):
        assert self.one(server, MountRef("x", "skyflow/x")).health == "not_mounted"
        server.mounts["skyflow/order"]["type"] = "kv"
        row = self.one(server)
        assert (row.health, row.engine_name, row.credential) == ("not_mounted", "kv", None)

    def test_an_unconfigured_mount_has_no_credential(self, server):
        server.configs["skyflow/order"] = {}
        server.health["skyflow/order"] = {"healthy": False, "token_service": {}}
        row = self.one(server)
        assert (row.health, row.credential) == ("unconfigured", None)

    def test_an_unreadable_engine_says_why(self, server):
        def hook(method, path):
            if path == "skyflow/order/config":
                raise error_for(403, ("permission denied",), method=method, path=path)

        server.hook = hook
        row = self.one(server)
        assert row.credential is None
        assert row.problem.code == "forbidden"

    def test_a_mount_that_does_not_answer_blinds_nobody(self, server):
        def hook(method, path):
            if path.startswith("skyflow/order/"):
                raise no_response_error(method, path, "https://x", "nothing within 12 s")

        server.hook = hook
        result = status(Gateway(server), declared_mounts(TWO), clock=FixedClock(), deadline=12)
        order, pay = result.mounts
        assert (pay.health, pay.roles, pay.problem) == ("ok", ("writer",), None)
        assert (order.health, order.credential) == ("unreachable", None)
        assert (order.problem.code, order.problem.why) == ("unreachable", "nothing within 12 s")
        assert "'kill -9 PID'" in order.problem.fix
        assert (result.exit_code, result.problems) == (ExitCode.PARTIAL, (order.problem,))
        assert [path for _, path, _ in server.log if path.startswith("skyflow/order/")].count(
            "skyflow/order/config"
        ) == 1  # its write before

    def test_without_names_the_server_tells_them(self, server):
        rows = status(Gateway(server), None, clock=FixedClock()).mounts
        assert [(row.name, row.path) for row in rows] == [
            ("order", "skyflow/order"),
            ("pay", "skyflow/pay"),
        ]
