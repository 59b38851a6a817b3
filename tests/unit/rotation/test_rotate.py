"""The rotation of one mount: what it does, and everything that it refuses."""

from __future__ import annotations

import json

import pytest
from support.faulty_emulator import Fault, FaultKind
from support.rotating import PATH, A, B, Requests, invalid, new_credential, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import Result, RotationJob, StepName
from skyflowctl.rotation.rotate import preview_mount
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.live import BASIC_API, way_out

pytestmark = pytest.mark.usefixtures("quick_keys")


def names(outcome):
    return [step.name.value for step in outcome.steps]


def refused(made, outcome, code, exit_code=ExitCode.REFUSED):
    """It was refused so, and nothing was written."""
    assert (outcome.result, outcome.exit_code) == (Result.REFUSED, exit_code), outcome
    assert outcome.problems[0].code == code
    assert all((one.summary, one.why, one.fix)[0] for one in outcome.problems)
    if made.configured:
        assert made.config().credential_version == 1
        assert made.config().rotation is None
        assert (made.serves(), outcome.live_key_id) == (made.old, made.old)
    return outcome.problems[0]


class TestItRotates:
    def test_to_a_reference(self):
        with rig(A, B) as made:
            new = made.successor()
            outcome = made.rotate(lambda: new)
            assert (outcome.result, outcome.exit_code) == (Result.ROTATED, ExitCode.OK)
            assert (outcome.from_key, outcome.to_key) == (made.old, new.key_id)
            assert made.serves() == outcome.live_key_id == new.key_id
            assert names(outcome) == [
                "resume", "lint", "prove", "note", "write", "verify-nodes", "commit",
            ]  # fmt: skip
            assert outcome.old_tokens_valid_until == "2026-11-22T13:10:00Z"
            assert made.config().rotation.id == "run-1"

    def test_to_a_generated_key(self):
        with rig(A, B) as made:
            outcome = made.rotate(made.generated())
            assert outcome.result is Result.ROTATED
            assert made.serves() == outcome.to_key != made.old
            assert names(outcome)[:4] == ["resume", "intent", "create-key", "lint"]
            assert made.config().rotation.keys == (made.old,)
            assert made.keys.deleted == []

    def test_the_first_credential(self):
        with rig(A, configured=False) as made:
            new = made.successor()
            outcome = made.rotate(lambda: new)
            assert (outcome.result, outcome.from_key) == (Result.ROTATED, "")
            assert outcome.old_tokens_valid_until == ""
            assert made.serves() == new.key_id

    def test_twice_in_one_run(self):
        with rig() as made:
            for number in (1, 2):
                assert made.rotate(made.generated()).result is Result.ROTATED, number
            assert made.config().rotation.id == "run-1.2"

    def test_with_canaries_and_a_watch(self):
        with rig(A, B) as made:
            from datetime import timedelta

            new, transport = made.successor(), Requests(made.server)
            outcome = made.rotate(
                lambda: new,
                made.dependencies(transport),
                canaries=("r1", "r2"),
                watch=timedelta(seconds=12),
            )
            assert outcome.result is Result.ROTATED
            assert names(outcome)[-4:] == ["verify-nodes", "canary", "watch", "commit"]
            read = [path for method, path, _ in transport.seen if "/creds/" in path]
            assert read == [f"{PATH}/creds/r1", f"{PATH}/creds/r2"]
            watched = next(step for step in outcome.steps if step.name is StepName.WATCH)
            assert watched.ms >= 12_000

    def test_without_canaries_no_token_is_read(self):
        with rig() as made:
            transport = Requests(made.server)
            made.rotate(made.generated(), made.dependencies(transport))
            assert [path for _, path, _ in transport.seen if "/creds/" in path] == []

    def test_a_role_that_neither_mints_is_named(self):
        with rig(A) as made:
            made.gateway.engine(PATH).write_role("broken", {"role_ids": [B]})
            new = made.successor(A)
            outcome = made.rotate(lambda: new)
            assert outcome.result is Result.ROTATED
            assert [one.code for one in outcome.warnings] == ["role-mints-with-neither"]
            assert "broken" in outcome.warnings[0].summary

    def test_from_a_dead_credential_it_mends(self):
        with rig(A) as made:
            new = made.successor()
            made.state.delete_key(made.client, made.old)
            outcome = made.rotate(lambda: new)
            assert outcome.result is Result.ROTATED
            assert made.serves() == new.key_id


