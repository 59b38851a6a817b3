"""What ``plugin register`` says before arguments of mounts are lost."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from skyflowctl.cli.commands.plugin.question import confirm_registration
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.runner import CommandRun
from skyflowctl.clock import SystemClock
from skyflowctl.errors import RefusedError
from skyflowctl.operations.plugins import EntryChange, LostArguments, Question, Registration

ARGS = ("--only-host=h:1", "--shared")
WANTED = Registration(
    "other", "v1.0.1", "f", "ab" * 32, ("--shared", "--allow-host=h:2"), ("A=b c",)
)
LOST = LostArguments("v1.0.0", ARGS, ("--only-host=h:1",), ("skyflow/order", "skyflow/pay"))


class RecordingRun(CommandRun):
    """A run that keeps what it says."""

    def __init__(self):
        super().__init__("id", "plugin register", Terminal(), SystemClock(), json=True)
        self.said: list = []

    def notice(self, text):
        self.said.append(text)

    def warn(self, problem):
        self.said.append(problem)


@pytest.fixture
def run():
    return RecordingRun()


def confirm(run, *, yes, question=Question(lost=(LOST,))):  # noqa: B008 - frozen
    confirm_registration(question, Path("/p l/f"), WANTED, run, yes=yes, no_input=True)


def test_the_refusal_shows_them_and_names_the_command_that_keeps_all(run):
    with pytest.raises(RefusedError) as caught:
        confirm(run, yes=False)
    assert run.said == ["2 mounts run v1.0.0 with --only-host=h:1 --shared"]
    (problem,) = caught.value.problems
    assert "v1.0.1 has not --only-host=h:1, which 2 mounts run v1.0.0 with" in problem.why
    command = shlex.split(problem.fix.partition(";")[0])
    assert command[:4] == ["skyflowctl", "plugin", "register", "/p l/f"]
    assert command[4:] == [
        *("--name", "other", "--shared", "--allow-host=h:2", "--only-host=h:1"),
        *("--env", "A=b c"),
    ]


def test_c2_the_names_of_a_lost_environment_are_told_but_no_values(run):
    lost = LostArguments("v1.0.0", ("--env-names=A,B",), ("--env-names=A,B",), ("skyflow/order",))
    with pytest.raises(RefusedError) as caught:
        confirm(run, yes=False, question=Question(lost=(lost,)))
    (problem,) = caught.value.problems
    assert "v1.0.1 has not --env A --env B, which 1 mount runs v1.0.0 with" in problem.why
    command, _, more = problem.fix.partition("; ")
    assert "--env-names" not in command
    assert more == "add --env A=… --env B=…: the server does not return the values"


def test_c2_an_unknown_environment_is_a_warning_and_no_question(run):
    confirm(run, yes=False, question=Question(unknown=("v0.9.0",)))
    (warning,) = run.said
    assert (warning.code, "v0.9.0" in warning.summary) == ("environment-unknown", True)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("A B (values unknown)", "A", True),
        ("unknown", "", True),
        ("A (values unknown)", "A B", False),
        ("", "A", False),
    ],
)
def test_c2_a_refusal_says_what_keeps_the_environment(run, before, after, told):
    changes = (EntryChange("env", before, after), EntryChange("args", "--shared", ""))
    with pytest.raises(RefusedError) as caught:
        confirm(run, yes=False, question=Question(changes))
    (problem,) = caught.value.problems
    assert ("--env NAME=VALUE" in problem.fix) is told
    assert "--yes" in problem.fix


def test_yes_drops_them_with_a_warning(run):
    confirm(run, yes=True)
    warning = run.said[-1]
    assert (warning.code, "to keep them: skyflowctl" in warning.fix) == ("arguments-lost", True)
