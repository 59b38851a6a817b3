"""Problems as text: what happened, why, how to fix it."""

import shutil
from collections import Counter
from collections.abc import Sequence

from skyflowctl.cli.console import Styled, Terminal, safe
from skyflowctl.cli.help import wrap
from skyflowctl.errors import Problem


def show_problems(problems: Sequence[Problem], terminal: Terminal) -> None:
    """Write each problem once, in three lines, and a count if there are several."""
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
    _lines(Styled(f"{word}:", style), f"{problem.summary}{again}", terminal, prefix)
    if problem.why:
        _lines(Styled("because:", "dim"), problem.why, terminal)
    if problem.fix:
        _lines(Styled("fix:", "green"), problem.fix, terminal)


def _lines(label: Styled, text: str, terminal: Terminal, before: str = "") -> None:
    """Write a text after its label, wrapped to the width of a terminal."""
    text = terminal.given.complete(text)
    head = f"{before}{label.text}"
    if not terminal.interactive_err:
        terminal.alert(before, label, f" {text}")
        return
    width = max(40, shutil.get_terminal_size().columns)
    first, *more = wrap(safe(f"{head} {text}"), width) or [head]
    if not first.startswith(head):  # a place that contains blanks, on a narrow terminal
        terminal.alert(before, label, f" {text}")
        return
    terminal.alert(before, label, first.removeprefix(head))
    for line in more:
        terminal.alert(f"  {line}")
