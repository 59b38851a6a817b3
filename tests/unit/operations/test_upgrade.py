"""``plugin upgrade`` and ``plugin rollback``: proofs, order, the way back, a kill at any request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
from support.transports import FakeTransport
from support.upgrade_server import (
    BROKEN,
    DEAD,
    NAME,
    NEW,
    OLD,
    KilledError,
    NodeTransport,
    UpgradeServer,
    mount_entry,
)

from skyflowctl.errors import ExitCode, NotPermittedError, RefusedError
from skyflowctl.executor.stop import Stop
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.upgrade import nodes as upgrade_nodes
from skyflowctl.operations.upgrade import run as upgrade_run
from skyflowctl.operations.upgrade.model import UpgradePlan, UpgradeRequest, UpgradeResult
from skyflowctl.operations.upgrade.nodes import open_upgrade_nodes
from skyflowctl.operations.upgrade.plan import plan_upgrade
from skyflowctl.operations.upgrade.run import UpgradeSession, preview_upgrade, run_upgrade
from skyflowctl.vault.errors import BusyError, ForbiddenError, ServerUnreachableError
from skyflowctl.vault.transport import ServerInfo, make_reply

ORDER, PAYMENT = "skyflow/order", "skyflow/payment"
THREE = ("n0", "n1", "n2")
TO_NEW = UpgradeRequest(NAME, None, NEW)
BACK = UpgradeRequest(NAME, None, rollback=True)


def server(names: Sequence[str] = ("n0",), **more: object) -> UpgradeServer:
    return UpgradeServer({ORDER: mount_entry(), PAYMENT: mount_entry()}, tuple(names), **more)


def planned(there: UpgradeServer, request: UpgradeRequest) -> UpgradePlan:
    gateway = there.gateway()
    with open_upgrade_nodes(gateway, there.connect) as nodes:
        return plan_upgrade(gateway, nodes, request)


def upgraded(
    there: UpgradeServer, request: UpgradeRequest, stop: Stop | None = None
) -> UpgradeResult:
    gateway = there.gateway()
    with open_upgrade_nodes(gateway, there.connect) as nodes:
        plan = plan_upgrade(gateway, nodes, request)
        session = UpgradeSession(gateway, nodes, stop or Stop(), lambda *_: None, request.rollback)
        return run_upgrade(session, plan, request.soak)


def results(result: UpgradeResult) -> dict[str, str]:
    return {one.mount.path: one.result.value for one in result.mounts}


@pytest.mark.parametrize("names", [("n0",), THREE])
def test_every_node_reloads_each_mount_the_leader_last(names):
    there = server(names)
    result = upgraded(there, replace(TO_NEW, canary=PAYMENT))
    assert list(results(result)) == [PAYMENT, ORDER]
    assert result.exit_code is ExitCode.OK
    assert there.versions(ORDER) == there.versions(PAYMENT) == {NEW}
    reloads = [name for name, _, path in there.log if path == "sys/plugins/reload/backend"]
    assert reloads == [*names[1:], "n0"] * 2
    assert there.mounts[ORDER]["options"] == {"upgraded_from": OLD}


@pytest.mark.parametrize("names", [("n0",), THREE])
@pytest.mark.parametrize("version", [NEW, BROKEN])
def test_killed_at_any_request_the_same_command_finishes(names, version):
    request = UpgradeRequest(NAME, None, version)
    whole = server(names)
    upgraded(whole, request)
    assert whole.requests > 20
    for number in range(1, whole.requests + 1):
        there = server(names, dies_at=number)
        with pytest.raises(KilledError):
            upgraded(there, request)
        there.dies_at = 0
        upgraded(there, request)
        wanted = {NEW} if version == NEW else {OLD}
        assert there.versions(ORDER) == wanted, number
        assert there.serves(ORDER), number
        assert there.serves(PAYMENT), number
        assert "upgrade_open" not in there.mounts[ORDER]["options"], number


@pytest.mark.parametrize("names", [("n0",), THREE])
def test_a_rollback_that_was_killed_is_finished_and_never_goes_forward(names):
    whole = server(names)
    upgraded(whole, TO_NEW)
    before = whole.requests
    upgraded(whole, BACK)
    for number in range(1, whole.requests - before + 1):
        there = server(names)
        upgraded(there, TO_NEW)
        there.requests, there.dies_at = 0, number
        with pytest.raises(KilledError):
            upgraded(there, BACK)
        there.dies_at = 0
        assert set(results(upgraded(there, BACK)).values()) <= {"rolled_back", "unchanged"}
        assert there.versions(ORDER) == there.versions(PAYMENT) == {OLD}, number
        assert set(results(upgraded(there, BACK)).values()) == {"unchanged"}


@pytest.mark.parametrize("names", [("n0",), THREE])
def test_what_does_not_mint_goes_back_and_the_next_mount_is_not_touched(names):
    there = server(names)
    result = upgraded(there, UpgradeRequest(NAME, None, BROKEN))
    assert results(result) == {ORDER: "rolled_back", PAYMENT: "not_started"}
    assert result.exit_code is ExitCode.PARTIAL
    (problem,) = [one.problem for one in result.mounts if one.problem]
    assert problem.code == "upgrade-lost-roles"
    assert there.versions(ORDER) == {OLD}
    assert not [path for _, _, path in there.log if PAYMENT in path and "tune" in path]
    reloads = [name for name, _, path in there.log if path == "sys/plugins/reload/backend"]
    assert len(set(reloads)) == 1


@pytest.mark.parametrize("names", [("n0",), THREE])
def test_a_failed_upgrade_keeps_the_way_back_of_the_one_before(names):
    there = server(names)
    upgraded(there, TO_NEW)
    assert results(upgraded(there, UpgradeRequest(NAME, None, BROKEN)))[ORDER] == "rolled_back"
    assert there.versions(ORDER) == {NEW}
    assert there.mounts[ORDER]["options"] == {"upgraded_from": OLD}
    assert set(results(upgraded(there, BACK)).values()) == {"rolled_back"}
    assert there.versions(ORDER) == {OLD}


@pytest.mark.parametrize("names", [("n0",), THREE])
def test_the_record_of_the_version_before_outlives_a_killed_and_a_failed_upgrade(names):
    to_broken = UpgradeRequest(NAME, (MountRef("order", ORDER),), BROKEN)
    whole = server(names)
    upgraded(whole, TO_NEW)
    before = whole.requests
    upgraded(whole, to_broken)
    for number in range(1, whole.requests - before + 1):
        there = server(names)
        upgraded(there, TO_NEW)
        there.requests, there.dies_at = 0, number
        with pytest.raises(KilledError):
            upgraded(there, to_broken)
        there.dies_at = 0
        upgraded(there, to_broken)
        assert there.versions(ORDER) == {NEW}, number
        assert there.mounts[ORDER]["options"] == {"upgraded_from": OLD}, number


@pytest.mark.parametrize("names", [("n0",), THREE])
def test_an_upgrade_that_fails_after_a_rollback_keeps_the_record_of_the_rollback(names):
    order = (MountRef("order", ORDER),)

    def upgraded_and_back(dies_at: int = 0) -> UpgradeServer:
        there = server(names)
        upgraded(there, UpgradeRequest(NAME, order, NEW))
        upgraded(there, UpgradeRequest(NAME, order, OLD))
        there.requests, there.dies_at = 0, dies_at
        with pytest.raises(KilledError) if dies_at else nullcontext():
            upgraded(there, UpgradeRequest(NAME, order, rollback=True))
        return there

    for number in range(upgraded_and_back().requests + 1):
        there = upgraded_and_back(dies_at=number)
        there.dies_at = 0
        upgraded(there, UpgradeRequest(NAME, order, rollback=True))
        upgraded(there, UpgradeRequest(NAME, order, BROKEN))
        assert there.versions(ORDER) == {NEW}, number
        assert there.mounts[ORDER]["options"] == {"upgraded_from": NEW}, number
        back = upgraded(there, UpgradeRequest(NAME, order, rollback=True))
        assert results(back) == {ORDER: "unchanged"}


def test_a_verified_upgrade_of_a_single_node_leaves_only_the_version_before():
    there = server()
    upgraded(there, TO_NEW)
    upgraded(there, UpgradeRequest(NAME, None, OLD))
    assert there.mounts[ORDER]["options"] == {"upgraded_from": NEW}


def test_a_mount_without_a_version_to_go_back_to_is_refused_unless_it_is_allowed():
    there = UpgradeServer({ORDER: mount_entry("v0.9.0")})
    with pytest.raises(RefusedError, match=r"skyflow/order \(v0\.9\.0\)") as refused:
        upgraded(there, TO_NEW)
    assert "--no-rollback" in refused.value.problems[0].fix
    assert there.versions(ORDER) == {"v0.9.0"}
    assert results(upgraded(there, replace(TO_NEW, no_rollback=True))) == {ORDER: "upgraded"}


def test_a_version_whose_file_a_node_has_lost_is_no_rollback():
    there = server(THREE, lacks={"n1": {OLD}})
    with pytest.raises(RefusedError) as refused:
        upgraded(there, TO_NEW)
    assert [one.code for one in refused.value.problems] == ["no-version-before"]


@pytest.mark.parametrize("path", [f"sys/mounts/{PAYMENT}/tune", "sys/plugins/reload/backend"])
def test_what_a_control_group_guards_is_refused_before_the_first_write(path):
    there = server(guarded=(path,))
    with pytest.raises(RefusedError, match=path) as refused:
        upgraded(there, TO_NEW)
    assert [one.code for one in refused.value.problems] == ["approval-needed"]
    assert not [path for _, _, path in there.log if "tune" in path or "reload" in path]


def test_a_tune_that_was_not_carried_out_is_not_followed_by_a_way_back():
    there = server(tune_error=ForbiddenError("permission denied"))
    result = upgraded(there, TO_NEW)
    assert results(result) == dict.fromkeys((ORDER, PAYMENT), "not_started")
    assert result.exit_code == ExitCode.NOT_PERMITTED
    assert [one.name.value for one in result.mounts[0].steps] == ["tune"]
    assert [path for _, _, path in there.log if "tune" in path] == [f"sys/mounts/{ORDER}/tune"]


def test_a_mount_that_is_not_answered_before_its_first_write_is_not_started(monkeypatch):
    there = server()
    gateway = there.gateway()

    def busy(*_: object) -> None:
        raise BusyError("the server is busy", status=429)

    with open_upgrade_nodes(gateway, there.connect) as nodes:
        plan = plan_upgrade(gateway, nodes, TO_NEW)
        monkeypatch.setattr(NodeTransport, "_entry", busy)
        result = run_upgrade(UpgradeSession(gateway, nodes, Stop(), lambda *_: None), plan, 0.0)
    assert results(result) == dict.fromkeys((ORDER, PAYMENT), "not_started")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert not [path for _, _, path in there.log if "tune" in path]


def test_a_file_that_differs_on_one_standby_goes_back():
    there = server(THREE, spoiled={"n2": {NEW}})
    result = upgraded(there, TO_NEW)
    assert results(result) == {ORDER: "rolled_back", PAYMENT: "not_started"}
    assert there.versions(ORDER) == {OLD}
    assert there.serves(ORDER)


@pytest.mark.parametrize("status", [403, 500])
def test_an_answer_that_is_not_the_engines_is_no_proof_that_a_version_runs(status):
    there = server(config_status=status)
    result = upgraded(there, TO_NEW)
    assert results(result) == {ORDER: "failed", PAYMENT: "not_started"}
    (problem,) = [one.problem for one in result.mounts if one.problem]
    assert "whether the plugin runs is not known: " in problem.why
    assert not result.mounts[0].nodes[0].serves


def test_a_login_that_may_not_read_the_proof_is_refused_before_the_first_write():
    there = server(rights=("update",))
    with pytest.raises(NotPermittedError, match=r"skyflow/order/config \(read\)"):
        upgraded(there, TO_NEW)
    assert not [path for _, _, path in there.log if "tune" in path or "reload" in path]


def test_a_mount_that_cannot_go_back_is_unhealthy(monkeypatch):
    monkeypatch.setattr(upgrade_nodes, "LAG_SECONDS", 0.1)
    there = server(THREE, spoiled={"n2": {NEW, OLD}})
    result = upgraded(there, TO_NEW)
    assert result.exit_code is ExitCode.UNHEALTHY
    (problem,) = [one.problem for one in result.mounts if one.problem]
    assert problem.code == "upgrade-not-undone"
    assert "the rollback failed" in problem.why


@pytest.mark.parametrize(
    ("request_", "more", "code"),
    [
        (TO_NEW, {"lacks": {"n1": {NEW}}}, "plugin-file-missing"),
        (UpgradeRequest(NAME, None, DEAD), {}, "plugin-does-not-start"),
        (UpgradeRequest(NAME, None, "v9.0.0"), {}, "plugin-not-registered"),
        (UpgradeRequest(NAME, (MountRef("x", "skyflow/x"),), NEW), {}, "not-mounted"),
        (BACK, {}, "no-version-before"),
    ],
)
def test_what_is_refused_is_refused_before_the_first_write(request_, more, code):
    there = server(THREE, **more)
    with pytest.raises(RefusedError) as refused:
        upgraded(there, request_)
    assert refused.value.problems[0].code == code
    assert not [path for _, _, path in there.log if "tune" in path or "reload" in path]


def test_a_node_that_was_not_named_is_refused():
    there = server(THREE)
    gateway = there.gateway()

    def connect(node):
        return None if node.api_address == "n2" else there.connect(node)

    with pytest.raises(RefusedError, match="n2"), open_upgrade_nodes(gateway, connect):
        pass


@pytest.mark.parametrize(("cluster", "absent"), [("c1", False), ("other", True), (None, True)])
def test_a_named_node_that_does_not_serve_in_the_cluster_is_refused(cluster, absent):
    """A dead node is no longer listed, and would keep the version before."""
    there = server(THREE)
    gateway = there.gateway()
    gateway.transport.server = ServerInfo("n0", ("n0", "n1", "gone"))

    class Other(FakeTransport):
        def send(self, request):
            if cluster is None:
                raise ServerUnreachableError("refused", method="GET", path=request.path)
            health = {"initialized": True, "sealed": False, "cluster_id": cluster}
            return make_reply(200, health, {})

    gateway.transport.at_node = lambda address: Other()
    refused = pytest.raises(RefusedError, match="gone") if absent else nullcontext()
    with refused, open_upgrade_nodes(gateway, there.connect) as nodes:
        assert [one.name for one in nodes] == ["n1", "n2", "n0"]


def test_a_login_that_may_not_tune_is_told_the_policy():
    there = server(rights=("read", "sudo"))
    with pytest.raises(NotPermittedError) as refused:
        planned(there, TO_NEW)
    rule = 'path "sys/mounts/skyflow/order/tune" { capabilities = ["read", "update", "sudo"] }'
    assert rule in refused.value.problems[0].fix


def test_a_declared_mount_that_is_not_there_yet_is_left_out():
    there = server()
    refs = (MountRef("order", ORDER), MountRef("new", "skyflow/new"))
    plan = planned(there, UpgradeRequest(NAME, refs, NEW, absent_allowed=True))
    assert [one.mount.path for one in plan.mounts] == [ORDER]
    assert [one.code for one in plan.warnings] == ["not-mounted"]


def test_mounts_of_a_shared_process_are_named():
    there = server(args=("--shared",))
    assert planned(there, TO_NEW).at_risk == (ORDER, PAYMENT)
    assert planned(server(), TO_NEW).at_risk == ()


def test_a_preview_writes_nothing():
    there = server()
    found = preview_upgrade(planned(there, TO_NEW))
    assert set(results(found).values()) == {"would_change"}
    assert {(one.before, one.after) for one in found.mounts} == {(OLD, NEW)}
    assert not [path for _, _, path in there.log if "tune" in path or "reload" in path]
    upgraded(there, TO_NEW)
    assert {one.before for one in preview_upgrade(planned(there, TO_NEW)).mounts} == {OLD}


def test_the_canary_is_watched_until_its_time_has_passed(monkeypatch):
    waits = []
    stop = Stop()
    monkeypatch.setattr(stop, "wait", waits.append)
    monkeypatch.setattr(upgrade_run.time, "monotonic", iter(range(10**6)).__next__)
    there = server()
    result = upgraded(there, replace(TO_NEW, canary=ORDER, soak=60.0), stop)
    assert [step.name.value for step in result.mounts[0].steps] == [
        "tune",
        "reload",
        "verify",
        "soak",
    ]
    assert len(waits) > 1
    assert results(result) == dict.fromkeys((ORDER, PAYMENT), "upgraded")


def test_a_soak_that_a_stop_cuts_short_is_not_recorded_as_done():
    stop = Stop()
    there = server()
    gateway = there.gateway()
    with open_upgrade_nodes(gateway, there.connect) as nodes:
        plan = plan_upgrade(gateway, nodes, TO_NEW)
        session = UpgradeSession(gateway, nodes, stop, lambda *_: stop.ask())
        result = run_upgrade(session, plan, 60.0)
    assert results(result) == {ORDER: "upgraded", PAYMENT: "not_started"}
    assert [(one.name.value, one.ok) for one in result.mounts[0].steps][-1] == ("soak", False)


def test_a_stop_finishes_the_mount_that_was_begun():
    stop = Stop()
    there = server()
    gateway = there.gateway()
    with open_upgrade_nodes(gateway, there.connect) as nodes:
        plan = plan_upgrade(gateway, nodes, TO_NEW)
        session = UpgradeSession(gateway, nodes, stop, lambda *_: stop.ask())
        result = run_upgrade(session, plan, 0.0)
    assert results(result) == {ORDER: "upgraded", PAYMENT: "not_started"}
    assert result.interrupted
