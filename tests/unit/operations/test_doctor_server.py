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
    PluginMissingError,
    SealedError,
    ServerUnreachableError,
)
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import ServerInfo, make_reply


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
        BadRequestError("refused", status=400, messages=("enterprise-only feature",)),
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


class Guarded(FakeServer):
    """A server of one node; this login may not read these paths of it, but may list there."""

    server = ServerInfo("n1", ("https://n1:8200",))

    def __init__(self, *refused: str, by_policy: bool = True) -> None:
        super().__init__()
        self.refused, self.by_policy = refused, by_policy
        self.mounts["skyflow/order"] = {"type": "skyflow", "options": {}}
        self.roles["skyflow/order"], self.configs["skyflow/order"] = {}, {}
        self.rights = ["list"]
        self.nodes = []
        self.server_health = {"initialized": True, "version": "2.7.2", "cluster_id": "c"}

    def at_node(self, address):
        del address
        return self

    def send(self, request):
        if request.path in self.refused:
            denied = ("permission denied",)
            error = error_for(403, denied, method=request.method, path=request.path)
            error.by_policy = self.by_policy
            raise error
        if request.path.startswith("sys/control-group/"):
            raise BadRequestError("invalid accessor", status=400)
        if request.path == "sys/audit":
            return make_reply(200, {"data": {}}, {})
        return super().send(request)


HEADERS = "sys/config/auditing/request-headers"


@pytest.mark.parametrize(
    ("check", "path", "rights"),
    [
        ("server", "sys/ha-status", '"read", "list"'),
        ("server", "sys/control-group/request", '"update", "list"'),
        ("plugin", "sys/plugins/catalog", '"read", "list"'),
        ("engine", "sys/mounts", '"read", "list"'),
        ("engine", "skyflow/order/health", '"read", "list"'),
        ("keys", "skyflow/order/config", '"read", "list"'),
        ("audit", "sys/audit", '"read", "list", "sudo"'),
        ("audit", HEADERS, '"read", "list", "sudo"'),
        ("login", LOOK_UP, '"read", "list"'),
    ],
)
def test_what_a_policy_does_not_allow_names_the_whole_rule_and_the_command(check, path, rights):
    made = checks_of(Guarded(path))
    list(made.nodes())
    found = made.checks()[check]()
    rule = f'path "{path}" {{ capabilities = [{rights}] }}'
    fixes = [one.fix for one in found if one.grade is Grade.UNKNOWN]
    assert fixes == [f"add to a policy of this login:  {rule}\nbao policy write NAME FILE"], found


@pytest.mark.parametrize(
    ("check", "path"), [("server", "sys/ha-status"), ("keys", "skyflow/order/config")]
)
def test_a_dead_token_is_told_to_log_in_and_not_to_change_a_policy(check, path):
    found = checks_of(Guarded(path, by_policy=False)).checks()[check]()
    (fix,) = [one.fix for one in found if one.grade is Grade.UNKNOWN]
    assert "bao login" in fix
    assert "policy" not in fix


def test_a_server_whose_nodes_may_not_be_listed_is_described_all_the_same():
    found = checks_of(Guarded("sys/ha-status")).checks()["server"]()
    assert [(one.grade, one.summary) for one in found] == [
        (Grade.OK, "version 2.7.2, cluster c"),
        (Grade.UNKNOWN, "not permitted: GET v1/sys/ha-status"),
        (Grade.OK, "it has control groups: policies may require approvals"),
    ]


def test_the_plugins_of_the_nodes_are_looked_at_without_the_catalog():
    server = Guarded("sys/plugins/catalog")
    ended = PluginMissingError("it ended", messages=("exit 1",), status=500)

    def refuse(_method: str, path: str) -> None:
        if path == "skyflow/order/config":
            raise ended

    server.hook = refuse
    made = checks_of(server)
    list(made.nodes())
    found = made.checks()["plugin"]()
    bad = [one.summary for one in found if one.grade is Grade.BAD]
    assert bad == ["the node https://n1:8200 is plugin missing"]
    assert found[-1].summary == "not permitted: GET v1/sys/plugins/catalog"


def test_declared_mounts_are_asked_even_if_the_mounts_may_not_be_listed():
    made = checks_of(Guarded("sys/mounts"), [MountRef("order", "skyflow/order")]).checks()
    grades = {one.summary: one.grade for one in made["engine"]()}
    assert grades["not permitted: GET v1/sys/mounts"] is Grade.UNKNOWN
    assert grades["order gives tokens"] is Grade.OK
    assert [one.grade for one in made["keys"]()] == [Grade.OK, Grade.OK]
    lacking = [one.summary for one in made["permissions"]()]
    assert "this login may not read sys/mounts" in lacking
    assert "this login may not read skyflow/order/config" in lacking


def test_rights_at_the_server_are_told_even_if_the_mounts_are_not_known():
    found = checks_of(Guarded("sys/mounts")).checks()["permissions"]()
    assert "this login may not read sys/ha-status" in [one.summary for one in found]
    assert found[-1].summary == "not permitted: GET v1/sys/mounts"


def test_a_plugin_that_may_not_be_asked_names_the_command_too():
    made = checks_of(Guarded("skyflow/order/config"))
    list(made.nodes())
    (unknown,) = [one for one in made.checks()["plugin"]() if one.grade is Grade.UNKNOWN]
    rule, command = unknown.fix.splitlines()
    assert 'path "skyflow/order/config"' in rule
    assert command == "bao policy write NAME FILE"