class TestItRefuses:
    def test_without_a_source(self):
        with rig() as made:
            problem = refused(made, made.rotate(None), "no-new-credential")
            assert "--credentials" in problem.fix
            assert "--generate" in problem.fix

    def test_the_key_that_is_live(self):
        with rig() as made:
            live = made.successor(keyID=made.old, clientID=made.client)
            refused(made, made.rotate(lambda: live), "unchanged-credential")

    def test_what_is_no_credential(self):
        with rig() as made:
            refused(made, made.rotate(invalid), "invalid", ExitCode.INVALID)

    def test_another_account_unless_allowed(self):
        with rig() as made:
            other = made.successor(clientID="f" * 32)
            refused(made, made.rotate(lambda: other), "different-account")
            outcome = made.rotate(lambda: other, allow_different_account=True)
            assert outcome.result is Result.ROTATED

    def test_a_key_that_was_live_before(self):
        with rig() as made:
            first = made.successor()
            assert made.rotate(lambda: first).result is Result.ROTATED
            assert (
                made.rotate(made.generated(), made.dependencies(run_id="r2")).result
                is Result.ROTATED
            )
            live = made.serves()
            outcome = made.rotate(lambda: first, made.dependencies(run_id="r3"))
            assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
            assert "--rollback order --to 2" in outcome.problems[0].fix
            assert made.serves() == live

    def test_a_credential_that_lacks_a_role(self):
        with rig(A, B) as made:
            new = made.successor(A, clientID="e" * 32)
            outcome = made.rotate(lambda: new, allow_different_account=True)
            problem = refused(made, outcome, "role-lost")
            assert "role r2" in problem.summary
            assert "not assigned" in problem.why

    def test_a_key_that_skyflow_does_not_know(self):
        with rig() as made:
            new = made.successor()
            made.state.delete_key(made.client, new.key_id)
            problem = refused(made, made.rotate(lambda: new), "role-lost")
            assert "401" in problem.why

    @pytest.mark.parametrize("status", [0, 429, 500])
    def test_a_token_service_that_gives_no_answer_for_the_new_one(self, status):
        with rig() as made:
            new, transport = made.successor(), Requests(made.server)
            kind = FaultKind.STATUS if status else FaultKind.RESET

            def before(number, method, path):
                if "credentials_json" in transport.seen[-1][2] and path.endswith("/verify"):
                    made.state.faults.add(Fault(kind, status=status or 500))

            transport.before = before
            outcome = made.rotate(lambda: new, made.dependencies(transport))
            refused(made, outcome, "token-service-no-answer")

    def test_a_canary_that_is_no_role(self):
        with rig() as made:
            new = made.successor()
            refused(made, made.rotate(lambda: new, canaries=("nobody",)), "unknown-canary")

    def test_a_key_for_a_mount_without_a_credential(self):
        with rig(configured=False) as made:
            outcome = made.rotate(made.generated())
            assert outcome.problems[0].code == "nothing-live"
            assert (outcome.serves, outcome.exit_code) == (False, ExitCode.UNHEALTHY)
            assert made.keys.calls == []

    def test_a_mount_that_is_not_there(self):
        with rig() as made:
            made.gateway.sys.disable_mount(PATH)
            outcome = made.rotate(made.generated())
            assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.USAGE)

    def test_what_does_not_serve_is_said_with_every_refusal(self):
        with rig() as made:
            made.state.delete_key(made.client, made.old)
            new = made.successor()
            made.state.delete_key(made.client, new.key_id)
            outcome = made.rotate(lambda: new)
            assert (outcome.serves, outcome.exit_code) == (False, ExitCode.UNHEALTHY)
            codes = [one.code for one in outcome.problems]
            assert codes == ["candidate-mints-nothing", "mount-does-not-serve"]
            assert "'skyflowctl rotate skyflow/order --credentials REF'" in outcome.problems[1].fix

    @pytest.mark.parametrize("status", [0, 429, 500])
    def test_a_token_service_that_is_down_is_not_blamed_on_the_key(self, status):
        with rig() as made:
            new = made.successor()
            kind = FaultKind.STATUS if status else FaultKind.RESET
            made.state.faults.add(Fault(kind, status=status or 500, count=0))
            outcome = made.rotate(lambda: new)
            made.state.faults.clear()
            assert (outcome.serves, outcome.exit_code) == (False, ExitCode.UNHEALTHY)
            assert outcome.problems[-1].code == "mount-does-not-serve"
            assert "once the service answers" in outcome.problems[-1].fix
            assert "--credentials" not in outcome.problems[-1].fix

    def test_what_is_refused_for_the_input_alone_mints_nothing(self):
        with rig() as made:
            live = made.successor(keyID=made.old, clientID=made.client)
            other = made.successor(clientID="9" * 32)
            for source in (None, lambda: live, lambda: other):
                transport = Requests(made.server)
                outcome = made.rotate(source, made.dependencies(transport))
                assert outcome.exit_code is ExitCode.REFUSED
                assert [path for _, path, _ in transport.seen if path.endswith("/verify")] == []

    def test_a_mount_that_was_cut_off_is_told_how_to_get_a_credential(self):
        with rig() as made:
            made.gateway.engine(PATH).cut_off()
            outcome = made.rotate(None)
            assert (outcome.serves, outcome.exit_code) == (False, ExitCode.UNHEALTHY)
            problem = outcome.problems[1]
            assert problem.code == "mount-does-not-serve"
            assert "it has no credential: it has been cut off since" in problem.why
            assert problem.fix == way_out("order")

    def test_a_mount_that_never_had_a_credential_is_told_so(self):
        with rig(configured=False) as made:
            problem = made.rotate(None).problems[1]
            assert (problem.code, problem.why) == ("mount-does-not-serve", "it has no credential")
            assert "'skyflowctl rotate skyflow/order --credentials REF'" in problem.fix

    @pytest.mark.parametrize("asked", range(4))
    def test_a_stop_before_the_write_undoes_what_was_begun(self, asked):
        with rig() as made:
            answers = iter([False] * asked)
            outcome = made.rotate(
                made.generated(), made.dependencies(stopping=lambda: next(answers, True))
            )
            if asked < 3:
                refused(made, outcome, "stopped")
                assert made.keys.ids(made.client) == (made.old,)
            else:
                assert outcome.result is Result.ROTATED


