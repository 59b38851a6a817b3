"""Problems as people read them: what happened, why, how to fix it."""

from collections import Counter
from collections.abc import Sequence

from skyflowctl.cli.render.terminal import Styled, Terminal
from skyflowctl.errors import Problem


def show_problems(problems: Sequence[Problem], terminal: Terminal) -> None:
    """Write each problem once, in three lines, and a count when there are several."""
    for problem, times in Counter(problems).items():
        _show(problem, "error", "bold red", terminal, times)
    if len(problems) > 1:
        terminal.alert(Styled(f"{len(problems)} problems", "bold"))


def show_warnings(warnings: Sequence[Problem], terminal: Terminal) -> None:
    """Write warnings in the same form; nothing with ``--quiet``."""
    if not terminal.quiet:
        for warning, times in Counter(warnings).items():
            _show(warning, "warning", "bold yellow", terminal, times)


def _show(problem: Problem, word: str, style: str, terminal: Terminal, times: int) -> None:
    place = str(problem.where) if problem.where else ""
    prefix = f"{place}: " if place else ""
    again = f" ({times} times)" if times > 1 else ""
    terminal.alert(prefix, Styled(f"{word}:", style), f" {problem.summary}{again}")
    if problem.why:
        terminal.alert(Styled("because:", "dim"), f" {problem.why}")
    if problem.fix:
        terminal.alert(Styled("fix:", "green"), f" {problem.fix}")
