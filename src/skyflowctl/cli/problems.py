"""Problems and cut-offs as people read them: what happened, why, how to fix it."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence

from skyflowctl.cli.console import Styled, Terminal, safe
from skyflowctl.cli.help import wrap
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
    _lines(Styled(f"{word}:", style), f"{problem.summary}{again}", terminal, prefix)
    if problem.why:
        _lines(Styled("because:", "dim"), problem.why, terminal)
    if problem.fix:
        _lines(Styled("fix:", "green"), problem.fix, terminal)


def _lines(label: Styled, text: str, terminal: Terminal, before: str = "") -> None:
    """Write a text behind its label, broken at spaces where a person's terminal ends."""
    head = f"{before}{label.text}"
    if not terminal.interactive_err:
        terminal.alert(before, label, f" {text}")
        return
    width = max(40, shutil.get_terminal_size().columns)
    first, *more = wrap(safe(f"{head} {text}"), width) or [head]
    if not first.startswith(head):  # a place with blanks in it, on a narrow terminal
        terminal.alert(before, label, f" {text}")
        return
    terminal.alert(before, label, first.removeprefix(head))
    for line in more:
        terminal.alert(f"  {line}")


def cut_off_note(
    name: str,
    revoked: Mapping[str, str] | None,
    terminal: Terminal,
    *,
    basic: bool = False,
    namespace: str = "",
) -> None:
    """Write the cut-off, if there is one, and the way out of it.

    Args:
        name: of the mount, or its path, with the namespace in front if that is given.
        revoked: what is kept of the cut-off; empty or None: it is not cut off.
        terminal: where to.
        basic: its engine is known to have the basic API only.
        namespace: that the way out has to name; empty: none.
    """
    if not revoked:
        return
    from skyflowctl.vault.live import BASIC_API, FULL_API, LiveRevocation, way_out

    terminal.line(Styled(f"{name} is {LiveRevocation(**revoked).sentence()}", "bold red"))
    mount = f"{name.removeprefix(f'{namespace}/')} -n {namespace}" if namespace else name
    terminal.line("  ", way_out(mount, BASIC_API if basic else FULL_API))
