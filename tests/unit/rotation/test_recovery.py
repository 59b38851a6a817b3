"""Somebody else is at the mount too: what is left alone, taken over, and said."""

from __future__ import annotations

import pytest
from support.rotating import PATH, Requests, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import Result

pytestmark = pytest.mark.usefixtures("quick_keys")


def test_an_open_intent_of_a_living_process_is_left_alone():
    class Alive:
        def owner_alive(self, path, rotation_id):
            return (path, rotation_id) == (PATH, "other")

    with rig() as made:
        made.gateway.engine(PATH).write_config({"rotation_id": "other"})
        before = made.config()
        outcome = made.rotate(made.generated(), made.dependencies(owners=Alive()))
        assert outcome.problems[0].code == "another-rotation"
        assert outcome.exit_code is ExitCode.REFUSED
        assert made.config() == before
        assert made.keys.calls == []


@pytest.mark.parametrize("alive", [False, None])
def test_that_of_a_dead_or_silent_one_is_taken_over(alive):
    class Journal:
        def owner_alive(self, path, rotation_id):
            return alive

        def begin(self, path, rotation_id):
            pass

        def end(self, path):
            pass

    with rig() as made:
        made.gateway.engine(PATH).write_config({"rotation_id": "other"})
        started = made.clock.monotonic()
        outcome = made.rotate(made.generated(), made.dependencies(owners=Journal()))
        assert outcome.result is Result.ROTATED
        waited = made.clock.monotonic() - started
        assert waited == (0 if alive is False else 10)


def test_one_that_goes_on_meanwhile_is_left_alone():
    with rig() as made:
        made.gateway.engine(PATH).write_config({"rotation_id": "other"})
        sleeps = []

        def sleep(seconds):
            made.clock.pass_seconds(seconds)
            sleeps.append(seconds)
            if len(sleeps) == 3:
                made.gateway.engine(PATH).write_config({"rotation_id": "other", "rotation_to": "k"})

        outcome = made.rotate(made.generated(), made.dependencies(sleep=sleep))
        assert outcome.problems[0].code == "another-rotation"
        assert made.config().rotation.id == "other"


@pytest.mark.parametrize("broken", [False, True])
def test_a_later_write_is_touched_no_more(broken):
    """Found by the commit, or by the rollback when something else goes wrong."""
    with rig() as made:
        new, other = made.successor(), made.successor()
        transport = Requests(made.server)

        def before(number, method, path):
            if path.endswith("/commit"):
                made.gateway.engine(PATH).write_config({"credentials_json": other.json})
                if broken:
                    raise ValueError("broken")

        transport.before = before
        outcome = made.rotate(lambda: new, made.dependencies(transport))
        code = ExitCode.REFUSED if broken else ExitCode.PARTIAL
        assert (outcome.result, outcome.exit_code) == (Result.FAILED, code)
        problem = outcome.problems[0]
        assert problem.code == "lost-check-and-set"
        assert "was written and then replaced" in problem.summary
        assert new.key_id in problem.why
        assert other.key_id in problem.why
        assert "'skyflowctl config history skyflow/order'" in problem.fix
        assert made.serves() == outcome.live_key_id == other.key_id


def at_the_write(made, act):
    """A transport before whose write of the credential somebody else does something, once."""
    transport = Requests(made.server)

    def before(number, method, path):
        if "credentials_json" in transport.seen[-1][2] and path == f"{PATH}/config":
            transport.before = lambda *_: None
            act()

    transport.before = before
    return transport


def lost(made, source, act, code):
    """The run loses against what somebody does, and made nothing live."""
    outcome = made.rotate(source, made.dependencies(at_the_write(made, act), operator=made.keys))
    assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED), outcome
    problem = outcome.problems[0]
    assert problem.code == code
    assert "wrote nothing" not in problem.why
    assert "made no credential live" in problem.why
    assert "run-1" not in problem.why
    assert outcome.live_key_id == made.serves()
    return problem


@pytest.mark.parametrize("generate", [False, True], ids=["reference", "generate"])
class TestALostCheckAndSet:
    def source(self, made, generate):
        new = None if generate else made.successor()
        return made.generated() if generate else lambda: new

    def test_against_another_rotation_names_it(self, generate):
        with rig() as made:
            source = self.source(made, generate)

            def open_another():
                version = made.config().version
                made.gateway.engine(PATH).write_config({"rotation_id": "other"}, cas=version)

            problem = lost(made, source, open_another, "another-rotation")
            assert "rotation other" in problem.why
            assert made.config().rotation.id == "other"

    def test_against_an_edit_of_something_else_is_no_rotation(self, generate):
        with rig() as made:
            source = self.source(made, generate)

            def describe():
                made.gateway.engine(PATH).write_config({"description": "edited"})

            problem = lost(made, source, describe, "config-changed")
            assert "with the same credential" in problem.why
            assert "run the same command again" in problem.fix
            assert made.config().rotation is None
            assert made.keys.ids(made.client)[0] == made.serves() == made.old

    def test_against_a_credential_names_its_key_and_writer(self, generate):
        with rig() as made:
            source, other = self.source(made, generate), made.successor()

            def replace():
                made.gateway.engine(PATH).write_config({"credentials_json": other.json})

            problem = lost(made, source, replace, "config-changed")
            by = made.gateway.engine(PATH).history()[2].written_by
            assert f"key {other.key_id}" in problem.why
            assert by in problem.why


def test_an_intent_that_comes_too_late_is_told_so():
    with rig() as made:
        made.keys.before = lambda what: (
            what == "create" and made.gateway.engine(PATH).write_config({"description": "edited"})
        )
        outcome = made.rotate(made.generated())
        assert outcome.problems[0].code == "config-changed"
        assert made.keys.deleted == [outcome.to_key]
        assert made.config().rotation is None


def test_a_rotation_that_ends_while_it_is_watched_is_not_at_work():
    with rig() as made:
        made.gateway.engine(PATH).write_config({"rotation_id": "other"})

        def sleep(seconds):
            made.clock.pass_seconds(seconds)
            made.gateway.engine(PATH).write_config({"rotation_id": ""})

        outcome = made.rotate(made.generated(), made.dependencies(sleep=sleep))
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert outcome.problems[0].code == "config-changed"
        assert made.keys.calls == []
