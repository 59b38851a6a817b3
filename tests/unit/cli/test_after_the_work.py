"""What a run says whose result reaches nobody, and how problems fit a terminal."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from skyflowctl.cli.commands.rotate.view import outcome_json, show_outcomes
from skyflowctl.cli.commands.rotate.work import _done
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.problems import show_problems
from skyflowctl.cli.runner import CommandRun, _write_out, describe_failure
from skyflowctl.clock import SystemClock
from skyflowctl.credentials.lint import CredentialLinter
from skyflowctl.credentials.resolve import ReferenceResolver
from skyflowctl.errors import Problem
from skyflowctl.manifest.model import RotationRule
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.rotate.key_provider import key_provider
from skyflowctl.operations.rotate.request import RotateRequest, Verb
from skyflowctl.rotation.model import MountOutcome, Result

ROTATED = MountOutcome("payment", "skyflow/payment", Result.ROTATED, "k1", "k2", "k2")
REFUSED = MountOutcome("order", "skyflow/order", Result.REFUSED)


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


class Screen(io.StringIO):
    """A person's terminal."""

    def isatty(self):
        return True


def test_what_was_done_is_named_and_nothing_else():
    told = _done([ROTATED, REFUSED])
    assert "payment rotated" in told
    assert "order" not in told
    assert "config history payment" in told
    assert _done([REFUSED]) == ""


@pytest.mark.parametrize(("done", "word"), [("look there", "look there"), ("", "run it again")])
def test_output_that_cannot_be_written_asks_for_no_second_rotation(done, word):
    terminal = Terminal(out=Full(), err=io.StringIO())
    run = CommandRun("r1", "rotate", terminal, SystemClock(), json=True, done=done)
    assert _write_out(run, CommandResult({}), None) == 1
    assert word in terminal.err.getvalue()
    assert ("run it again" in terminal.err.getvalue()) is not bool(done)


def test_nor_does_a_signal_that_came_after_the_work():
    terminal = Terminal(out=io.StringIO(), err=io.StringIO())
    told = describe_failure(KeyboardInterrupt(), terminal, "look there")
    assert (told.exit_code, told.problems[0].fix) == (130, "look there")
    assert (
        "run the same command again"
        in describe_failure(KeyboardInterrupt(), terminal).problems[0].fix
    )


def test_problems_are_broken_at_spaces_where_a_terminal_ends(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((60, 24)))
    words = "a cause that goes on for a good while and says a lot of what there is to know"
    terminal = Terminal(no_color=True, out=io.StringIO(), err=Screen())
    show_problems([Problem("code", "it failed", words, words)], terminal)
    lines = terminal.err.getvalue().splitlines()
    assert max(map(len, lines)) <= 62
    assert " ".join(terminal.err.getvalue().split()) == (
        f"error: it failed because: {words} fix: {words}"
    )
    piped = Terminal(no_color=True, out=io.StringIO(), err=io.StringIO())
    show_problems([Problem("code", "it failed", words, words)], piped)
    assert len(piped.err.getvalue().splitlines()) == 3


def test_several_mounts_fit_80_columns(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    until = "2027-11-22T00:00:00.123456Z"
    key = "b35157b4b1de5138ff8851cec92ccdcd"
    outcomes = [
        MountOutcome(name, f"skyflow/{name}", word, key, key[::-1], key, (), until)
        for name, word in (("order-returns", Result.ROTATED), ("payment", Result.ROLLED_BACK))
    ]
    terminal = Terminal(no_color=True, out=Screen(), err=io.StringIO())
    data = {"mounts": [outcome_json(one, "", timedelta()) for one in outcomes]}
    show_outcomes(data, terminal)
    lines = terminal.out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "2027-11-22T00:00:00Z" in lines[1]


@pytest.mark.parametrize(("own", "seconds"), [(True, 0), (False, 2)])
def test_a_margin_of_nothing_counts_as_set_but_not_on_a_dev_stack(own, seconds):
    rule = RotationRule(retire_margin=timedelta())
    provider = replace(
        key_provider(
            RotateRequest(Verb.RETIRE),
            None,
            CredentialLinter(frozenset(), SystemClock()),
            ReferenceResolver(),
        ),
        margin=timedelta(seconds=2),
        dev=not own,
    )
    named = MountRef("payment", "skyflow/payment", rule)
    assert provider.margin_of(named) == timedelta(seconds=seconds)
    assert provider.job_of(named).options.retire_margin == timedelta(seconds=seconds)
    assert provider.margin_of(MountRef("a", "b")) == timedelta(seconds=2)