class TestGeneratedKeys:
    def test_one_that_is_not_known_at_once_is_waited_for(self):
        with rig() as made:
            transport = Requests(made.server)
            hidden = {}

            def before(number, method, path):
                body = transport.seen[-1][2]
                if path.endswith("/verify") and "credentials_json" in body:
                    hidden["tries"] = hidden.get("tries", 0) + 1
                    if hidden["tries"] == 1:
                        account = made.state.accounts[made.client]
                        (new,) = set(account.keys) - {made.old}
                        hidden["key"] = account.keys[new]
                        made.state.delete_key(made.client, new)
                    elif hidden["tries"] == 3:
                        made.state.put_key(made.client, hidden["key"])

            transport.before = before
            told = []
            outcome = made.rotate(
                made.generated(), made.dependencies(transport, listener=told.append)
            )
            assert outcome.result is Result.ROTATED
            assert hidden["tries"] == 3
            assert any("not known" in getattr(event, "text", "") for event in told)

    def test_one_that_stays_unknown_is_discarded(self):
        with rig() as made:
            made.keys.after = lambda what: [
                made.state.delete_key(made.client, key)
                for key in made.keys.ids(made.client)
                if what == "create" and key != made.old
            ]
            outcome = made.rotate(made.generated())
            refused(made, outcome, "role-lost")
            assert made.keys.deleted == [outcome.to_key]
            assert names(outcome)[-1] == "discard-key"

    @pytest.mark.parametrize("what", ["list", "create"])
    def test_a_management_api_that_fails(self, what):
        with rig() as made:

            def fail(called):
                if called == what:
                    from skyflowctl.errors import NotPermittedError

                    raise NotPermittedError("no", why="the operator token is dead", fix="get one")

            made.keys.before = fail
            outcome = made.rotate(made.generated())
            if what == "list":
                refused(made, outcome, "not-permitted", ExitCode.NOT_PERMITTED)
            else:
                assert outcome.exit_code is ExitCode.NOT_PERMITTED
                assert made.config().rotation is None
            assert made.keys.ids(made.client) == (made.old,)

    def test_a_key_that_was_created_although_it_failed_is_named(self):
        with rig() as made:

            def fail(called):
                if called == "create":
                    from skyflowctl.errors import UnreachableError

                    raise UnreachableError("no answer", why="a test", fix="none")

            made.keys.after = fail
            outcome = made.rotate(made.generated())
            assert outcome.exit_code is ExitCode.UNREACHABLE
            (lost,) = set(made.keys.ids(made.client)) - {made.old}
            assert [one.code for one in outcome.warnings] == ["unrecorded-keys"]
            assert lost in outcome.warnings[0].summary

    def test_a_key_that_cannot_be_deleted_is_named(self):
        with rig() as made:

            def fail(called):
                if called == "delete":
                    raise ValueError("x")

            made.keys.before = fail
            made.keys.after = lambda what: (
                what == "create"
                and made.state.put_account(made.client, name="", role_ids=(), enforce_ctx=False)
            )
            outcome = made.rotate(made.generated())
            assert outcome.exit_code is ExitCode.UNHEALTHY
            left = [one for one in outcome.warnings if one.code == "key-left-at-skyflow"]
            assert outcome.to_key in left[0].summary
            # The record stays for the next run.
            assert made.config().rotation.to_key == outcome.to_key


