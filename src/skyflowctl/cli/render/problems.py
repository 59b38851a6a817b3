"""Problems as people read them: what happened, why, how to fix it."""

from collections.abc import Sequence

from skyflowctl.cli.render.terminal import Styled, Terminal
from skyflowctl.errors import Problem


def show_problems(problems: Sequence[Problem], terminal: Terminal) -> None:
    """Write each problem in three lines, and a count when there are several."""
    for problem in problems:
        _show(problem, "error", "bold red", terminal)
    if len(problems) > 1:
        terminal.alert(Styled(f"{len(problems)} problems", "bold"))


def show_warnings(warnings: Sequence[Problem], terminal: Terminal) -> None:
    """Write warnings in the same form; nothing with ``--quiet``."""
    if not terminal.quiet:
        for warning in warnings:
            _show(warning, "warning", "bold yellow", terminal)


def _show(problem: Problem, word: str, style: str, terminal: Terminal) -> None:
    place = str(problem.where) if problem.where else ""
    prefix = f"{place}: " if place else ""
    terminal.alert(prefix, Styled(f"{word}:", style), f" {problem.summary}")
    if problem.why:
        terminal.alert(Styled("because:", "dim"), f" {problem.why}")
    if problem.fix:
        terminal.alert(Styled("fix:", "green"), f" {problem.fix}")
