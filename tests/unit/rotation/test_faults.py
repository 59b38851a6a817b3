"""What goes wrong while a rotation runs: every answer lost, refused or late, in turn."""

from __future__ import annotations

import threading

import pytest
from support.faulty_emulator import Fault, FaultKind
from support.rotating import PATH, A, B, Requests, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.intent import new_attempt, record_intent, undone_on_failure
from skyflowctl.rotation.model import Result, RotationJob
from skyflowctl.rotation.session import RotationSession
from skyflowctl.vault.errors import ConflictError, OutcomeUnknownError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.transport import Request

pytestmark = pytest.mark.usefixtures("quick_keys")
ENDS = {
    ExitCode.OK,
    ExitCode.PARTIAL,
    ExitCode.NOT_PERMITTED,
    ExitCode.REFUSED,
    ExitCode.UNREACHABLE,
}


def lost(method, path):
    return OutcomeUnknownError(
        "no answer", why="it is a test", fix="none", method=method, path=path
    )


def answered(status, text):
    return lambda method, path: error_for(status, (text,), method=method, path=path)


FAULTS = {
    "lost": lost,
    "409": answered(409, "check-and-set failed"),
    "500": answered(500, "internal error"),
    "503": answered(503, "Vault is sealed"),
    "token service down": answered(503, "skyflow: no answer within 10 s"),
    "token service refuses": answered(502, "token service refused: 401 unknown key"),
    "403": answered(403, "permission denied"),
    "a fault of ours": lambda method, path: ValueError("secret-in-a-traceback"),
}


def source_of(made, generate):
    if generate:
        return made.generated()
    new = made.successor()
    return lambda: new


def requests_of(generate):
    with rig(A, B) as made:
        transport = Requests(made.server)
        source = source_of(made, generate)
        assert made.rotate(source, made.dependencies(transport)).result is Result.ROTATED
        return transport.seen


def failing(made, at, fault, *, applied, times=1):
    """A transport whose request number ``at``, and so many after it, fail."""
    transport = Requests(made.server)

    def fail(number, method, path):
        if at <= number < at + times:
            raise fault(method, path)

    if applied:
        transport.after = fail
    else:
        transport.before = fail
    return transport


def assert_whole(made, outcome, what):
    """The mount serves, the outcome says by which key, and nothing is half."""
    assert outcome.exit_code in ENDS, (what, outcome)
    assert (outcome.result is Result.ROTATED) == (outcome.exit_code is ExitCode.OK), (what, outcome)
    assert bool(outcome.problems) == (outcome.exit_code is not ExitCode.OK), (what, outcome)
    assert outcome.live_key_id in {made.serves(), ""}, (what, outcome)
    assert "secret-in-a-traceback" not in repr(outcome)


@pytest.mark.parametrize("generate", [False, True], ids=["reference", "generate"])
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("applied", [False, True], ids=["not done", "done"])
def test_one_bad_answer(generate, name, applied):
    for at, (method, path, _) in enumerate(requests_of(generate)):
        with rig(A, B) as made:
            source = source_of(made, generate)
            transport = failing(made, at, FAULTS[name], applied=applied)
            outcome = made.rotate(source, made.dependencies(transport, operator=made.keys))
            what = (at, method, path)
            assert_whole(made, outcome, what)
            again = made.rotate(source, made.dependencies(run_id="run-2", operator=made.keys))
            assert again.exit_code in {ExitCode.OK, ExitCode.REFUSED}, (what, outcome, again)
            assert made.serves() == again.live_key_id
            state = made.config().rotation
            assert state is None or state.state == "committed", (what, outcome, again)


