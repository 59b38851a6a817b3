"""Problems as text: what happened, why, how to fix it."""

import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from skyflowctl.cli.console import Styled, Terminal, safe
from skyflowctl.cli.help import wrap
from skyflowctl.errors import Problem


def show_problems(problems: Sequence[Problem], terminal: Terminal) -> None:
    """Write each problem once, in three lines, and a count if there are several.

    Problems that follow each other and have one cause and one fix are told together.
    """
    _show_all(problems, "error", "bold red", terminal)
    if len(problems) > 1:
        terminal.alert(Styled(f"{len(problems)} problems", "bold"))


def show_warnings(warnings: Sequence[Problem], terminal: Terminal) -> None:
    """Write warnings in the same form; nothing with ``--quiet``."""
    if not terminal.quiet:
        _show_all(warnings, "warning", "bold yellow", terminal)


def _show_all(problems: Sequence[Problem], word: str, style: str, terminal: Terminal) -> None:
    times = Counter(problems)
    for (why, fix), alike in groupby(times, key=lambda one: (one.why, one.fix)):
        for one in alike:
            place = f"{one.where}: " if one.where else ""
            again = f" ({times[one]} times)" if times[one] > 1 else ""
            _lines(Styled(f"{word}:", style), f"{one.summary}{again}", terminal, place)
        if why:
            _lines(Styled("because:", "dim"), why, terminal)
        if fix:
            _lines(Styled("fix:", "green"), fix, terminal)


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
