"""What fails after the write is rolled back, and how to go on from there."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.faulty_emulator import Fault, FaultKind
from support.rotating import PATH, A, B, Requests, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import Result, RotationJob
from skyflowctl.rotation.rollback import rollback_mount
from skyflowctl.vault.failed_answers import error_for

pytestmark = pytest.mark.usefixtures("quick_keys")


def test_when_the_new_one_stops_minting():
    with rig(A, B) as made:
        new, transport = made.successor(), Requests(made.server)

        def after(number, method, path):
            if "credentials_json" in transport.seen[-1][2] and path == f"{PATH}/config":
                made.state.delete_key(made.client, new.key_id)

        transport.after = after
        outcome = made.rotate(lambda: new, made.dependencies(transport))
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.PARTIAL)
        assert made.serves() == outcome.live_key_id == made.old
        assert [step.name.value for step in outcome.steps][-3:] == [
            "verify-nodes",
            "rollback",
            "verify-nodes",
        ]
        assert made.config().rotation is None


def test_a_generated_key_is_discarded_then():
    with rig() as made:
        transport = Requests(made.server)

        def before(number, method, path):
            if path.endswith("/commit"):
                raise ValueError("broken")

        transport.before = before
        outcome = made.rotate(made.generated(), made.dependencies(transport))
        assert outcome.result is Result.ROLLED_BACK
        assert made.keys.deleted == [outcome.to_key]
        assert made.config().rotation is None
        assert made.serves() == made.old


def test_when_it_is_asked_to_stop_while_it_watches():
    with rig() as made:
        new, stop = made.successor(), []

        def sleep(seconds):
            made.clock.pass_seconds(seconds)
            stop.append(True)

        world = made.dependencies(sleep=sleep, stopping=lambda: bool(stop))
        outcome = made.rotate(lambda: new, world, watch=timedelta(minutes=2))
        assert outcome.result is Result.ROLLED_BACK
        assert outcome.problems[0].code == "stopped"
        assert made.serves() == made.old


def test_a_canary_that_fails():
    with rig() as made:
        new, transport = made.successor(), Requests(made.server)

        def before(number, method, path):
            if "/creds/" in path:
                raise ValueError("x")

        transport.before = before
        outcome = made.rotate(lambda: new, made.dependencies(transport), canaries=("r1",))
        assert outcome.result is Result.ROLLED_BACK
        assert made.serves() == made.old


def test_a_token_service_that_is_down_is_waited_for():
    with rig() as made:
        new, transport = made.successor(), Requests(made.server)
        fault = Fault(FaultKind.STATUS, status=503, message="down", count=0)

        def after(number, method, path):
            if "credentials_json" in transport.seen[-1][2] and path == f"{PATH}/config":
                made.state.faults.add(fault)

        pauses = []

        def sleep(seconds):
            made.clock.pass_seconds(seconds)
            pauses.append(seconds)
            asked = [path for _, path, _ in transport.seen]
            if asked.count(f"{PATH}/config/rollback") == 5:
                made.state.faults.clear()

        transport.after = after
        outcome = made.rotate(lambda: new, made.dependencies(transport, sleep=sleep))
        assert outcome.result is Result.ROLLED_BACK, outcome
        assert made.serves() == made.old


def test_one_that_stays_down_leaves_it_open():
    with rig() as made:
        new, transport = made.successor(), Requests(made.server)
        fault = Fault(FaultKind.STATUS, status=503, message="down", count=0)

        def after(number, method, path):
            if "credentials_json" in transport.seen[-1][2] and path == f"{PATH}/config":
                made.state.faults.add(fault)

        transport.after = after
        outcome = made.rotate(lambda: new, made.dependencies(transport))
        assert (outcome.result, outcome.exit_code) == (Result.FAILED, ExitCode.UNHEALTHY)
        assert outcome.problems[0].code == "rotation-left-open"
        assert not outcome.serves
        made.state.faults.clear()
        again = made.rotate(None, made.dependencies(run_id="run-2"))
        assert (again.result, again.to_key) == (Result.ROTATED, new.key_id)


def failing_once(made):
    """A transport on which the commit fails; what it raises is the cause of the rollback."""
    transport = Requests(made.server)

    def before(number, method, path):
        if path.endswith("/commit"):
            raise ValueError("broken")

    transport.before = before
    return transport


def test_the_way_forward_is_a_command_that_works():
    with rig() as made:
        new = made.successor()
        outcome = made.rotate(lambda: new, made.dependencies(failing_once(made)))
        assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.PARTIAL)
        said = outcome.problems[-1]
        assert (said.code, new.key_id in said.why) == ("rolled-back", True)
        assert "'skyflowctl rotate --rollback order --to 2'" in said.fix
        again = made.rotate(lambda: new, made.dependencies(run_id="run-2"))
        assert (again.exit_code, again.problems[0].code) == (
            ExitCode.REFUSED,
            "earlier-credential",
        )
        assert "'skyflowctl rotate --rollback order --to 2'" in again.problems[0].fix
        assert made.serves() == made.old
        forward = rollback_mount(RotationJob("order", PATH), 2, made.dependencies(run_id="run-3"))
        assert forward.result is Result.ROLLED_BACK
        assert forward.live_key_id == made.serves() == new.key_id


def test_a_created_key_is_gone_so_another_is_made():
    with rig() as made:
        outcome = made.rotate(made.generated(), made.dependencies(failing_once(made)))
        said = outcome.problems[-1]
        assert said.code == "rolled-back"
        assert "'skyflowctl rotate skyflow/order --generate'" in said.fix
        assert "--rollback" not in said.fix
        assert (
            made.rotate(made.generated(), made.dependencies(run_id="r2")).result is Result.ROTATED
        )


def test_a_node_that_is_behind_after_a_rollback_on_request_is_the_cause():
    with rig() as made:
        assert made.rotate(made.generated()).result is Result.ROTATED
        new, transport = made.keys.create_key(made.client), Requests(made.server)
        fields = {"rotation_id": "left", "rotation_keys": [made.old]}
        made.gateway.engine(PATH).write_config({**fields, "credentials_json": new.json})
        made.clock.pass_seconds(60)

        def before(number, method, path):
            done = any(seen.endswith("/rollback") for _, seen, _ in transport.seen)
            if path.endswith("/verify") and done:
                raise error_for(500, ("internal error",), method=method, path=path)

        transport.before = before
        world = made.dependencies(transport, run_id="back")
        outcome = rollback_mount(RotationJob("order", PATH), None, world)
        assert (outcome.result, outcome.exit_code) == (Result.FAILED, ExitCode.PARTIAL)
        assert [one.code for one in outcome.problems] == ["node-not-proved"]
        assert [one.code for one in outcome.warnings] == ["key-left-at-skyflow"]
        assert new.key_id in made.keys.ids(made.client)
