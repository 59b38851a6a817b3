"""A rotation that is killed between any two requests, and run again from another machine."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from support.rotating import PATH, A, B, Killed, Requests, Rig, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import Options, Result, RotationJob
from skyflowctl.rotation.rollback import rollback_mount
from skyflowctl.rotation.rotate import rotate_mount

pytestmark = pytest.mark.usefixtures("quick_keys")
JOB = RotationJob("order", PATH)


@dataclass
class Boundaries:
    """Counts everything that leaves the process, and ends it at one of the boundaries.

    A request and a call to Skyflow have two each: before it arrives, and after it was
    done and before its answer is seen.
    """

    at: int = -1
    passed: list[str] = field(default_factory=list)

    def boundary(self, what: str) -> None:
        self.passed.append(what)
        if len(self.passed) - 1 == self.at:
            raise Killed(what)

    def world(self, made: Rig, **more):
        transport = Requests(made.server)
        transport.before = lambda _, method, path: self.boundary(f"before {method} {path}")
        transport.after = lambda _, method, path: self.boundary(f"after {method} {path}")
        made.keys.before = lambda what: self.boundary(f"before {what} key")
        made.keys.after = lambda what: self.boundary(f"after {what} key")
        return made.dependencies(transport, **more)


def without_boundaries(made: Rig) -> None:
    made.keys.before = made.keys.after = lambda _: None


@dataclass
class Case:
    """A rotation as it is run by hand: from what, and whether it goes well."""

    name: str
    generate: bool
    fails: bool = False
    cut_off: bool = False

    def begin(self, made: Rig) -> None:
        """Cut the mount off, where the rotation is to end that."""
        if self.cut_off:
            made.gateway.engine(PATH).cut_off("INC-1", "run-0")
            made.clock.pass_seconds(600)

    def source(self, made: Rig):
        if self.generate:
            return made.generated()
        new = made.successor()
        return lambda: new

    def go_wrong(self, made: Rig, world) -> None:
        """Have the engine's verification fail after the write, so that it is rolled back."""
        if not self.fails:
            return
        transport = world.gateway.transport
        kill, written = transport.before, []

        def before(number, method, path):
            body = transport.seen[-1][2]
            if path == f"{PATH}/config" and "credentials_json" in body:
                written.append(True)
            if written and path == f"{PATH}/config/commit":
                kill(number, method, path)
                raise ValueError("the commit goes wrong")
            kill(number, method, path)

        transport.before = before


CASES = [
    Case("reference", generate=False),
    Case("generate", generate=True),
    Case("reference that is rolled back", generate=False, fails=True),
    Case("generate that is rolled back", generate=True, fails=True),
    Case("generate after a cut-off", generate=True, cut_off=True),
]


def rotate(made: Rig, case: Case, source, kills: Boundaries, run_id: str):
    world = kills.world(made, run_id=run_id, operator=made.keys)
    case.go_wrong(made, world)
    return rotate_mount(JOB, source, world)


def boundaries(case: Case) -> list[str]:
    with rig(A, B) as made:
        case.begin(made)
        kills = Boundaries()
        outcome = rotate(made, case, case.source(made), kills, "run-1")
        assert outcome.result is (Result.ROLLED_BACK if case.fails else Result.ROTATED)
        return kills.passed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_killed_at_every_boundary_it_serves_and_the_same_command_ends_well(case):
    passed = boundaries(case)
    assert len(passed) > (18 if case.generate else 12)
    for at, name in enumerate(passed):
        with rig(A, B) as made:
            case.begin(made)
            source, before = case.source(made), made.old
            with pytest.raises(Killed):
                rotate(made, case, source, Boundaries(at), "run-1")
            without_boundaries(made)
            between = made.serves() if made.config().configured else ""
            assert between or case.cut_off, name
            again = made.rotate(source, made.dependencies(run_id="run-2", operator=made.keys))
            assert made.serves() == again.live_key_id, name
            if case.generate:
                committed = made.config().rotation.id == "run-2"
                assert_no_key_is_lost(made, again, between if committed else "", name)
            assert_ended_well(made, case, again, before, name)


def assert_ended_well(made, case, again, before, name):
    config = made.config()
    if again.result is Result.ROTATED:
        assert (config.key_id, config.rotation.state) == (again.to_key, "committed"), name
        assert config.key_id != before, name
    else:
        # The reference was live already, or had been rolled back: nothing is half.
        assert not case.generate, (name, again)
        assert again.exit_code is ExitCode.REFUSED, (name, again)
        assert config.rotation is None or config.rotation.state == "committed", name
        codes = {"unchanged-credential", "earlier-credential"}
        assert again.problems[0].code in codes, (name, again)


