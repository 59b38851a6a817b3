"""Ctrl-C while modules are imported: reported like any other, whatever the instant."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.cli import checked_envelope
from support.stack import clean_environ

from skyflowctl.cli.console import Terminal
from skyflowctl.cli.runner import Terminated, describe_failure

PROBE = """
import importlib.abc, os, signal, sys

at, times, *args = sys.argv[1:]


class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == at:
            sys.meta_path.remove(self)
            for _ in range(int(times)):
                os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Interrupting())
sys.argv = ["skyflowctl", *args]
from skyflowctl.cli.main import start
start()
"""
INSTANTS = [
    "skyflowctl.cli.streams",
    "typer",
    "skyflowctl.cli.runner",
    "skyflowctl.cli.commands.status",
    "skyflowctl.vault.contexts",
    "skyflowctl.vault.gateway",
]


def interrupted(at: str, *args: str, times: int = 1) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", PROBE, at, str(times), *args]
    env = {**clean_environ(), "BAO_ADDR": "http://127.0.0.1:9", "BAO_TOKEN": "t"}
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("at", INSTANTS)
def test_every_instant_says_the_same(at, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = interrupted(at, "status")
    first, because, fix = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (130, "")
    assert first == "error: the command was interrupted"
    assert because == "because: SIGINT arrived"
    assert fix.startswith("fix: run the same command again")


@pytest.mark.parametrize("at", INSTANTS)
def test_json_is_one_envelope(at, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = interrupted(at, "status", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.returncode, whole["command"]) == (130, "status")
    assert [one["code"] for one in whole["errors"]] == ["interrupted"]


def test_a_second_one_ends_the_process_at_once():
    assert interrupted("typer", "status", times=2).returncode == -2


class _Interrupted:
    def __init__(self, signal: type[BaseException]) -> None:
        self.signal = signal

    def __set_name__(self, owner: type, name: str) -> None:
        raise self.signal


@pytest.mark.parametrize(
    ("signal", "code", "word"),
    [(KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "terminated")],
)
def test_one_that_arrives_while_a_class_is_made_is_no_bug(signal, code, word):
    with pytest.raises((RuntimeError, signal)) as caught:
        type("Made", (), {"field": _Interrupted(signal)})
    result = describe_failure(caught.value, Terminal())
    assert (result.exit_code, result.problems[0].code) == (code, word)


def test_an_error_without_a_signal_is_still_a_bug():
    error = RuntimeError("x")
    error.__cause__ = ValueError("y")
    assert describe_failure(error, Terminal()).problems[0].code == "unexpected"
