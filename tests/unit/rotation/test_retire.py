"""Retiring an old key, on the real engine in memory and the emulator in process."""

from __future__ import annotations

import pytest
from support.rotating import MARGIN, empty_rig, job, quick_keys, unreachable  # noqa: F401 - a fixture

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.events import Notice
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.retire import retire_mount
from skyflowctl.rotation.retirement_plan import killed_by_haste
from skyflowctl.vault.failed_answers import error_for

pytestmark = pytest.mark.usefixtures("quick_keys")


@pytest.fixture
def rig():
    with empty_rig() as made:
        yield made


class Killed(BaseException):
    """The process ends here."""


def refusal(outcome, code=ExitCode.REFUSED):
    assert (outcome.result, outcome.exit_code) == (Result.REFUSED, code)
    assert outcome.serves is (code is ExitCode.REFUSED)
    return outcome.problems[0]


def kept(rig, path, key):
    return [
        one for one in rig.gateway.engine(path).history().values() if one.key_id == key and one.kept
    ]


def untouched(rig, path, old):
    """Nothing was destroyed and nothing deleted."""
    return bool(kept(rig, path, old)) and rig.keys.deleted == []


def test_the_old_key_goes_everywhere_and_the_mount_serves(rig):
    path, old, new = rig.rotated()
    rig.past_the_old_tokens()
    done = retire_mount(job(path), rig.dependencies())
    assert (done.result, done.exit_code) == (Result.RETIRED, ExitCode.OK)
    assert (done.from_key, done.to_key, done.live_key_id) == (old, new, new)
    assert rig.keys.deleted == [old]
    assert kept(rig, path, old) == []
    assert rig.gateway.engine(path).config().rotation.state == "retired"
    assert rig.gateway.engine(path).verify().ok
    assert [step.name for step in done.steps] == [
        StepName.VERIFY_NODES,
        StepName.DESTROY_KEPT,
        StepName.DELETE_OLD_KEY,
    ]
    assert "no rollback to" in done.steps[1].detail
    assert (done.warnings, done.problems) == ((), ())


def test_again_there_is_nothing_to_do(rig):
    path, _, _ = rig.rotated()
    rig.past_the_old_tokens()
    assert retire_mount(job(path), rig.dependencies()).exit_code == 0
    again = retire_mount(job(path), rig.dependencies())
    assert (again.result, again.steps, again.exit_code) == (Result.RETIRED, (), ExitCode.OK)
    assert len(rig.keys.deleted) == 1


class TestNotYetOrNotAtAll:
    def test_no_rotation(self, rig):
        path = rig.mount()
        assert refusal(retire_mount(job(path), rig.dependencies())).code == "no-rotation"

    def test_a_mount_that_was_cut_off(self, rig):
        path, _, _ = rig.rotated()
        rig.gateway.engine(path).cut_off()
        problem = refusal(retire_mount(job(path), rig.dependencies()))
        assert problem.code == "no-rotation"
        assert "no credential" in problem.why

    def test_an_open_rotation(self, rig):
        path = rig.mount()
        rig.write(path)
        problem = refusal(retire_mount(job(path), rig.dependencies(), now=True))
        assert problem.code == "rotation-open"
        assert f"skyflowctl rotate {job(path).name}" in problem.fix

    def test_rolled_back_since(self, rig):
        path, old, _ = rig.rotated()
        rig.gateway.engine(path).rollback(cas_credential_version=2)
        assert rig.gateway.engine(path).config().key_id == old
        assert refusal(retire_mount(job(path), rig.dependencies(), now=True)).code == "no-rotation"
        assert rig.keys.deleted == []

    def test_too_early_says_when(self, rig):
        path, old, _ = rig.rotated()
        outcome = retire_mount(job(path), rig.dependencies())
        problem = refusal(outcome)
        assert problem.code == "old-tokens-live"
        assert "--retire-old" not in problem.fix
        until = rig.gateway.engine(path).config().rotation.old_tokens_valid_until
        assert outcome.old_tokens_valid_until == until
        assert until in problem.why
        assert untouched(rig, path, old)
        said = problem.summary.split(" can be retired from ")[1].split(" on")[0]
        assert f"'skyflowctl rotate --retire {job(path).name}' again after {said}" in problem.fix
        left = parse_rfc3339(said) - rig.clock.now()
        rig.clock.pass_seconds(left.total_seconds() - 1)
        assert refusal(retire_mount(job(path), rig.dependencies())).code == "old-tokens-live"
        rig.clock.pass_seconds(1)
        assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED

    def test_nobody_may_delete_it_at_skyflow(self, rig):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()
        problem = refusal(retire_mount(job(path), rig.dependencies(operator=None)))
        assert problem.code == "no-operator-token"
        assert "--kept-copy-only" in problem.fix
        assert untouched(rig, path, old)

    def test_the_new_key_does_not_mint(self, rig):
        path, old, new = rig.rotated()
        rig.past_the_old_tokens()
        rig.tokens.state.delete_key(rig.gateway.engine(path).config().client_id, new)
        problem = refusal(retire_mount(job(path), rig.dependencies()), ExitCode.UNHEALTHY)
        assert problem.code == "cut-over-not-proven"
        assert untouched(rig, path, old)

    def test_another_mount_lives_by_the_old_key(self, rig):
        shared = rig.new_secret()
        path, other = rig.mount(credential=shared), rig.mount(credential=shared)
        old = rig.gateway.engine(path).config().key_id
        rig.write(path)
        rig.gateway.engine(path).commit("rot")
        rig.past_the_old_tokens()
        problem = refusal(retire_mount(job(path), rig.dependencies()))
        assert (problem.code, other in problem.summary) == ("key-in-use", True)
        assert untouched(rig, path, old)
        rig.write(other)
        assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
        assert rig.gateway.engine(other).verify().ok

    def test_a_login_that_may_not(self, rig):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()

        def forbid(_number, method, where):
            if method == "DELETE":
                raise error_for(403, ("permission denied",), method=method, path=where)

        rig.line.before = forbid
        outcome = retire_mount(job(path), rig.dependencies())
        assert (outcome.result, outcome.exit_code) == (Result.FAILED, ExitCode.NOT_PERMITTED)
        assert untouched(rig, path, old)

    def test_a_first_credential_has_replaced_none(self, rig):
        path = rig.mount()
        rig.gateway.engine(path).cut_off()
        fields = {"credentials_json": rig.new_secret(), "rotation_id": "first"}
        rig.gateway.engine(path).write_config(fields)
        rig.gateway.engine(path).commit("first")
        outcome = retire_mount(job(path), rig.dependencies())
        assert (outcome.result, outcome.steps) == (Result.RETIRED, ())
        assert outcome.live_key_id == rig.gateway.engine(path).config().key_id


