"""Audit devices of a plan: created only, compared as a whole, and never shown with a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.errors import Problem
from skyflowctl.manifest.load import load_manifest
from skyflowctl.planner.access import plan_access
from skyflowctl.planner.desired import access_needed, desired_access
from skyflowctl.planner.plan import PlanOptions
from skyflowctl.vault.audit_devices import stanza
from skyflowctl.vault.live import LiveAccess

PATH = "sys/audit/primary"
TEXT = """\
version: 1
manifest: shop
mounts: {}
audit_devices:
  primary: {type: file, options: {file_path: /var/log/a.log, hmac_accessor: false}}
"""
OPTIONS = {"file_path": "/var/log/a.log", "hmac_accessor": "false"}


def planned(tmp_path: Path, live: LiveAccess):
    file = tmp_path / "mounts.yaml"
    file.write_text(TEXT)
    manifest = load_manifest([str(file)], environ={}).manifest
    desired = desired_access(manifest, PlanOptions())
    assert access_needed(desired).audit_devices
    assert access_needed(desired).objects == {}
    return plan_access(manifest, live, desired, PlanOptions())


def with_device(**changes: object) -> LiveAccess:
    raw = {"type": "file", "description": "", "options": OPTIONS, "local": False, **changes}
    return LiveAccess(objects={PATH: raw})


def test_a_missing_one_is_created_and_the_warning_has_the_text_for_the_server(tmp_path):
    plan = planned(tmp_path, LiveAccess())
    (action,), (warning,) = plan.actions, plan.warnings
    assert action.body == {"type": "file", "description": "", "options": OPTIONS}
    text = warning.fix.partition(":  ")[2]
    assert text == stanza(PATH, action.body)
    assert text.startswith('audit "file" "primary" { ')
    assert '"/var/log/a.log"' in text
    assert 'hmac_accessor = "false"' in text


def test_the_same_one_needs_nothing(tmp_path):
    plan = planned(tmp_path, with_device())
    assert (plan.actions, plan.warnings, plan.compared) == ([], [], 1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"description": "by hand"}, "description is 'by hand'"),
        ({"type": "socket"}, "type is 'socket'"),
        ({"options": {**OPTIONS, "file_path": "/b.log"}}, "options.file_path is '/b.log'"),
        ({"options": {**OPTIONS, "log_raw": "true"}}, "options.log_raw is 'true', not None"),
        ({"options": {"file_path": "/var/log/a.log"}}, "options.hmac_accessor is None"),
        ({"options": {**OPTIONS, "headers": '{"X": ["hidden"]}'}}, "options.headers is 'set'"),
    ],
)
def test_another_field_needs_another_name(tmp_path, changes, named):
    plan = planned(tmp_path, with_device(**changes))
    (warning,) = plan.warnings
    assert plan.actions == []
    assert warning.code == "type-differs"
    assert named in warning.summary
    assert "hidden" not in str(warning)
    assert "new name" in warning.fix


@pytest.mark.parametrize("uri", ["https://x/?token=word", "https://me:word@x/", "https://x/#word"])
def test_a_part_of_a_live_uri_that_may_be_a_secret_is_not_shown(tmp_path, uri):
    (warning,) = planned(tmp_path, with_device(options={**OPTIONS, "uri": uri})).warnings
    assert "options.uri is" in warning.summary
    assert "word" not in str(warning)


def test_those_that_may_not_be_read_are_not_compared(tmp_path):
    cause = Problem("forbidden", "not permitted: GET v1/sys/audit", "403", "another token")
    plan = planned(tmp_path, LiveAccess(unread={"sys/audit": cause}))
    assert plan.actions == []
    assert plan.not_compared == [PATH]
    assert plan.warnings[0].code == "access-unreadable"


def test_others_are_no_concern_of_the_manifest(tmp_path):
    live = with_device()
    others = {**live.objects, "sys/audit/theirs": {"type": "file", "options": {}}}
    plan = planned(tmp_path, LiveAccess(objects=others))
    assert (plan.actions, plan.warnings, plan.drift) == ([], [], [])
