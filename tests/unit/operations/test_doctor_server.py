"""What ``doctor`` says of a server: nothing is ok that was not asked."""

from __future__ import annotations

import pytest
from support.fake_server import FakeServer

from skyflowctl.clock import SystemClock
from skyflowctl.doctor.model import Grade
from skyflowctl.operations.blocked_audit import AuditSuspects
from skyflowctl.operations.doctor import server as checks
from skyflowctl.operations.doctor.server import KEYS, ServerLooks
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.posture.checks.audit_devices import check_audit_devices
from skyflowctl.posture.facts import Facts, Server
from skyflowctl.vault.errors import (
    AuditBlockedError,
    BadRequestError,
    BusyError,
    NamespaceMissingError,
    NotFoundError,
    SealedError,
    ServerUnreachableError,
)
from skyflowctl.vault.gateway import Gateway


class Answering(FakeServer):
    """A server that answers every request for a control group with this error, or with 200."""

    def __init__(self, error) -> None:
        super().__init__()
        self.error = error

    def send(self, request):
        if request.path.startswith("sys/control-group/") and self.error:
            raise self.error
        return super().send(request)


def looks(server: FakeServer, mounts=None) -> ServerLooks:
    return ServerLooks(
        Gateway(server),
        suspects=AuditSuspects(),
        mounts=mounts,
        plugin_name="skyflow",
        clock=SystemClock(),
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
    found = looks(FakeServer(), mounts).looks()[KEYS]()
    assert [one.grade for one in found] == [Grade.UNKNOWN]


def test_a_key_is_not_called_due_or_not_without_a_rule():
    server = FakeServer()
    server.mounts["skyflow/order"] = {"type": "skyflow", "options": {}}
    server.roles["skyflow/order"] = {}
    server.configs["skyflow/order"] = {}
    found = looks(server).looks()[KEYS]()
    assert not any("no key" in one.summary for one in found), found
    assert any("1 mount without a rule" in one.summary for one in found), found


def test_a_declared_mount_that_is_not_there_is_bad():
    found = looks(FakeServer(), [MountRef("order", "skyflow/order")]).looks()["engine"]()
    bad = [one for one in found if one.grade is Grade.BAD]
    assert [one.summary for one in bad] == ["there is no mount skyflow/order"]
    assert bad[0].fix == "skyflowctl apply"


def test_the_fix_for_a_second_audit_device_is_whole():
    facts = Facts(SystemClock().now(), Server("https://bao"), audit_devices=(), audited_headers={})
    (finding,) = check_audit_devices(facts)
    assert checks._of_posture(finding).fix == finding.fix
    assert 'audit "file" "second"' in finding.fix
