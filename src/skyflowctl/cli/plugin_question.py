"""What ``plugin register`` asks before it takes arguments or an engine away from mounts."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from skyflowctl.cli import wiring
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import Problem, RefusedError
from skyflowctl.operations.plugins import (
    LostArguments,
    Question,
    Registration,
    ReplacedEngine,
)
from skyflowctl.text import counted


def confirm_registration(
    question: Question,
    launcher: Path,
    wanted: Registration,
    run: CommandRun,
    *,
    yes: bool,
    no_input: bool,
) -> None:
    """Show what changes and have it confirmed.

    Raises:
        RefusedError: it was not; where arguments would be lost, with the command that keeps them.
    """
    text = f"{wanted.name} {wanted.version} {_what_changes(run, question)}"
    try:
        wiring.confirm(text, run, yes=yes, no_input=no_input)
    except RefusedError as error:
        raise _with_way(error, launcher, wanted, question) from None
    for one in question.lost:
        run.warn(_lost_problem(one, launcher, wanted))


def _what_changes(run: CommandRun, question: Question) -> str:
    """Name what a registration replaces, and return the question about it."""
    for one in question.changes:
        run.notice(f"{one.field}: {one.before or 'none'} -> {one.after or 'none'}")
    for other in question.replaced:
        run.notice(_replaced_line(other))
    for lost in question.lost:
        run.notice(f"{_who_runs(lost)} with {' '.join(lost.args)}")
    if question.replaced:
        return f"is another engine on {counted(len(question.replaced), 'mount')}. Replace it?"
    if question.changes:
        return "has other arguments. Replace them?"
    gone = [arg for lost in question.lost for arg in lost.lost]
    return f"would not have {' '.join(dict.fromkeys(gone))}. Register it without?"


def _who_runs(lost: LostArguments) -> str:
    mounts = counted(len(lost.mounts), "mount")
    return f"{mounts} {'runs' if len(lost.mounts) == 1 else 'run'} {lost.version}"


def _lost_problem(lost: LostArguments, launcher: Path, wanted: Registration) -> Problem:
    return Problem(
        "arguments-lost",
        f"{wanted.version} has not {' '.join(lost.lost)}, which {_who_runs(lost)} with",
        "mounts that are upgraded to it are no longer allowed what these arguments allow",
        f"to keep them: {_keeping(launcher, wanted, [lost])}",
    )


def _keeping(launcher: Path, wanted: Registration, lost: Sequence[LostArguments]) -> str:
    """Return the command that registers the same file with all arguments kept."""
    kept = [*wanted.args, *(arg for one in lost for arg in one.lost)]
    named = [] if wanted.name == "skyflow" else ["--name", wanted.name]
    pairs = [text for pair in wanted.env for text in ("--env", pair)]
    words = ["skyflowctl", "plugin", "register", str(launcher), *named, *dict.fromkeys(kept)]
    return shlex.join([*words, *pairs])


def _with_way(
    error: RefusedError, launcher: Path, wanted: Registration, question: Question
) -> RefusedError:
    """Return the refusal with the command that keeps the arguments, where some are lost."""
    if not question.lost:
        return error
    lost = [_lost_problem(one, launcher, wanted) for one in question.lost]
    env = "; the server tells no --env of a version that runs: add those as well"
    problem = error.problems[0]
    fix = f"{_keeping(launcher, wanted, question.lost)}{env}"
    return RefusedError(problem.summary, why=lost[0].summary, fix=fix, code=problem.code)


def _replaced_line(one: ReplacedEngine) -> str:
    parts = [f"{one.path} runs another engine; from its next reload on it runs this one"]
    if one.refused:
        parts.append(f"roles that it refuses: {', '.join(one.refused)}")
    return "; ".join([*parts, *([one.note] if one.note else [])])
