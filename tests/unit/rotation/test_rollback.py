"""Back to an earlier credential because a person says so."""

from __future__ import annotations

import pytest
from support.faulty_emulator import Fault, FaultKind
from support.rotating import PATH, A, B, Requests, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.messages import not_taken
from skyflowctl.rotation.model import Result, RotationJob
from skyflowctl.rotation.rollback import rollback_mount
from skyflowctl.vault.failed_answers import error_for

pytestmark = pytest.mark.usefixtures("quick_keys")
JOB = RotationJob("order", PATH)


def rotated(made, times=1):
    """Rotate so often; return the keys that were live, in order."""
    keys = [made.old]
    for number in range(times):
        outcome = made.rotate(made.generated(), made.dependencies(run_id=f"r{number}"))
        assert outcome.result is Result.ROTATED
        keys.append(outcome.to_key)
    return keys


def back(made, wanted=None, transport=None, **more):
    return rollback_mount(JOB, wanted, made.dependencies(transport, run_id="back", **more))


def test_to_the_one_before():
    with rig(A, B) as made:
        old, new = rotated(made)
        outcome = back(made)
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.OK)
        assert (outcome.from_key, outcome.to_key, outcome.live_key_id) == (new, old, old)
        assert made.serves() == old
        assert outcome.old_tokens_valid_until
        assert [step.name.value for step in outcome.steps] == [
            "resume", "rollback", "verify-nodes",
        ]  # fmt: skip
        assert made.config().rotation is None
        assert made.keys.deleted == []


def test_again_it_stays_and_forward_is_said_with_a_version():
    with rig() as made:
        old, new = rotated(made)
        back(made)
        outcome = back(made)
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.OK)
        assert [one.code for one in outcome.warnings] == ["rolled-back-already"]
        assert made.serves() == old
        assert back(made, 2).live_key_id == new == made.serves()


def test_to_a_named_version():
    with rig() as made:
        keys = rotated(made, 2)
        outcome = back(made, 1)
        assert outcome.live_key_id == keys[0] == made.serves()


@pytest.mark.parametrize(("wanted", "code"), [(9, "no-such-version"), (1, "destroyed-version")])
def test_what_is_not_kept_is_refused_with_the_reason(wanted, code):
    with rig() as made:
        keys = rotated(made)
        made.gateway.engine(PATH).delete_kept_credential(1)
        outcome = back(made, wanted)
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert outcome.problems[0].code == code
        assert made.serves() == keys[1]
        assert back(made).problems[0].code == "destroyed-version"


def test_without_an_earlier_one():
    with rig() as made:
        assert back(made).problems[0].code == "no-earlier-credential"


def test_one_that_mints_no_more_is_not_made_live():
    with rig() as made:
        old, new = rotated(made)
        made.state.delete_key(made.client, old)
        outcome = back(made)
        assert outcome.problems[0].code == "does-not-mint"
        assert (outcome.exit_code, made.serves()) == (ExitCode.REFUSED, new)


FAILURES = {
    "refused": (502, "token service refused: 401 no such key"),
    "not tried": (503, "skyflow: the token service did not answer"),
    "not accept": (409, "check-and-set"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_why_a_new_credential_is_not_live_reads_differently(kind):
    status, text = FAILURES[kind]
    told = not_taken("m", error_for(status, (text,), method="POST", path="m/config"))
    assert kind in told.problems[0].summary
    assert "old credential is still live" in told.problems[0].fix


def test_a_refused_rollback_reads_differently_from_one_that_nothing_answered():
    with rig() as made:
        old, _ = rotated(made)
        made.state.faults.add(Fault(FaultKind.RESET, count=0))
        told = back(made).problems[0]
        assert "was not tried, because the token service did not answer" in told.summary
        made.state.faults.clear()
        made.state.delete_key(made.client, old)
        told = back(made).problems[0]
        assert "the token service refused credential version 1" in told.summary
        assert "check the key" in told.fix


def test_a_write_in_between_is_not_undone():
    with rig() as made:
        rotated(made)
        other, transport = made.successor(), Requests(made.server)

        def before(number, method, path):
            if path.endswith("/rollback"):
                made.gateway.engine(PATH).write_config({"credentials_json": other.json})

        transport.before = before
        outcome = back(made, transport=transport)
        assert outcome.problems[0].code == "lost-check-and-set"
        assert outcome.live_key_id == made.serves() == other.key_id


@pytest.mark.parametrize("operator", [True, False])
def test_the_key_of_an_open_rotation_is_deleted_or_named(operator):
    with rig() as made:
        new = made.keys.create_key(made.client)
        fields = {"rotation_id": "other", "rotation_keys": [made.old]}
        made.gateway.engine(PATH).write_config({**fields, "credentials_json": new.json})
        outcome = back(made, operator=made.keys if operator else None)
        assert outcome.result is Result.ROLLED_BACK
        assert made.serves() == made.old
        if operator:
            assert made.keys.deleted == [new.key_id]
            assert made.config().rotation is None
        else:
            assert [one.code for one in outcome.warnings] == ["key-left-at-skyflow"]
            assert made.config().rotation.to_key == new.key_id


def test_a_role_that_no_key_mints_is_in_nobodys_way():
    with rig(A) as made:
        made.gateway.engine(PATH).write_role("broken", {"role_ids": [B]})
        old, new = rotated(made)
        assert back(made).live_key_id == old
        # A rotation that was left open goes on as well.
        other = made.successor()
        body = {"rotation_id": "left", "credentials_json": other.json}
        made.gateway.engine(PATH).write_config(body)
        made.clock.pass_seconds(60)
        outcome = made.rotate(None)
        assert (outcome.result, outcome.to_key) == (Result.ROTATED, other.key_id), outcome
        assert new in made.keys.ids(made.client)


def test_the_live_version_of_an_open_rotation_is_named():
    with rig() as made:
        new = made.successor()
        made.gateway.engine(PATH).write_config({"rotation_id": "x", "credentials_json": new.json})
        made.clock.pass_seconds(60)
        assert back(made, 2).problems[0].code == "open-rotation"
        assert made.serves() == new.key_id
