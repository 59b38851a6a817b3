"""Each command that a rotation prints for afterwards works as it stands."""

from __future__ import annotations

import dataclasses
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from support.cli import checked_data, invoke
from support.gateways import identity, memory_rig
from support.rotate_cli import MANIFEST, further_key, reach

from skyflowctl.cli.commands.rotate.next_commands import NextCommands
from skyflowctl.cli.commands.rotate.options import CareOptions, OperatorOptions, RotateOptions
from skyflowctl.cli.commands.rotate.request import read_request
from skyflowctl.cli.context.manifests import ChosenMounts
from skyflowctl.clock import SystemClock
from skyflowctl.rotation.model import MountOutcome, Result, Step, StepName

CHOSEN = ChosenMounts((), "skyflow", "skyflow", None)
OPERATOR = ("--operator-token", "env:X", "--account-id", "a1")


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(autouse=True)
def skyflow(rig, monkeypatch, tmp_path):
    return reach(rig, monkeypatch, tmp_path)


@pytest.fixture
def mount(rig):
    """A mount that runs on a first key; its path."""
    return rig.configured("reader")


@pytest.fixture
def key(rig, mount, tmp_path):
    """``key(name)`` writes a further key of the mount's account to a file; its id."""
    client_id = rig.gateway.engine(mount).config().client_id

    def made(name="key.json"):
        text = further_key(rig, client_id)
        (tmp_path / name).write_text(text.reveal())
        return identity(text)[1]

    return made


def printed(*words):
    """Rotate, and return the commands that the text has, by their heading."""
    done = invoke("rotate", *words, "-y")
    assert done.exit_code == 0, done.output
    pairs = [line.split(None, 1) for line in done.stdout.splitlines()]
    return {name: line for name, line in (one for one in pairs if one[1:]) if name in NAMES}


NAMES = ("next", "back")


def run(line, *more):
    """Run a command as it was printed; ``more`` answers its question."""
    program, *words = shlex.split(line)
    assert program == "skyflowctl"
    done = invoke(*words, *more, "-o", "json")
    assert done.exit_code == 0, done.output
    return checked_data(done.stdout)["mounts"][0]


@pytest.fixture
def later(monkeypatch):
    """Two hours later, when the old tokens have ended."""

    def now(_self):
        return datetime.now(UTC) + timedelta(hours=2)

    return lambda: monkeypatch.setattr(SystemClock, "now", now)


def test_back_after_a_revoked_key_was_allowed_names_that_key(rig, mount, key):
    first = key("first.json")
    printed(mount, "--credentials", "first.json")
    rig.gateway.engine(mount).cut_off()
    printed(mount, "--credentials", "first.json", f"--allow-revoked-key={first}")
    key("second.json")
    back = printed(mount, "--credentials", "second.json")["back"]
    assert f"--allow-revoked-key={first}" in back
    assert run(back)["live_key_id"] == first


def test_back_after_a_key_was_made_for_an_allowed_one_names_that_key(rig, mount, key):
    first = key("first.json")
    printed(mount, "--credentials", "first.json")
    rig.gateway.engine(mount).cut_off()
    printed(mount, "--credentials", "first.json", f"--allow-revoked-key={first}")
    back = printed(mount, "--generate", *OPERATOR)["back"]
    assert run(back)["live_key_id"] == first


def test_back_to_a_key_that_was_never_revoked_allows_nothing(mount, key):
    key()
    back = printed(mount, "--credentials", "key.json")["back"]
    assert back == f"skyflowctl rotate --rollback {mount}"
    run(back)


@pytest.mark.parametrize("operator", [(), OPERATOR])
def test_next_retires_the_old_key_with_an_operator_and_without(mount, key, later, operator):
    key()
    line = printed(mount, "--credentials", "key.json", *operator)["next"]
    assert ("--kept-copy-only" in line) == (not operator)
    later()
    assert run(line, "-y")["result"] == "retired"


def test_without_an_operator_it_says_what_is_left_to_do(rig, mount, key):
    old = rig.gateway.engine(mount).config().key_id
    key()
    done = invoke("rotate", mount, "--credentials", "key.json", "-y")
    assert f"delete key {old} in Skyflow Studio" in done.stdout


def test_the_manifest_that_was_named_is_named_again(mount, key, tmp_path, later):
    (tmp_path / "elsewhere.yaml").write_text(MANIFEST % ("named", mount))
    key()
    lines = printed("named", "-f", "elsewhere.yaml")
    assert all("-f elsewhere.yaml" in line for line in lines.values())
    run(lines["back"])
    key("other.json")
    lines = printed("named", "--credentials", "other.json", "-f", "elsewhere.yaml", *OPERATOR)
    later()
    assert run(lines["next"], "-y")["result"] == "retired"


def test_json_has_the_same_commands(mount, key):
    key()
    done = invoke("rotate", mount, "--credentials", "key.json", "-y", "-o", "json")
    (one,) = checked_data(done.stdout)["mounts"]
    assert one["back"] == f"skyflowctl rotate --rollback {mount}"
    assert one["next"] == f"skyflowctl rotate --retire {mount} --wait --kept-copy-only"
    assert run(one["back"])["back"] == ""


def test_what_is_retired_already_has_no_way_back():
    parsed = read_request(["order"], RotateOptions(), CareOptions(), OperatorOptions())
    commands = NextCommands(parsed, CHOSEN)
    steps = [Step(name, 0.0, ok=True) for name in (StepName.WRITE, StepName.COMMIT)]
    done = MountOutcome("order", "skyflow/order", Result.ROTATED, "a", "b", "b", tuple(steps))
    assert commands.retire(done)
    assert commands.back(done) == "skyflowctl rotate --rollback order"
    steps.append(Step(StepName.DELETE_OLD_KEY, 0.0, ok=True))
    done = dataclasses.replace(done, steps=tuple(steps))
    assert (commands.retire(done), commands.back(done)) == ("", "")
