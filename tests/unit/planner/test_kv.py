"""Plans of secrets in kv engines."""

from __future__ import annotations

import dataclasses

import pytest
from support import planning as p

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import DeclaredEngine, DeclaredSecret, GeneratedText, Reference
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import ActionType, DriftKind, ObjectKind, PlanOptions
from skyflowctl.vault.live import LiveAccess, LiveMount, LiveSecret

FIELDS = {
    "user": "app",
    "password": GeneratedText(length=32, alphabet="abcdefghij"),
    "key": Reference("env", ("KEY",), "env: KEY", p.HERE),
}
PATH = "secret/data/backend"
MARKS = {"managed_by": "skyflowctl", "manifest": "shop"}
ALL = frozenset(FIELDS)
APPLIED = p.converged(p.manifest(p.mount()))


def manifest(rotate_version: int = 0):
    secret = DeclaredSecret("backend", FIELDS, rotate_version, p.HERE)
    engine = DeclaredEngine("secret", "kv", "", (secret,), p.HERE)
    return dataclasses.replace(p.manifest(p.mount()), engines=(engine,))


def mount(**options: str) -> LiveMount:
    marks = {"version": "2", "managed_by": "skyflowctl", "manifest": "shop", **options}
    return LiveMount("secret", "kv", "", marks, (), (), (), "", "", "")


def planned(secret: LiveSecret | None, engine: LiveMount | None = None, rotate=0, **options):
    wanted = manifest(rotate)
    secrets = {PATH: secret} if secret else {}
    access = LiveAccess(engines={"secret": engine or mount()}, secrets=secrets)
    live = dataclasses.replace(APPLIED, access=access)
    return make_plan(wanted, live, p.identities(wanted), PlanOptions(**options))


def shown(action):
    return {change.field: (change.before, change.after) for change in action.changes}


def test_an_absent_secret_is_written_with_its_marks_and_no_value_is_in_the_plan():
    (action,) = planned(None).actions
    assert (action.action, action.kind, action.path) == (ActionType.CREATE, ObjectKind.SECRET, PATH)
    assert shown(action) == {
        "custom_metadata.managed_by": (None, "skyflowctl"),
        "custom_metadata.manifest": (None, "shop"),
        "user": (None, "from the manifest"),
        "password": (None, "generated, 32 characters"),
        "key": (None, "from env: KEY"),
    }
    assert (action.cas, action.after) == (0, ("sys/mounts/secret",))


def test_a_secret_with_every_field_needs_nothing():
    plan = planned(LiveSecret(3, MARKS, ALL | {"of-others"}))
    assert (plan.actions, plan.warnings, plan.drift) == ((), (), ())


def test_only_the_missing_field_is_added_with_check_and_set():
    (action,) = planned(LiveSecret(3, MARKS, ALL - {"key"})).actions
    assert action.action is ActionType.UPDATE
    assert shown(action) == {"key": (None, "from env: KEY")}
    assert (action.cas, list(action.body["data"])) == (3, ["key"])


def test_a_run_that_was_killed_after_the_marks_is_finished():
    (action,) = planned(LiveSecret(0, MARKS)).actions
    assert action.action is ActionType.CREATE
    assert action.body["custom_metadata"] == {}
    assert set(action.body["data"]) == ALL


def test_a_higher_rotate_version_writes_every_field_anew():
    (action,) = planned(LiveSecret(3, MARKS, ALL), rotate=2).actions
    assert action.body["custom_metadata"] == {"rotate_version": "2", "rotate_after": "3"}
    assert set(action.body["data"]) == ALL
    assert shown(action)["password"] == ("set", "generated, 32 characters")


@pytest.mark.parametrize(
    ("version", "done", "after", "rotates"),
    [
        (4, "2", "3", False),  # it was written
        (3, "2", "3", True),  # killed between marks and data
        (3, "3", "2", False),  # a newer manifest did it
        (3, "2", "", False),
        (3, "x", "", True),
    ],
)
def test_a_rotation_is_done_once(version, done, after, rotates):
    marks = {**MARKS, "rotate_version": done} | ({"rotate_after": after} if after else {})
    assert bool(planned(LiveSecret(version, marks, ALL), rotate=2).actions) is rotates


def test_a_deleted_secret_is_drift_and_never_written_again():
    plan = planned(LiveSecret(3, MARKS, deleted=True, deleted_at="2026-11-20T08:00:00Z"), rotate=9)
    assert plan.actions == ()
    (drift,) = plan.drift
    assert (drift.kind, drift.path) == (DriftKind.DELETED, PATH)
    assert "bao kv undelete -mount=secret -versions=3 backend" in drift.fix
    assert plan.not_compared == {PATH: 1}


def test_a_destroyed_secret_is_not_said_to_be_restorable():
    (drift,) = planned(LiveSecret(3, MARKS, deleted=True)).drift
    assert "undelete" not in drift.fix


@pytest.mark.parametrize(
    ("marks", "owner"), [({}, ""), ({"managed_by": "skyflowctl", "manifest": "other"}, "other")]
)
def test_a_secret_of_others_needs_adoption(marks, owner):
    secret = LiveSecret(3, marks, ALL)
    plan = planned(secret)
    assert [one.code for one in plan.unadopted] == ["needs-adoption"]
    assert f"--adopt={PATH}" in plan.unadopted[0].fix
    adopted = planned(secret, adopt=frozenset({PATH}), adopt_from=frozenset({owner}))
    assert adopted.unadopted == ()
    assert adopted.actions[0].body["custom_metadata"]["adopted"] == "true"
    assert adopted.actions[0].body["data"] == {}


def test_an_engine_of_others_needs_adoption_by_its_own_path():
    theirs = mount(managed_by="", manifest="")
    plan = planned(LiveSecret(3, MARKS, ALL), theirs)
    assert "--adopt=secret" in plan.unadopted[0].fix
    adopted = planned(LiveSecret(3, MARKS, ALL), theirs, adopt=frozenset({"secret"}))
    (action,) = adopted.actions
    assert action.body == {
        "options": {"managed_by": "skyflowctl", "manifest": "shop", "adopted": "true"}
    }


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        (mount(version="1"), "version 1"),
        (dataclasses.replace(mount(), type="transit"), "type 'transit'"),
    ],
)
def test_another_engine_at_the_path_is_left_alone(engine, text):
    (problem,) = planned(None, engine).left_out
    assert problem.code == "type-differs"
    assert text in problem.summary


def test_a_secret_that_cannot_be_read_is_named():
    wanted = manifest()
    unread = {PATH: Problem("forbidden", "403", "no right", "ask")}
    access = LiveAccess(engines={"secret": mount()}, unread=unread)
    live = dataclasses.replace(APPLIED, access=access)
    plan = make_plan(wanted, live, p.identities(wanted))
    assert plan.actions == ()
    assert plan.not_compared == {PATH: 1}
    assert [one.code for one in plan.unreadable] == ["access-unreadable"]


def test_chosen_mounts_leave_the_secrets_out():
    assert planned(None, only=frozenset({"order"})).actions == ()