class TestInHaste:
    def test_it_is_named_what_that_kills(self, rig):
        path, old, _ = rig.rotated()
        config = rig.gateway.engine(path).config()
        text = killed_by_haste(config)
        assert old in text
        assert config.rotation.old_tokens_valid_until in text
        assert retire_mount(job(path), rig.dependencies(), now=True).result is Result.RETIRED
        assert killed_by_haste(rig.gateway.engine(rig.mount()).config()) == ""

    def test_nodes_are_proved_all_the_same(self, rig):
        path, _, new = rig.rotated()
        rig.tokens.state.delete_key(rig.gateway.engine(path).config().client_id, new)
        outcome = retire_mount(job(path), rig.dependencies(), now=True)
        assert refusal(outcome, ExitCode.UNHEALTHY).code == "cut-over-not-proven"


class TestWaiting:
    def test_it_waits_until_the_tokens_and_the_margin_are_over(self, rig):
        path, old, _ = rig.rotated()
        until = parse_rfc3339(rig.gateway.engine(path).config().rotation.old_tokens_valid_until)
        done = retire_mount(job(path), rig.dependencies(), wait=True)
        assert done.result is Result.RETIRED
        assert done.steps[0].name is StepName.WAIT_FOR_OLD_TOKENS
        assert rig.clock.now() == until + MARGIN
        assert rig.keys.deleted == [old]
        notices = [event.text for event in rig.events if isinstance(event, Notice)]
        assert any(old in text for text in notices)

    def test_what_changed_meanwhile_counts(self, rig):
        path, old, _ = rig.rotated()

        def sleep(seconds):
            rig.clock.pass_seconds(seconds)
            if rig.gateway.engine(path).config().credential_version == 2:
                rig.gateway.engine(path).rollback(cas_credential_version=2)

        outcome = retire_mount(job(path), rig.dependencies(sleep=sleep), wait=True)
        assert refusal(outcome).code == "no-rotation"
        assert rig.gateway.engine(path).config().key_id == old
        assert rig.keys.deleted == []

    def test_it_can_be_interrupted(self, rig):
        path, old, _ = rig.rotated()
        start = rig.clock.now()
        world = rig.dependencies(stopping=lambda: (rig.clock.now() - start).total_seconds() >= 3)
        outcome = retire_mount(job(path), world, wait=True)
        assert refusal(outcome).code == "interrupted"
        assert untouched(rig, path, old)


class TestTheKeptCopyAlone:
    def test_the_key_that_is_left_is_named(self, rig):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()
        done = retire_mount(job(path), rig.dependencies(operator=None), kept_copy_only=True)
        assert (done.result, done.exit_code) == (Result.RETIRED, ExitCode.OK)
        assert kept(rig, path, old) == []
        assert [one.code for one in done.warnings] == ["key-left"]
        assert old in done.warnings[0].summary

    def test_an_operator_finishes_it_later(self, rig):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()
        assert retire_mount(job(path), rig.dependencies(), kept_copy_only=True).exit_code == 0
        assert rig.keys.deleted == []
        assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
        assert rig.keys.deleted == [old]

    def test_a_key_that_was_rolled_back_to_and_replaced_again_goes(self, rig):
        path, old, new = rig.rotated()
        rig.gateway.engine(path).rollback(cas_credential_version=2)
        rig.write(path, "again")
        rig.gateway.engine(path).commit("again")
        assert [one.credential_version for one in kept(rig, path, old)] == [3]
        rig.past_the_old_tokens()
        assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
        assert kept(rig, path, old) == []
        # The key that was rolled back from goes as well.
        assert rig.keys.deleted == [old, new]


