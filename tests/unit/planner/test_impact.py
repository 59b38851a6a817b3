"""Which actions touch what applications use."""

from __future__ import annotations

import pytest

from skyflowctl.planner.impact import affected
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind, Plan

ROLE, MOUNT, CONFIG = ObjectKind.ROLE, ObjectKind.MOUNT, ObjectKind.CONFIG
UPDATE, DELETE, MOVE = ActionType.UPDATE, ActionType.DELETE, ActionType.MOVE


def action(kind, what, path, *names, before="x", **body):
    changes = tuple(Change(name, before, "y") for name in names)
    return Action(what, kind, "order", path, changes, body)


def found(*actions):
    return [(one.kind, one.path, one.roles) for one in affected(Plan(actions, (), 0))]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (action(ROLE, DELETE, "a/b/roles/r", "role_ids"), ("role", "a/b", ("r",))),
        (action(ROLE, UPDATE, "a/b/roles/r", "role_ids", "tags"), ("role", "a/b", ("r",))),
        (action(MOUNT, DELETE, "sys/mounts/a/b", "type"), ("mount", "a/b", ())),
        (
            action(MOUNT, DELETE, "sys/mounts/a/b", "roles", before=["r", "s"]),
            ("mount", "a/b", ("r", "s")),
        ),
        (
            action(MOUNT, ActionType.PLUGIN_UPGRADE, "sys/mounts/a/b/tune", "plugin_version"),
            ("mount", "a/b", ()),
        ),
        (
            action(CONFIG, ActionType.REPLACE_CREDENTIAL, "a/b/config", "key_id"),
            ("credential", "a/b", ()),
        ),
    ],
)
def test_what_applications_notice(one, expected):
    assert found(one) == [expected]


@pytest.mark.parametrize(
    "one",
    [
        action(ROLE, ActionType.CREATE, "a/b/roles/r", "role_ids"),
        action(ROLE, UPDATE, "a/b/roles/r", "description", "tags", "ctx_probe"),
        action(MOUNT, UPDATE, "sys/mounts/a/b/tune", "description", "options.files"),
        action(
            MOUNT,
            UPDATE,
            "sys/mounts/a/b/tune",
            "audit_non_hmac_request_keys",
            "passthrough_request_headers",
        ),
        action(CONFIG, UPDATE, "a/b/config", "description"),
        action(CONFIG, ActionType.REPLACE_CREDENTIAL, "a/b/config", "key_id", before=None),
        action(CONFIG, ActionType.REPLACE_CREDENTIAL, "a/b/config", "rotation"),
        action(ObjectKind.POLICY, DELETE, "sys/policies/acl/p", "text"),
    ],
)
def test_what_they_do_not_notice(one):
    assert found(one) == []


def test_a_mount_that_is_moved_was_used_at_its_former_path():
    move = action(MOUNT, MOVE, "sys/remount", "path", **{"from": "old/order", "to": "new/order"})
    role = action(ROLE, UPDATE, "new/order/roles/r", "role_ids")
    assert found(move, role) == [("mount", "old/order", ()), ("role", "old/order", ("r",))]
