"""The way back is always open: to a credential that can do less, and with its key left alone."""

from __future__ import annotations

import pytest
from support.rotating import PATH, A, B, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode, RefusedError
from skyflowctl.rotation import commit
from skyflowctl.rotation.cluster import NodeDisagreesError
from skyflowctl.rotation.model import Result, RotationJob
from skyflowctl.rotation.rollback import rollback_mount

pytestmark = pytest.mark.usefixtures("quick_keys")


def codes(problems):
    return [one.code for one in problems]


def back(made, wanted=None, **more):
    return rollback_mount(
        RotationJob("order", PATH), wanted, made.dependencies(run_id="back", **more)
    )


def test_a_failed_rotation_goes_back_to_a_key_with_fewer_roles(monkeypatch):
    def bad(*_):
        raise NodeDisagreesError("a standby does not prove it", why="its network", fix="mend it")

    monkeypatch.setattr(commit, "_verify_nodes", bad)
    with rig(A) as made:
        made.gateway.engine(PATH).write_role("extra", {"role_ids": [B]})
        new = made.successor(A, B, clientID="b" * 32)
        outcome = made.rotate(lambda: new, allow_different_account=True)
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.PARTIAL)
        assert codes(outcome.problems)[0] == "node-disagrees"
        assert codes(outcome.warnings) == ["role-left-behind"]
        assert "[role extra]" in outcome.warnings[0].why
        assert made.serves() == made.old


def test_a_person_goes_back_to_a_key_with_fewer_roles():
    with rig(A) as made:
        new = made.successor(A, B, clientID="b" * 32)
        assert made.rotate(lambda: new, allow_different_account=True).result is Result.ROTATED
        made.gateway.engine(PATH).write_role("extra", {"role_ids": [B]})
        outcome = back(made)
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.OK)
        assert codes(outcome.warnings) == ["role-left-behind"]
        assert made.serves() == made.old


def left_over(made):
    """A rotation that created a key, made it live, and was rolled back by hand."""
    new = made.keys.create_key(made.client)
    fields = {"rotation_id": "dead", "rotation_keys": [made.old]}
    made.gateway.engine(PATH).write_config({**fields, "credentials_json": new.json})
    made.gateway.engine(PATH).rollback(cas_credential_version=2)
    assert made.config().rotation.to_key == new.key_id
    made.clock.pass_seconds(60)
    return new


def test_the_key_to_go_back_to_is_never_deleted():
    with rig() as made:
        new = left_over(made)
        outcome = back(made, 2, operator=made.keys)
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.OK)
        assert made.keys.deleted == []
        assert made.serves() == new.key_id
        assert made.config().rotation is None


def test_nothing_is_deleted_when_the_way_back_is_refused():
    with rig() as made:
        old = made.old
        assert (
            made.rotate(made.generated(), made.dependencies(run_id="one")).result is Result.ROTATED
        )
        made.state.delete_key(made.client, old)
        new = made.keys.create_key(made.client)
        record = {"rotation_id": "dead", "rotation_keys": [made.old], "rotation_to": new.key_id}
        made.gateway.engine(PATH).write_config(record)
        made.clock.pass_seconds(60)
        assert codes(back(made, operator=made.keys).problems) == ["does-not-mint"]
        assert made.keys.deleted == []


@pytest.mark.parametrize("gone", [False, True], ids=["still there", "deleted by hand"])
def test_a_left_over_key_is_deleted_after_the_way_back(gone):
    with rig() as made:
        made.rotate(made.generated(), made.dependencies(run_id="one"))
        new = made.keys.create_key(made.client)
        record = {"rotation_id": "dead", "rotation_keys": [made.old], "rotation_to": new.key_id}
        made.gateway.engine(PATH).write_config(record)
        if gone:
            made.state.delete_key(made.client, new.key_id)
        made.clock.pass_seconds(60)
        outcome = back(made, operator=made.keys)
        assert (outcome.result, outcome.live_key_id) == (Result.ROLLED_BACK, made.old)
        names = [step.name.value for step in outcome.steps]
        if not gone:
            assert made.keys.deleted == [new.key_id]
            assert names.index("rollback") < names.index("discard-key")
        assert made.config().rotation is None


def test_a_key_that_could_not_be_deleted_stays_on_record():
    with rig() as made:
        new = left_over(made)

        def broken(what):
            if what == "delete":
                raise RefusedError("no", why="a test", fix="none")

        made.keys.before = broken
        outcome = back(made, operator=made.keys)
        assert codes(outcome.warnings) == ["key-left-at-skyflow", "rolled-back-already"][::-1]
        assert made.config().rotation.to_key == new.key_id