@pytest.mark.parametrize("generate", [False, True], ids=["reference", "generate"])
@pytest.mark.parametrize("applied", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("name", FAULTS)
def test_the_server_is_gone_from_one_request_on(generate, name, applied):
    for at in range(len(requests_of(generate))):
        with rig(A, B) as made:
            source = source_of(made, generate)
            transport = failing(made, at, FAULTS[name], applied=applied, times=9999)
            outcome = made.rotate(source, made.dependencies(transport, operator=made.keys))
            # The token service that is down for good leaves nothing that serves.
            assert outcome.exit_code in {*ENDS, ExitCode.UNHEALTHY} - {ExitCode.OK}, (at, outcome)
            made.serves()
            again = made.rotate(source, made.dependencies(run_id="run-2", operator=made.keys))
            assert again.exit_code in {ExitCode.OK, ExitCode.REFUSED}, (at, outcome, again)
            assert made.serves() == again.live_key_id


@pytest.mark.parametrize("generate", [False, True], ids=["reference", "generate"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.STATUS, status=429, count=0),
        Fault(FaultKind.STATUS, status=500, count=0),
        Fault(FaultKind.RESET, count=0),
        Fault(FaultKind.HTML, count=0),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_token_service_that_fails_while_it_is_asked(generate, fault):
    """From each request on until the end of it, and for good."""
    for at, (method, path, _) in enumerate(requests_of(generate)):
        for for_good in (False, True):
            with rig(A, B) as made:
                source, transport = source_of(made, generate), Requests(made.server)

                def break_it(number, *_, at=at, made=made):
                    if number == at:
                        made.state.faults.add(fault)

                def mend_it(number, *_, at=at, made=made, for_good=for_good):
                    if number == at and not for_good:
                        made.state.faults.clear()

                transport.before, transport.after = break_it, mend_it
                outcome = made.rotate(source, made.dependencies(transport, operator=made.keys))
                made.state.faults.clear()
                what = (at, method, path, for_good)
                assert outcome.exit_code in {*ENDS, ExitCode.UNHEALTHY}, (what, outcome)
                made.serves()
                again = made.rotate(source, made.dependencies(run_id="run-2", operator=made.keys))
                assert again.exit_code in {ExitCode.OK, ExitCode.REFUSED}, (what, outcome, again)
                assert made.serves() == again.live_key_id


def test_a_late_write_cannot_make_a_deleted_key_live():
    """The write's answer is lost, and the write arrives only after it was given up."""
    with rig() as made:
        transport, late = Requests(made.server), []

        def before(number, method, path):
            body = transport.seen[-1][2]
            if "credentials_json" in body and path == f"{PATH}/config":
                late.append(body)
                raise lost(method, path)

        transport.before = before
        outcome = made.rotate(made.generated(), made.dependencies(transport))
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.UNREACHABLE)
        assert made.keys.deleted == [outcome.to_key]
        with pytest.raises(Exception, match="changed by someone else"):
            made.server.send(Request("POST", f"{PATH}/config", body=late[0]))
        assert made.serves() == made.old


def test_a_write_that_arrives_just_before_the_key_is_deleted_is_too_late():
    with rig() as made:
        transport, late, refused = Requests(made.server), [], []

        def before(number, method, path):
            body = transport.seen[-1][2]
            if "credentials_json" in body and path == f"{PATH}/config":
                late.append(body)
                raise lost(method, path)

        def arrive(what):
            if what == "delete":
                with pytest.raises(ConflictError):
                    made.server.send(Request("POST", f"{PATH}/config", body=late[0]))
                refused.append(what)

        transport.before, made.keys.before = before, arrive
        made.rotate(made.generated(), made.dependencies(transport))
        assert refused == ["delete"]
        assert made.serves() == made.old


def test_the_key_of_a_silent_run_is_deleted_only_once_that_run_can_write_no_more():
    with rig() as made:
        new = made.keys.create_key(made.client)
        record = {"rotation_id": "silent", "rotation_keys": [made.old]}
        made.gateway.engine(PATH).write_config({**record, "rotation_to": new.key_id})
        version, refused = made.config().version, []
        made.clock.pass_seconds(60)

        def wake_up(what):
            if what == "delete":
                body = {"rotation_id": "silent", "credentials_json": new.json}
                with pytest.raises(ConflictError):
                    made.gateway.engine(PATH).write_config(body, cas=version)
                refused.append(what)

        made.keys.before = wake_up
        outcome = made.rotate(made.generated())
        assert (outcome.result, refused) == (Result.ROTATED, ["delete"])
        assert made.keys.deleted == [new.key_id]
        assert made.serves() == outcome.to_key


def test_a_key_that_a_node_may_still_use_is_not_deleted():
    with rig() as made:
        transport, seen = Requests(made.server), []

        def before(number, method, path):
            if path.endswith("/commit"):
                raise ValueError("broken")
            if path.endswith("/rollback"):
                seen.append(path)
            if path.endswith("/verify") and seen:
                raise error_for(500, ("internal error",), method=method, path=path)

        transport.before = before
        outcome = made.rotate(made.generated(), made.dependencies(transport))
        assert outcome.result is Result.ROLLED_BACK
        assert made.keys.deleted == []
        codes = [one.code for one in outcome.warnings]
        assert "key-left-at-skyflow" in codes
        # The record of it stays, and whoever comes next cleans up.
        assert made.config().rotation.to_key == outcome.to_key
        assert (
            made.rotate(made.generated(), made.dependencies(run_id="r2")).result is Result.ROTATED
        )
        assert made.keys.deleted == [outcome.to_key]


def test_what_is_live_is_never_deleted_nor_its_record_closed():
    with rig() as made:
        run = RotationSession(RotationJob("order", PATH), made.dependencies())
        attempt = new_attempt(run, made.config(), made.keys)
        record_intent(run, attempt, {"rotation_keys": [made.old]})
        new = made.keys.create_key(made.client)
        attempt.key_id = new.key_id
        body = {"rotation_id": attempt.id, "credentials_json": new.json}

        def written_and_failed():
            with undone_on_failure(run, attempt):
                made.gateway.engine(PATH).write_config(body)
                raise ValueError("after the write")

        with pytest.raises(ValueError, match="after the write"):
            written_and_failed()
        assert made.serves() == new.key_id
        assert made.config().rotation.id == attempt.id


class Turns:
    """Two runs, of which one sends a request only when it is its turn."""

    def __init__(self, made, first_goes: int) -> None:
        self.made, self.left = made, first_goes
        self.lock = threading.Condition()
        self.turn, self.over = 0, [False, False]

    def transport(self, who):
        transport = Requests(self.made.server)
        transport.before = lambda *_: self.wait(who)
        return transport

    def wait(self, who):
        with self.lock:
            assert self.lock.wait_for(lambda: self.turn == who, 30)
            if who == 0:
                self.left -= 1
                if self.left < 0 and not self.over[1]:
                    # The other one runs to its end between two requests of this one.
                    self.turn = 1
                    self.lock.notify_all()
                    assert self.lock.wait_for(lambda: self.turn == who, 30)

    def end(self, who):
        with self.lock:
            self.over[who], self.turn = True, 1 - who
            self.lock.notify_all()


@pytest.mark.parametrize("generate", [False, True], ids=["reference", "generate"])
@pytest.mark.parametrize("first_goes", range(14))
def test_two_rotations_interleaved(generate, first_goes):
    with rig(A, B) as made:
        turns, outcomes = Turns(made, first_goes), [None, None]
        sources = [source_of(made, generate), source_of(made, generate)]

        def run(who):
            try:
                world = made.dependencies(
                    turns.transport(who), run_id=f"run-{who}", operator=made.keys
                )
                outcomes[who] = made.rotate(sources[who], world)
            finally:
                turns.end(who)

        threads = [threading.Thread(target=run, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        live = made.serves()
        won = [one for one in outcomes if one.to_key == live and one.result is Result.ROTATED]
        assert won, outcomes
        for one in outcomes:
            assert one.exit_code in {ExitCode.OK, ExitCode.REFUSED}, outcomes
        config = made.config()
        assert (config.rotation.state, config.rotation.to_key) == ("committed", live)
        kept = [one for one in made.gateway.engine(PATH).history().values() if one.kept]
        assert [one.key_id for one in kept if one.key_id == live] == [live]
