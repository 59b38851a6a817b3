"""A rotation that is being watched is left alone by the same command on another machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.rotation_load import emulator_of
from support.stack import Stack, running_stack

PATH = "skyflow/payment"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running:
        yield running


@pytest.mark.real_server
@pytest.mark.slow
def test_a_watch_is_left_alone(stack: Stack) -> None:
    control, account = emulator_of(stack), look(stack)["client_id"]
    for name in ("one", "two"):
        file = stack.folder / f"{name}.json"
        file.write_text(control.create_key(account).reveal())
        file.chmod(0o600)
    new = json.loads((stack.folder / "one.json").read_text())["keyID"]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(rotate, stack, "one", "--watch", "25s", code=0)
        while look(stack)["key_id"] != new:
            assert not first.done(), first.result()
            time.sleep(0.2)
        # Long enough that without a sign of life it would be thought dead.
        time.sleep(11)
        said = rotate(stack, "two", code=5)
        assert "another rotation is at work" in said
        assert not first.done()
        first.result()
    config = look(stack)
    assert (config["key_id"], config["rotation"]["state"]) == (new, "committed")


def look(stack: Stack) -> dict:
    return stack.api("GET", f"{PATH}/config")["data"]


def rotate(stack: Stack, name: str, *more: str, code: int) -> str:
    """Rotate with a state folder of its own, as on a machine of its own; all that was printed."""
    words = ("rotate", "payment", "--credentials", f"file:{name}.json", "-y", *more)
    env = {"XDG_STATE_HOME": str(stack.folder / f"state-{name}")}
    done = stack.cli(*words, check=code, exported=True, env=env)
    return done.stdout + done.stderr
