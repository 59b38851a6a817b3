"""The token service fails while a rotation goes on: rolled back or refused, never half."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cluster import wait_until
from support.faulty_emulator import Fault, FaultKind, FaultyEmulatorControl
from support.rotation_bench import Bench
from support.rotation_load import emulator_of, with_faults
from support.stack import BIN, Stack, running_stack

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.events import RotationEvent, StepStarted
from skyflowctl.rotation.model import Result, StepName

pytestmark = pytest.mark.slow

PATH = "skyflow/payment"
DEADLINE = 0.2


def faults(count: int) -> dict[str, Fault]:
    """Every way in which it can fail, for so many exchanges; 0: until it is mended."""
    return {
        "down": Fault(FaultKind.RESET, count),
        "slow": Fault(FaultKind.DELAY, count, seconds=DEADLINE * 2),
        "silent": Fault(FaultKind.HANG, count),
        "429": Fault(FaultKind.STATUS, count, status=429, message="too many requests"),
        "500": Fault(FaultKind.STATUS, count, status=500, message="internal error"),
    }


WAYS = tuple(faults(0))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, deadline=DEADLINE)
    yield made
    made.close()


@pytest.mark.parametrize("way", WAYS)
def test_before_the_write_it_is_refused_and_nothing_was_written(bench: Bench, way: str) -> None:
    before, new = bench.state(), bench.new_credential()
    outcome = bench.rotate(new, bench.faults_at(StepName.PROVE, faults(0)[way]))
    bench.service.state.faults.clear()
    assert outcome.result is Result.REFUSED
    assert bench.state() == before
    assert bench.mints() == {before[0].key_id}
    again = bench.rotate(new)
    assert (again.result, again.exit_code) == (Result.ROTATED, ExitCode.OK), again.problems
    assert bench.mints() == {new["keyID"]}


@pytest.mark.parametrize("way", WAYS)
def test_while_the_engine_tries_the_new_one_it_is_not_written(bench: Bench, way: str) -> None:
    """The engine itself mints once more before it takes a credential."""
    before, new = bench.state(), bench.new_credential()
    outcome = bench.rotate(new, bench.faults_at(StepName.WRITE, faults(0)[way]))
    bench.service.state.faults.clear()
    assert outcome.result in {Result.REFUSED, Result.FAILED}
    assert (bench.state()[0].key_id, bench.state()[1]) == (before[0].key_id, before[1])
    assert bench.mints() == {before[0].key_id}
    assert bench.rotate(new).result is Result.ROTATED


@pytest.mark.parametrize("way", WAYS)
def test_after_the_write_a_lasting_failure_ends_in_a_way_that_the_next_run_finishes(
    bench: Bench, way: str
) -> None:
    before, new = bench.state(), bench.new_credential()
    outcome = bench.rotate(new, bench.faults_at(StepName.VERIFY_NODES, faults(0)[way]))
    assert outcome.result is Result.FAILED, "the way back needs the token service too"
    bench.service.state.faults.clear()
    live = bench.state()[0]
    assert live.rotation is not None
    assert (live.rotation.state, live.rotation.to_key) == ("open", new["keyID"])
    assert bench.mints() == {new["keyID"]}
    again = bench.rotate(new)
    assert (again.result, again.live_key_id) == (Result.ROTATED, new["keyID"]), again.problems
    live = bench.state()[0]
    assert live.rotation is not None
    assert live.rotation.state == "committed"
    assert live.credential_version == before[0].credential_version + 1


@pytest.mark.parametrize("way", WAYS)
def test_after_the_write_a_passing_failure_is_waited_for_or_rolled_back(
    bench: Bench, way: str
) -> None:
    before, new = bench.state(), bench.new_credential()
    outcome = bench.rotate(new, bench.faults_at(StepName.VERIFY_NODES, faults(6)[way]))
    bench.service.state.faults.clear()
    assert outcome.result in {Result.ROTATED, Result.ROLLED_BACK}, outcome.problems
    rotated = outcome.result is Result.ROTATED
    live = new["keyID"] if rotated else before[0].key_id
    assert outcome.exit_code == (ExitCode.OK if rotated else ExitCode.PARTIAL)
    config = bench.state()[0]
    assert (outcome.live_key_id, config.key_id, bench.mints()) == (live, live, {live})
    assert config.rotation is None or config.rotation.state == "committed"


def test_a_new_key_that_is_refused_after_the_write_is_rolled_back(bench: Bench) -> None:
    """Skyflow forgets the key just when it is live: the one from before is put back."""
    before, new = bench.state(), bench.new_credential()

    def forget(event: RotationEvent) -> None:
        if isinstance(event, StepStarted) and event.name is StepName.VERIFY_NODES:
            keys = bench.service.state.accounts[bench.account].keys
            if new["keyID"] in keys:
                bench.service.state.delete_key(bench.account, new["keyID"])

    outcome = bench.rotate(new, forget)
    assert (outcome.result, outcome.exit_code) == (Result.ROLLED_BACK, ExitCode.PARTIAL)
    assert bench.mints() == {before[0].key_id} == {outcome.live_key_id}


# The same by a real process, while it watches ------------------------------------------


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running, with_faults(running):
        yield running


def config(stack: Stack) -> dict[str, Any]:
    return stack.api("GET", f"{PATH}/config")["data"]


def while_watching(
    stack: Stack, act: Callable[[FaultyEmulatorControl, str], None]
) -> tuple[int, dict[str, Any]]:
    """Rotate payment by a real process; once it has written, act, with the new key's id."""
    control, before = emulator_of(stack), config(stack)["key_id"]
    words = ("rotate", "payment", "--generate", "-y", "--watch", "5s", "-o", "json")
    running = subprocess.Popen(
        [str(BIN / "skyflowctl"), *words],
        env={**stack.environ, **stack.exports},
        cwd=stack.folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: config(stack)["key_id"] != before, "nothing was written", 30)
        act(control, config(stack)["key_id"])
        out, _ = running.communicate(timeout=90)
    finally:
        running.kill()
        running.communicate()
    (row,) = json.loads(out)["data"]["mounts"]
    return running.returncode, row