class TestHalfWay:
    def test_skyflow_fails_and_the_next_run_finishes(self, rig):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()
        rig.keys.broken = unreachable()
        outcome = retire_mount(job(path), rig.dependencies())
        assert (outcome.result, outcome.exit_code) == (Result.FAILED, ExitCode.PARTIAL)
        assert [one.code for one in outcome.problems] == ["unreachable", "key-left"]
        assert old in outcome.problems[1].summary
        assert [step.ok for step in outcome.steps] == [True, True, False]
        rig.keys.broken = None
        assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
        assert rig.keys.deleted == [old]

    @pytest.mark.parametrize("boundary", range(1, 8))
    def test_killed_after_any_request_the_next_run_finishes(self, rig, boundary):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()
        made = len(rig.line.sent)

        def kill(*_):
            if len(rig.line.sent) - made == boundary:
                raise Killed

        rig.line.after = kill
        with pytest.raises(Killed):
            retire_mount(job(path), rig.dependencies())
        rig.line.after = lambda *_: None
        assert rig.gateway.engine(path).verify().ok
        assert retire_mount(job(path), rig.dependencies()).result is Result.RETIRED
        assert rig.keys.deleted == [old]
        assert kept(rig, path, old) == []
        assert rig.gateway.engine(path).verify().ok

    def test_a_key_that_is_made_live_again_at_the_last_moment_is_not_deleted(self, rig):
        path, old, _ = rig.rotated()
        rig.past_the_old_tokens()

        def roll_back_first(_number, method, where):
            if method == "DELETE":
                rig.line.before = lambda *_: None
                rig.gateway.engine(path).rollback(cas_credential_version=2)

        rig.line.before = roll_back_first
        outcome = retire_mount(job(path), rig.dependencies())
        assert outcome.result is Result.FAILED
        assert rig.keys.deleted == []
        assert rig.gateway.engine(path).config().key_id == outcome.live_key_id == old
        assert rig.gateway.engine(path).verify().ok


class TestRolesThatSkyflowRefuses:
    def broken_role(self, rig, path):
        rig.gateway.engine(path).write_role("broken", {"role_ids": ["r-nobody-has"]})

    def test_they_are_named_and_hold_nothing_back(self, rig):
        path, old, _ = rig.rotated()
        self.broken_role(rig, path)
        rig.past_the_old_tokens()
        outcome = retire_mount(job(path), rig.dependencies())
        assert (outcome.result, rig.keys.deleted) == (Result.RETIRED, [old])
        assert [(one.code, "broken" in one.summary) for one in outcome.warnings] == [
            ("roles-refused", True)
        ]

    def test_the_key_of_another_account_may_be_the_one_that_can(self, rig):
        path = rig.mount()
        old = rig.gateway.engine(path).config().key_id
        rig.write(path, clientID="another-account")
        rig.gateway.engine(path).commit("rot")
        self.broken_role(rig, path)
        rig.past_the_old_tokens()
        outcome = retire_mount(job(path), rig.dependencies())
        assert refusal(outcome).code == "cut-over-not-proven"
        assert untouched(rig, path, old)


def test_mounts_that_cannot_be_read_are_named(rig):
    path, _, _ = rig.rotated()
    other = rig.mount()
    rig.past_the_old_tokens()

    def forbid(_number, method, where):
        if where == f"{other}/config":
            raise error_for(403, ("permission denied",), method=method, path=where)

    rig.line.before = forbid
    outcome = retire_mount(job(path), rig.dependencies())
    assert outcome.result is Result.RETIRED
    assert [one.code for one in outcome.warnings] == ["mounts-not-read"]
    assert other in outcome.warnings[0].summary


@pytest.mark.parametrize("kept_copy_only", [False, True])
def test_skyflow_deletes_nothing_that_an_unproved_node_may_mint_with(
    rig, monkeypatch, kept_copy_only
):
    path, old, _ = rig.rotated()
    gap = Problem("unnamed-nodes", "a node was never named", "a test", "name it")
    monkeypatch.setattr(Cluster, "gaps", (gap,))
    monkeypatch.setattr(Cluster, "warnings", (gap,))
    outcome = retire_mount(job(path), rig.dependencies(), now=True, kept_copy_only=kept_copy_only)
    assert rig.keys.deleted == []
    if kept_copy_only:
        assert outcome.result is Result.RETIRED
        assert gap in outcome.warnings
    else:
        assert refusal(outcome).code == "cut-over-not-proven"
        assert "a node was never named" in refusal(outcome).why
        assert untouched(rig, path, old)
