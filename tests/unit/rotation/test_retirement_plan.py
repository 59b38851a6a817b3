"""Retiring the keys of several rotations at once."""

from __future__ import annotations

import pytest
from support.rotating import empty_rig, job, quick_keys, unreachable  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode, NotPermittedError
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.retire import retire_mount
from skyflowctl.rotation.retirement_plan import killed_by_haste, retirable_keys

pytestmark = pytest.mark.usefixtures("quick_keys")


@pytest.fixture
def rig():
    with empty_rig() as made:
        yield made


def rotate(rig, path, name, **changes):
    """Rotate and commit; return the key that is live then."""
    rig.write(path, name, **changes)
    rig.gateway.engine(path).commit(name)
    return rig.gateway.engine(path).config().key_id


@pytest.fixture
def three(rig):
    """A mount after three rotations, and its keys in order."""
    path = rig.mount()
    first = rig.gateway.engine(path).config().key_id
    return path, [first, *(rotate(rig, path, f"rot-{number}") for number in range(3))]


def kept(rig, path):
    return {one.key_id for one in rig.gateway.engine(path).history().values() if one.kept}


def left(rig, path):
    config, history = rig.gateway.engine(path).config(), rig.gateway.engine(path).history()
    return [key.key_id for key in retirable_keys(config, history)]


def test_every_replaced_key_goes_and_each_is_named(rig, three):
    path, (first, second, third, live) = three
    assert left(rig, path) == [third, second, first]
    rig.past_the_old_tokens()
    done = retire_mount(job(path), rig.dependencies())
    assert (done.result, done.exit_code) == (Result.RETIRED, ExitCode.OK)
    assert (done.from_key, done.live_key_id) == (third, live)
    assert rig.keys.deleted == [third, second, first]
    assert kept(rig, path) == {live}
    steps = [step.detail for step in done.steps if step.name is StepName.DELETE_OLD_KEY]
    assert steps == [f"Skyflow has deleted {key}" for key in (third, second, first)]
    assert rig.gateway.engine(path).verify().ok
    again = retire_mount(job(path), rig.dependencies())
    assert (again.result, again.steps) == (Result.RETIRED, ())


def test_a_rollback_in_between_leaves_no_key_behind(rig):
    path = rig.mount()
    first = rig.gateway.engine(path).config().key_id
    second = rotate(rig, path, "one")
    rig.gateway.engine(path).rollback(cas_credential_version=2)
    assert left(rig, path) == []
    third = rotate(rig, path, "two")
    live = rotate(rig, path, "three")
    rig.past_the_old_tokens()
    assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
    assert sorted(rig.keys.deleted) == sorted([first, second, third])
    assert kept(rig, path) == {live}
    assert rig.gateway.engine(path).verify().ok


def test_a_key_that_became_live_again_is_not_an_old_one(rig):
    path = rig.mount()
    first = rig.gateway.engine(path).config()
    text = rig.new_secret(clientID=first.client_id)
    rig.gateway.engine(path).write_config({"credentials_json": text, "rotation_id": "a"})
    rig.gateway.engine(path).commit("a")
    second = rig.gateway.engine(path).config().key_id
    third = rotate(rig, path, "b")
    # The second key is made live once more, by a rotation.
    rig.gateway.engine(path).write_config({"credentials_json": text, "rotation_id": "c"})
    rig.gateway.engine(path).commit("c")
    rig.past_the_old_tokens()
    assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
    assert rig.keys.deleted == [third, first.key_id]
    assert rig.gateway.engine(path).config().key_id == second
    assert rig.gateway.engine(path).verify().ok


def test_one_that_is_live_on_another_mount_is_left_and_named(rig):
    shared = rig.new_secret()
    path, other = rig.mount(credential=shared), rig.mount(credential=shared)
    first = rig.gateway.engine(path).config().key_id
    second = rotate(rig, path, "one")
    rotate(rig, path, "two")
    rig.past_the_old_tokens()
    done = retire_mount(job(path), rig.dependencies())
    assert (done.result, done.exit_code) == (Result.RETIRED, ExitCode.OK)
    assert rig.keys.deleted == [second]
    assert [(one.code, first in one.summary) for one in done.warnings] == [("key-in-use", True)]
    assert first in kept(rig, path)
    assert rig.gateway.engine(other).verify().ok


def test_an_account_that_cannot_be_asked_any_more_holds_nothing_back(rig):
    path = rig.mount()
    first = rig.gateway.engine(path).config()
    second = rotate(rig, path, "one", clientID="another-account")
    rotate(rig, path, "two", clientID="another-account")
    rig.past_the_old_tokens()
    ask = rig.keys.list_keys

    def list_keys(client_id):
        if client_id == first.client_id:
            raise NotPermittedError("not yours", why="a test", fix="none")
        return ask(client_id)

    rig.keys.list_keys = list_keys
    done = retire_mount(job(path), rig.dependencies())
    assert (done.result, rig.keys.deleted) == (Result.RETIRED, [second])
    assert [one.code for one in done.warnings] == ["keys-not-listed"]
    assert first.key_id in done.warnings[0].summary
    assert first.key_id in kept(rig, path)


def test_skyflow_fails_in_between_and_the_next_run_finishes(rig, three):
    path, (first, second, third, live) = three
    rig.past_the_old_tokens()

    def fail_after_one(_what):
        if rig.keys.deleted:
            rig.keys.broken = unreachable()

    rig.keys.before = fail_after_one
    outcome = retire_mount(job(path), rig.dependencies())
    assert (outcome.result, outcome.exit_code) == (Result.FAILED, ExitCode.PARTIAL)
    assert outcome.problems[-1].code == "key-left"
    assert second in outcome.problems[-1].summary
    assert third not in outcome.problems[-1].summary
    rig.keys.before, rig.keys.broken = lambda _: None, None
    assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
    assert rig.keys.deleted == [third, second, first]
    assert rig.gateway.engine(path).config().key_id == live


def test_without_an_operator_all_are_named(rig, three):
    path, (first, second, third, live) = three
    rig.past_the_old_tokens()
    refused = retire_mount(job(path), rig.dependencies(operator=None))
    assert (refused.exit_code, refused.problems[0].code) == (
        ExitCode.REFUSED,
        "no-operator-token",
    )
    done = retire_mount(job(path), rig.dependencies(operator=None), kept_copy_only=True)
    assert done.result is Result.RETIRED
    assert kept(rig, path) == {live}
    (warning,) = done.warnings
    assert all(key in warning.summary for key in (first, second, third))


def test_haste_names_every_key_that_it_kills(rig, three):
    path, (first, second, third, _) = three
    config, history = rig.gateway.engine(path).config(), rig.gateway.engine(path).history()
    text = killed_by_haste(config, history)
    assert all(key in text for key in (first, second, third))
    rig.gateway.engine(path).cut_off()
    assert (
        retirable_keys(rig.gateway.engine(path).config(), rig.gateway.engine(path).history()) == ()
    )
