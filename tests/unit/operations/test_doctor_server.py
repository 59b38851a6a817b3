"""What ``doctor`` says of a server: nothing is ok that was not asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.fake_server import FakeServer

from skyflowctl.clock import SystemClock, rfc3339
from skyflowctl.doctor.model import Grade, diagnose
from skyflowctl.operations.blocked_audit import AuditSuspects
from skyflowctl.operations.doctor import server as checks
from skyflowctl.operations.doctor.nodes import other_files
from skyflowctl.operations.doctor.server import KEYS, ServerChecks
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.node_states import NodeStatus
from skyflowctl.posture.checks.audit_devices import check_audit_devices
from skyflowctl.posture.facts import Facts, Server
from skyflowctl.vault.catalog import RunningMount, RunningState
from skyflowctl.vault.errors import (
    AuditBlockedError,
    BadRequestError,
    BusyError,
    ForbiddenError,
    NamespaceMissingError,
    NotFoundError,
    SealedError,
    ServerUnreachableError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import make_reply


class Answering(FakeServer):
    """A server that answers every request for a control group with this error, or with 200."""

    def __init__(self, error) -> None:
        super().__init__()
        self.error = error

    def send(self, request):
        if request.path.startswith("sys/control-group/") and self.error:
            raise self.error
        if request.path == "sys/audit":
            return make_reply(200, {"data": {}}, {})
        return super().send(request)


def checks_of(server: FakeServer, mounts=None) -> ServerChecks:
    return ServerChecks(
        Gateway(server),
        suspects=AuditSuspects(),
        declared=mounts,
        plugin_name="skyflow",
        prefix="skyflow",
        clock=SystemClock(),
        refuse_other=lambda: None,
    )


def control_groups(error):
    return checks._control_groups(Gateway(Answering(error)))


@pytest.mark.parametrize(
    "kind",
    [ServerUnreachableError, SealedError, BusyError, AuditBlockedError, NamespaceMissingError],
)
def test_control_groups_are_not_known_from_a_request_that_failed(kind):
    found = control_groups(kind("it failed"))
    assert (found.grade, found.detail) == (Grade.UNKNOWN, "it failed")


def test_control_groups_are_known_from_the_expected_refusals():
    there = control_groups(BadRequestError("invalid accessor", status=400))
    assert (there.grade, there.summary.startswith("it has control groups")) == (Grade.OK, True)
    for error in (
        NotFoundError("no route", status=404),
        BadRequestError("refused", status=400, messages=("unsupported path",)),
    ):
        absent = control_groups(error)
        assert (absent.grade, "has no control groups" in absent.summary) == (Grade.OK, True)


@pytest.mark.parametrize("mounts", [None, [MountRef("order", "skyflow/order")]])
def test_no_key_is_ok_without_a_mount(mounts):
    found = checks_of(FakeServer(), mounts).checks()[KEYS]()
    assert [one.grade for one in found] == [Grade.UNKNOWN]


def test_a_key_is_not_called_due_or_not_without_a_rule():
    server = FakeServer()
    server.mounts["skyflow/order"] = {"type": "skyflow", "options": {}}
    server.roles["skyflow/order"] = {}
    server.configs["skyflow/order"] = {}
    found = checks_of(server).checks()[KEYS]()
    assert not any("no key" in one.summary for one in found), found
    assert any("1 mount without a rule" in one.summary for one in found), found


def test_a_declared_mount_that_is_not_there_is_bad():
    found = checks_of(FakeServer(), [MountRef("order", "skyflow/order")]).checks()["engine"]()
    bad = [one for one in found if one.grade is Grade.BAD]
    assert [one.summary for one in bad] == ["there is no mount skyflow/order"]
    assert bad[0].fix == "skyflowctl apply"


def test_the_fix_for_a_second_audit_device_is_whole():
    facts = Facts(SystemClock().now(), Server("https://bao"), audit_devices=(), audited_headers={})
    (finding,) = check_audit_devices(facts)
    assert checks._of_posture(finding).fix == finding.fix
    assert 'audit "file" "second"' in finding.fix


LOOK_UP = "auth/token/lookup-self"


class LookingUp(FakeServer):
    """A server that answers a look-up with this error, else with a login that ends then."""

    def __init__(self, error=None, ends="") -> None:
        super().__init__()
        self.error = error
        self.ends = ends

    def send(self, request):
        if request.path != LOOK_UP:
            return super().send(request)
        if self.error:
            raise self.error
        data = {"display_name": "ada", "policies": ["operator"], "expire_time": self.ends}
        return make_reply(200, {"data": data}, {})


def login(server: FakeServer):
    (found,) = diagnose({"login": checks_of(server).checks()["login"]})
    return found


def test_a_login_that_may_not_look_itself_up_is_not_called_bad():
    refused = ForbiddenError("forbidden", fix="use a valid token", status=403)
    assert login(LookingUp(refused)).grade is Grade.BAD
    refused.by_policy = True
    found = login(LookingUp(refused))
    assert (found.grade, found.summary) == (
        Grade.UNKNOWN,
        "this login is valid, and may not look itself up",
    )
    assert f'path "{LOOK_UP}" {{ capabilities = ["read"] }}' in found.fix
    assert login(LookingUp(ServerUnreachableError("gone", fix="f"))).grade is Grade.UNKNOWN


@pytest.mark.parametrize(("hours", "grade"), [(0.5, Grade.WARNING), (2, Grade.OK)])
def test_a_login_that_ends_soon_is_a_warning(hours, grade):
    ends = SystemClock().now() + timedelta(hours=hours)
    found = login(LookingUp(ends=rfc3339(ends)))
    assert found.grade is grade
    assert "ada with the policies operator" in found.summary
    assert rfc3339(ends) in found.detail
    assert "never ends" in login(LookingUp()).detail


def test_the_mounts_are_read_once_for_all_checks():
    server = Answering(NotFoundError("no route", status=404))
    server.mounts["skyflow/order"] = {"type": "skyflow", "options": {}}
    server.roles["skyflow/order"], server.configs["skyflow/order"] = {}, {}
    diagnose(checks_of(server).checks())
    assert [path for _, path, _ in server.log].count("sys/mounts") == 1


def test_what_needs_the_mounts_is_unknown_if_they_cannot_be_read():
    server = Answering(NotFoundError("no route", status=404))

    def refuse(_method: str, path: str) -> None:
        if path == "sys/mounts":
            raise ForbiddenError("forbidden: GET v1/sys/mounts", fix="f", status=403)

    server.hook = refuse
    found = diagnose(checks_of(server).checks())
    unknown = {one.check for one in found if one.summary == "forbidden: GET v1/sys/mounts"}
    assert unknown == {"permissions", "plugin", "engine", "keys"}


def test_names_and_paths_are_those_of_the_manifest():
    server = FakeServer()
    server.mounts["team/order"] = {"type": "pii", "options": {}}
    server.roles["team/order"], server.configs["team/order"] = {}, {}
    server.rights = ["list"]
    made = ServerChecks(
        Gateway(server),
        suspects=AuditSuspects(),
        declared=None,
        plugin_name="pii",
        prefix="team",
        clock=SystemClock(),
        refuse_other=lambda: None,
    ).checks()
    assert any(one.summary.startswith("order ") for one in made["engine"]())
    lacking = [one.summary for one in made["permissions"]()]
    assert "this login may not read and sudo sys/plugins/catalog/secret/pii" in lacking


def test_a_node_that_runs_another_file_is_reloaded_by_our_own_command():
    node = NodeStatus("https://n2", "standby", digests={"skyflow/order": "b" * 64})
    running = [RunningMount("skyflow/order", "v1.0.0", "a" * 64, RunningState.OK)]
    (found,) = other_files([node], running)
    assert found.fix == "skyflowctl plugin upgrade skyflow/order --to v1.0.0"
    same = replace(node, digests={"skyflow/order": "a" * 64})
    assert list(other_files([same], running)) == []