class TestPreview:
    def test_it_writes_nothing_and_creates_no_key(self):
        with rig() as made:
            new = made.successor()
            before = made.config()
            for source in (lambda: new, made.generated()):
                transport = Requests(made.server)
                outcome = preview_mount(
                    RotationJob("order", PATH), source, made.dependencies(transport)
                )
                assert (outcome.result, outcome.exit_code) == (Result.WOULD_ROTATE, ExitCode.OK)
                assert made.config() == before
                written = [path for method, path, _ in transport.seen if method == "POST"]
                assert set(written) <= {f"{PATH}/config/verify"}
            assert "create" not in made.keys.calls

    def test_of_an_open_rotation(self):
        with rig() as made:
            new = made.successor()
            made.gateway.engine(PATH).write_config(
                {"rotation_id": "x", "credentials_json": new.json}
            )
            before = made.config()
            outcome = preview_mount(RotationJob("order", PATH), None, made.dependencies())
            assert (outcome.result, outcome.to_key) == (Result.WOULD_ROTATE, new.key_id)
            assert (outcome.from_key, made.config()) == (made.old, before)

    def test_it_refuses_what_the_rotation_would(self):
        with rig(A, B) as made:
            lacking = made.successor(A, clientID="d" * 32)
            for source, code in (
                (None, "no-new-credential"),
                (lambda: lacking, "different-account"),
            ):
                outcome = preview_mount(RotationJob("order", PATH), source, made.dependencies())
                refused(made, outcome, code)


def test_no_text_of_an_outcome_holds_a_secret():
    with rig() as made:
        new = made.successor()
        outcome = made.rotate(lambda: new)
        fields = json.loads(new.json.reveal())
        assert fields["privateKey"][40:80] not in repr(outcome)
        assert new_credential(new.json.reveal()) == new


