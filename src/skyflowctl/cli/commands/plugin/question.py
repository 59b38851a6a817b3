"""The confirmation of ``plugin register`` before mounts lose arguments or their engine."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import Problem, RefusedError
from skyflowctl.operations.plugins import (
    LostArguments,
    Question,
    Registration,
    ReplacedEngine,
)
from skyflowctl.plugin.arguments import noted_environment, without_note
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
    """Show the changes and ask for confirmation.

    Raises:
        RefusedError: not confirmed; if arguments would be lost, with a command that keeps them.
    """
    for version in question.unknown:
        run.warn(_unknown_problem(wanted.name, version))
    if not (question.changes or question.replaced or question.lost):
        return
    text = f"{wanted.name} {wanted.version} {_what_changes(run, question)}"
    try:
        run.confirm(text, yes=yes, no_input=no_input)
    except RefusedError as error:
        raise _with_way(error, launcher, wanted, question) from None
    for one in question.lost:
        run.warn(_lost_problem(one, launcher, wanted))


def _what_changes(run: CommandRun, question: Question) -> str:
    """Show what a registration replaces, and return the question about it."""
    for one in question.changes:
        run.notice(f"{one.field}: {one.before or 'none'} -> {one.after or 'none'}")
    for other in question.replaced:
        run.notice(_replaced_line(other))
    for lost in question.lost:
        run.notice(f"{_who_runs(lost)} with {' '.join(lost.args)}")
    if question.replaced:
        return f"is another engine on {counted(len(question.replaced), 'mount')}. Replace it?"
    if any(one.field == "args" for one in question.changes):
        return "has other arguments. Replace them?"
    if question.changes:
        return "has an environment that may get lost. Replace it?"
    gone = [_flag(arg) for lost in question.lost for arg in lost.lost]
    return f"would not have {' '.join(dict.fromkeys(gone))}. Register it without?"


def _lost_env(question: Question) -> str:
    """Return the entry's old environment, if it may be lost; empty: it may not."""
    for one in question.changes:
        kept = {*one.after.split(), "(values", "unknown)"}
        if one.field == "env" and not kept.issuperset(one.before.split()):
            return one.before
    return ""


def _flag(arg: str) -> str:
    """Return an argument as a flag of register; the note of an environment as its flags."""
    names = noted_environment([arg])
    return arg if names is None else " ".join(f"--env {name}" for name in sorted(names))


def _unknown_problem(name: str, version: str) -> Problem:
    return Problem(
        "environment-unknown",
        f"what {name} {version} is registered with is not known in full",
        "servers do not return the --env of an entry, nor its arguments once its file is missing",
        "if it was registered with --env or arguments that are still needed, register this "
        "file with the same",
    )


def _who_runs(lost: LostArguments) -> str:
    mounts = counted(len(lost.mounts), "mount")
    return f"{mounts} {'runs' if len(lost.mounts) == 1 else 'run'} {lost.version}"


def _lost_problem(lost: LostArguments, launcher: Path, wanted: Registration) -> Problem:
    return Problem(
        "arguments-lost",
        f"{wanted.version} has not {' '.join(map(_flag, lost.lost))}, which {_who_runs(lost)} with",
        "mounts that are upgraded to it lose what these arguments allow",
        f"to keep them: {_keeping(launcher, wanted, [lost])}",
    )


def _keeping(launcher: Path, wanted: Registration, lost: Sequence[LostArguments]) -> str:
    """Return the command that registers the same file with all arguments kept."""
    kept = without_note([*wanted.args, *(arg for one in lost for arg in one.lost)])
    named = [] if wanted.name == "skyflow" else ["--name", wanted.name]
    pairs = [text for pair in wanted.env for text in ("--env", pair)]
    words = ["skyflowctl", "plugin", "register", str(launcher), *named, *dict.fromkeys(kept)]
    return shlex.join([*words, *pairs]) + _missing_env(lost)


def _missing_env(lost: Sequence[LostArguments]) -> str:
    """Return what to add to a command by hand, as no server returns the values; or ""."""
    names = sorted({name for one in lost for name in noted_environment(one.lost) or ()})
    flags = " ".join(f"--env {name}=…" for name in names)
    return f"; add {flags}: the server does not return the values" if names else ""


def _with_way(
    error: RefusedError, launcher: Path, wanted: Registration, question: Question
) -> RefusedError:
    """Return the refusal with a command that keeps the arguments or environment, if any."""
    problem = error.problems[0]
    before = _lost_env(question)
    if not question.lost and before:
        why = f"the entry's environment is {before}; with this command it would differ"
        fix = f"add every --env NAME=VALUE that it needs: servers do not return them; {problem.fix}"
        return RefusedError(problem.summary, why=why, fix=fix, code=problem.code)
    if not question.lost:
        return error
    lost = [_lost_problem(one, launcher, wanted) for one in question.lost]
    fix = _keeping(launcher, wanted, question.lost)
    return RefusedError(problem.summary, why=lost[0].summary, fix=fix, code=problem.code)


def _replaced_line(one: ReplacedEngine) -> str:
    parts = [f"{one.path} runs another engine; from its next reload on it runs this one"]
    if one.refused:
        parts.append(f"roles that it refuses: {', '.join(one.refused)}")
    return "; ".join([*parts, *([one.note] if one.note else [])])