def assert_no_key_is_lost(made, again, between, name):
    """Every created key is live, was committed, is deleted, or is named to the reader."""
    named = " ".join(warning.summary for warning in again.warnings)
    for key_id in made.keys.ids(made.client):
        used = key_id in {made.old, between, again.to_key}
        assert used or key_id in named, (name, key_id, again.warnings)
    assert not {made.old, made.config().key_id} & set(made.keys.deleted)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_killed_twice_and_thrice(case):
    """Whoever goes on may be killed too."""
    passed = boundaries(case)
    for at in range(0, len(passed), 3):
        for then in range(1, 14, 4):
            with rig() as made:
                source = case.source(made)
                for number, boundary in enumerate((at, then, then)):
                    try:
                        rotate(made, case, source, Boundaries(boundary), f"run-{number}")
                    except Killed:
                        without_boundaries(made)
                    made.serves()
                    made.clock.pass_seconds(60)
                without_boundaries(made)
                again = made.rotate(source, made.dependencies(run_id="last", operator=made.keys))
                assert again.exit_code in {ExitCode.OK, ExitCode.REFUSED}, (at, then, again)
                assert made.serves() == again.live_key_id
                assert made.config().rotation.state == "committed"


def test_without_an_operator_the_key_that_is_left_is_named():
    passed = boundaries(CASES[1])
    recorded = passed.index(f"before POST {PATH}/config/verify")
    with rig() as made:
        with pytest.raises(Killed):
            rotate(made, CASES[1], made.generated(), Boundaries(recorded), "run-1")
        without_boundaries(made)
        left, new = made.config().rotation.to_key, made.successor()
        assert left
        outcome = made.rotate(lambda: new, made.dependencies(run_id="run-2"))
        assert outcome.result is Result.ROTATED
        assert [one.code for one in outcome.warnings] == ["key-left-at-skyflow"]
        assert left in outcome.warnings[0].summary
        assert left in made.keys.ids(made.client)


def test_a_key_that_nobody_recorded_is_named_and_never_deleted():
    passed = boundaries(CASES[1])
    created = passed.index("after create key")
    with rig() as made:
        with pytest.raises(Killed):
            rotate(made, CASES[1], made.generated(), Boundaries(created), "run-1")
        without_boundaries(made)
        (lost,) = set(made.keys.ids(made.client)) - {made.old}
        outcome = made.rotate(made.generated(), made.dependencies(run_id="run-2"))
        assert outcome.result is Result.ROTATED
        assert [one.code for one in outcome.warnings] == ["unrecorded-keys"]
        assert lost in outcome.warnings[0].summary
        assert made.keys.deleted == []


def test_a_rollback_that_is_killed_is_finished_and_never_goes_forward_again():
    def rotated(made):
        assert made.rotate(made.generated()).result is Result.ROTATED

    with rig() as made:
        rotated(made)
        kills = Boundaries()
        rollback_mount(JOB, None, kills.world(made))
        passed = kills.passed
    assert len(passed) > 8
    for at, name in enumerate(passed):
        with rig() as made:
            rotated(made)
            with pytest.raises(Killed):
                rollback_mount(JOB, None, Boundaries(at).world(made))
            without_boundaries(made)
            made.serves()
            again = rollback_mount(JOB, None, made.dependencies(run_id="run-2"))
            assert (again.result, again.exit_code) == (Result.ROLLED_BACK, ExitCode.OK), name
            assert made.serves() == made.old == again.live_key_id


def test_what_is_finished_for_another_run_is_told():
    passed = boundaries(CASES[0])
    written = passed.index(f"after POST {PATH}/config")
    with rig() as made:
        new = made.successor()
        with pytest.raises(Killed):
            rotate(made, CASES[0], lambda: new, Boundaries(written), "run-1")
        without_boundaries(made)
        # No source is needed for what is written already.
        again = rotate_mount(
            RotationJob("order", PATH, Options()), None, made.dependencies(run_id="run-2")
        )
        assert (again.result, again.from_key, again.to_key) == (
            Result.ROTATED, made.old, new.key_id,
        )  # fmt: skip
        assert [one.code for one in again.warnings] == ["resumed-rotation"]
        assert "run-1" in again.warnings[0].summary
        assert made.config().rotation.id == "run-1"