class TestTheWayOutOfACutOff:
    """``rotate --generate``: a new key for the account that was live last."""

    @pytest.mark.parametrize("left", [True, False], ids=["old key left", "old key deleted"])
    def test_a_new_key_is_made(self, left):
        with rig(A, B) as made:
            made.gateway.engine(PATH).cut_off("INC-1", "run-0")
            if not left:
                made.state.delete_key(made.client, made.old)
            outcome = made.rotate(made.generated())
            assert (outcome.result, outcome.exit_code) == (Result.ROTATED, ExitCode.OK), outcome
            assert made.serves() == outcome.to_key
            config = made.config()
            assert (config.client_id, config.revoked) == (made.client, None)
            assert (config.rotation.state, config.rotation.from_key) == ("committed", "")
            assert not outcome.old_tokens_valid_until
            assert made.keys.deleted == []

    def test_a_dry_run_makes_none(self):
        with rig(A) as made:
            made.gateway.engine(PATH).cut_off()
            before = made.config()
            outcome = preview_mount(
                RotationJob("order", PATH), made.generated(), made.dependencies()
            )
            assert (outcome.result, outcome.exit_code) == (Result.WOULD_ROTATE, ExitCode.OK)
            assert "no key is live" in outcome.steps[1].detail
            assert made.keys.calls == ["list"]
            assert made.config() == before

    def test_a_key_that_mints_nothing_is_deleted_and_the_cut_off_stays(self):
        with rig(A) as made:
            made.gateway.engine(PATH).cut_off("INC-1", "run-0")
            revoked = made.config().revoked
            made.keys.after = lambda what: [
                made.state.delete_key(made.client, key)
                for key in made.keys.ids(made.client)
                if what == "create" and key != made.old
            ]
            outcome = made.rotate(made.generated())
            assert (outcome.result, outcome.serves) == (Result.REFUSED, False)
            assert [one.code for one in outcome.problems] == [
                "candidate-mints-nothing",
                "mount-does-not-serve",
            ]
            assert outcome.problems[1].fix == way_out("order")
            assert made.keys.deleted == [outcome.to_key]
            assert (made.config().revoked, made.config().rotation) == (revoked, None)

    def test_a_second_cut_off_wins_over_it(self):
        """The key is made and proved, and the mount is cut off again before it is written."""
        with rig(A) as made:
            made.gateway.engine(PATH).cut_off("INC-1", "run-0")
            transport = Requests(made.server)

            def before(_number, _method, path):
                if "credentials_json" in transport.seen[-1][2] and path == f"{PATH}/config":
                    made.gateway.engine(PATH).cut_off("INC-2", "run-9")

            transport.before = before
            outcome = made.rotate(made.generated(), made.dependencies(transport))
            assert outcome.result is Result.REFUSED
            config = made.config()
            assert (config.configured, config.rotation) == (False, None)
            assert (config.revoked.reason, config.revoked.run) == ("INC-1", "run-0")
            assert made.keys.deleted == [outcome.to_key]

    def test_without_any_account_it_says_why(self):
        with rig(A, configured=False) as made:
            outcome = made.rotate(made.generated())
            assert outcome.problems[0].code == "nothing-live"
            assert made.keys.calls == []

    def test_an_earlier_release_of_the_engine_records_nothing_so_no_key_is_made(self):
        with rig(A) as made:
            made.gateway.engine(PATH).cut_off()
            transport = Requests(made.server)

            def before(_number, method, path):
                if method == "POST" and path == f"{PATH}/config":
                    raise error_for(400, ("mount not configured",), method=method, path=path)

            transport.before = before
            outcome = made.rotate(made.generated(), made.dependencies(transport))
            assert outcome.problems[0].code == "not-recorded"
            assert "'skyflowctl rotate skyflow/order --credentials REF'" in outcome.problems[0].fix
            assert made.keys.calls == ["list"]

    def test_the_advice_depends_on_what_the_engine_can_do(self):
        assert "'skyflowctl rotate order --generate'" in way_out("order")
        assert "--generate" not in way_out("order", BASIC_API)
        assert "'skyflowctl rotate order'" in way_out("order", BASIC_API)
