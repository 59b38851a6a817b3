"""A run that waits shows that it lives, and notices when its rotation is no more its own."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from support.rotating import PATH, Requests, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.heartbeat import EVERY, Heartbeat
from skyflowctl.rotation.model import Result
from skyflowctl.vault.errors import OutcomeUnknownError
from skyflowctl.vault.failed_answers import error_for

pytestmark = pytest.mark.usefixtures("quick_keys")
MINUTE = timedelta(minutes=1)


class Machines:
    """Threads that wait by one clock, which moves on when all of them wait."""

    def __init__(self, clock):
        self.clock = clock
        self.turn = threading.Condition()
        self.wakes = {}
        self.running = set()
        self.results = {}

    def sleep(self, seconds):
        name = threading.current_thread().name
        with self.turn:
            self.wakes[name] = self.clock.now() + timedelta(seconds=seconds)
            self._move_on()
            self.turn.wait_for(lambda: name not in self.wakes, timeout=20)

    def run(self, **works):
        threads = [
            threading.Thread(target=self._one, name=name, args=(work,), daemon=True)
            for name, work in works.items()
        ]
        self.running = set(works)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        return self.results

    def _one(self, work):
        name = threading.current_thread().name
        try:
            self.results[name] = work()
        finally:
            with self.turn:
                self.running.discard(name)
                self._move_on()

    def _move_on(self):
        if not self.running or set(self.wakes) != self.running:
            return
        first = min(self.wakes.values())
        self.clock.pass_seconds((first - self.clock.now()).total_seconds())
        for name in [name for name, wake in self.wakes.items() if wake <= first]:
            del self.wakes[name]
        self.turn.notify_all()


@pytest.mark.parametrize("after", [5, 20, 58])
def test_a_watch_is_left_alone_by_another_machine(after):
    with rig() as made:
        machines = Machines(made.clock)
        new, other = made.successor(), made.successor()

        def second():
            machines.sleep(after)
            world = made.dependencies(run_id="second", sleep=machines.sleep)
            return made.rotate(lambda: other, world)

        def first():
            world = made.dependencies(run_id="first", sleep=machines.sleep)
            return made.rotate(lambda: new, world, watch=MINUTE)

        results = machines.run(first=first, second=second)
        assert results["first"].result is Result.ROTATED
        refused = results["second"]
        assert (refused.result, refused.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert refused.problems[0].code in {"another-rotation", "config-changed"}
        assert made.serves() == new.key_id
        assert made.config().rotation.state == "committed"


def watched(made, at, happens, **more):
    """Rotate with a watch; something happens after so many seconds of it."""
    new, state = made.successor(), {"passed": 0.0, "ages": []}

    def sleep(seconds):
        made.clock.pass_seconds(seconds)
        state["passed"] += seconds
        state["ages"].append(age(made))
        if state["passed"] >= at and "done" not in state:
            state["done"] = True
            happens()

    world = made.dependencies(more.get("transport"), run_id="mine", sleep=sleep)
    return new, made.rotate(lambda: new, world, watch=MINUTE), state


def age(made):
    written = made.config().last_updated
    return (made.clock.now() - written).total_seconds()


def test_the_config_never_grows_old_while_it_is_watched():
    with rig() as made:
        _, outcome, state = watched(made, 0, lambda: None)
        assert outcome.result is Result.ROTATED
        assert max(state["ages"]) <= EVERY
        # A sign of life is no new credential.
        assert made.config().credential_version == 2


def test_an_edit_of_another_field_is_no_loss():
    with rig() as made:
        edit = {"description": "edited"}
        new, outcome, state = watched(
            made, 20, lambda: made.gateway.engine(PATH).write_config(edit)
        )
        assert (outcome.result, outcome.live_key_id) == (Result.ROTATED, new.key_id)
        assert made.config().description == "edited"
        assert max(state["ages"][-5:]) <= EVERY


def test_one_that_was_finished_by_another_is_left_as_it_is():
    with rig() as made:
        new, outcome, state = watched(made, 20, lambda: made.gateway.engine(PATH).commit("mine"))
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert outcome.problems[0].code == "another-rotation"
        assert state["passed"] <= 20 + 2 * EVERY
        assert made.serves() == new.key_id
        assert made.config().rotation.state == "committed"


def test_one_that_was_rolled_back_by_another_is_left_as_it_is():
    with rig() as made:

        def back():
            made.gateway.engine(PATH).rollback(cas_credential_version=2)

        _, outcome, state = watched(made, 20, back)
        assert outcome.exit_code is ExitCode.REFUSED
        assert outcome.problems[0].code == "lost-check-and-set"
        assert state["passed"] <= 20 + 2 * EVERY
        assert made.serves() == made.old
        assert made.config().rotation is None


def test_renewals_that_nobody_answers_are_passed_over():
    with rig() as made:
        transport = Requests(made.server)

        def lost(method, path):
            return OutcomeUnknownError("none", why="a test", fix="none", method=method, path=path)

        def after(number, method, path):
            body = transport.seen[number][2]
            if path.endswith("/config") and set(body) <= {"rotation_id", "cas"} and body:
                raise lost(method, path)

        transport.after = after
        new, outcome, _ = watched(made, 0, lambda: None, transport=transport)
        assert (outcome.result, made.serves()) == (Result.ROTATED, new.key_id)


def test_a_key_that_was_deleted_by_whoever_took_over_is_not_waited_for():
    with rig() as made:
        transport, started = Requests(made.server), []

        def before(_, method, path):
            body = transport.seen[-1][2]
            if path.endswith("/config/verify") and "credentials_json" in body and not started:
                started.append(made.clock.now())
                live = made.config()
                made.gateway.engine(PATH).write_config({"rotation_id": "theirs"}, cas=live.version)
                made.state.delete_key(made.client, live.rotation.to_key)

        transport.before = before
        outcome = made.rotate(made.generated(), made.dependencies(transport, run_id="mine"))
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert outcome.problems[0].code == "another-rotation"
        assert "theirs" in outcome.problems[0].why
        assert made.clock.now() - started[0] < timedelta(seconds=2)
        assert made.config().rotation.id == "theirs"
        assert made.serves() == made.old


def test_a_no_after_a_lost_write_settles_nothing():
    with rig() as made:
        transport = Requests(made.server)
        held = []

        def before(number, method, path):
            body = transport.seen[number][2]
            if not path.endswith("/config") or method == "GET":
                return
            if "credentials_json" in body:
                held.append(body)
                raise OutcomeUnknownError(
                    "none", why="a test", fix="none", method=method, path=path
                )
            if held:
                raise error_for(403, ("permission denied",), method=method, path=path)

        transport.before = before
        outcome = made.rotate(made.generated(), made.dependencies(transport, run_id="mine"))
        assert (outcome.result, outcome.exit_code) == (Result.FAILED, ExitCode.NOT_PERMITTED)
        assert outcome.problems[0].code == "rotation-left-open"
        assert made.keys.deleted == []
        # The write that was lost arrives late: what it makes live must still be a key.
        made.gateway.engine(PATH).write_config(held[0])
        assert made.serves() == made.config().rotation.to_key


def test_waiting_without_a_rotation_writes_nothing():
    with rig() as made:
        waited = []
        heartbeat = Heartbeat(made.clock, waited.append)
        heartbeat.sleep(12)
        heartbeat.keep(lambda: pytest.fail("it was stopped"))
        heartbeat.stop()
        heartbeat.sleep(12)
        assert waited == [12, 12]