@pytest.mark.real_server
def test_a_failure_that_passes_is_waited_for(stack: Stack) -> None:
    failing = faults(8)["500"]
    code, row = while_watching(stack, lambda control, _: control.add_fault(failing))
    assert emulator_of(stack).state()["faults"] == [], "the rotation has met every one"
    assert (code, row["result"]) == (0, "rotated"), row
    live = config(stack)
    assert (live["key_id"], live["rotation"]["state"]) == (row["to"], "committed")


@pytest.mark.real_server
def test_a_key_that_skyflow_forgets_is_rolled_back_and_the_next_run_is_well(stack: Stack) -> None:
    before = config(stack)
    account = before["client_id"]
    code, row = while_watching(stack, lambda control, key: control.delete_key(account, key))
    assert (code, row["result"], row["live_key_id"]) == (3, "rolled_back", before["key_id"]), row
    after = config(stack)
    assert (after["key_id"], after["rotation"]) == (before["key_id"], None)
    stack.cli("rotate", "payment", "--generate", "-y", exported=True)


@pytest.mark.real_server
@pytest.mark.parametrize("way", ["down", "429"])
def test_a_service_that_fails_before_the_write_is_a_refusal(stack: Stack, way: str) -> None:
    """Refused, with the exit code that says that the mount gives no tokens meanwhile."""
    before, control = config(stack), emulator_of(stack)
    file = stack.folder / "next.json"
    file.write_text(control.create_key(before["client_id"]).reveal())
    file.chmod(0o600)
    words = ("rotate", "payment", "--credentials", "file:next.json", "-y")
    control.add_fault(faults(0)[way])
    try:
        (row,) = stack.json(*words, check=6)["data"]["mounts"]
    finally:
        control.reset_faults()
    assert (row["result"], row["live_key_id"]) == ("refused", before["key_id"])
    assert config(stack) == before
    stack.cli(*words, exported=True)
