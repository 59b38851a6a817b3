"""Progress of an apply: a bar on a terminal, lines elsewhere; and of reading, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.console import Styled, Terminal, safe
from skyflowctl.executor.events import (
    ActionDone,
    ActionFailed,
    ActionPending,
    ActionStarted,
    ApplyEvent,
    ApplyListener,
)
from skyflowctl.text import counted

if TYPE_CHECKING:
    from rich.progress import Progress

_PAST = {
    "create": "created",
    "update": "updated",
    "delete": "deleted",
    "move": "moved",
    "replace_credential": "replaced the credential of",
    "plugin_upgrade": "upgraded",
}


@contextmanager
def progress(total: int, terminal: Terminal) -> Iterator["Shown"]:
    """Show steps on stderr while the block runs; nothing with ``--quiet``.

    Yields:
        A function to call with every event, one call at a time.
    """
    if terminal.quiet:
        yield Shown(_silent, terminal.note)
    elif terminal.interactive_err and total > 1:
        with _bar(terminal) as bar, _above(terminal):
            yield Shown(_Bar(bar, total), terminal.note)
    else:
        yield Shown(lambda event: _line(event, terminal), terminal.note)


@contextmanager
def reading(terminal: Terminal) -> Iterator[Callable[[str], None]]:
    """Show on a terminal's stderr what is read while the block runs; else, nothing.

    Yields:
        A function to call with each path, before it is read.
    """
    if terminal.quiet or not terminal.interactive_err:
        yield lambda _: None
        return
    with _bar(terminal) as bar, _above(terminal):
        task = bar.add_task("", total=None)
        yield lambda path: bar.update(task, advance=1, description=safe(path))


@contextmanager
def _above(terminal: Terminal) -> Iterator[None]:
    """Print other messages on stderr, such as a wait, on lines above the bar."""
    before = terminal.err
    terminal.err = sys.stderr  # rich replaces it while a bar is drawn
    try:
        yield
    finally:
        terminal.err = before


class Shown:
    """Receives every event; counts the requests under way.

    Args:
        show: shows one event.
        say: writes one line next to the progress.
    """

    def __init__(self, show: ApplyListener, say: Callable[[str], None]) -> None:
        self._show = show
        self._say = say
        self._under_way = 0

    def __call__(self, event: ApplyEvent) -> None:
        """Count an event and show it."""
        if isinstance(event, ActionStarted):
            self._under_way += 1
        elif isinstance(event, (ActionDone, ActionFailed, ActionPending)):
            self._under_way -= 1
        self._show(event)

    def notice(self, text: str) -> None:
        """Show the reason for a delay, such as a wait."""
        self._say(text)

    def stopping(self) -> None:
        """Show that the first signal came, and what a second one does."""
        what = counted(self._under_way, "request")
        self._say(f"finishing {what}; Ctrl-C again stops at once")


def _silent(_event: ApplyEvent) -> None:
    """Show nothing."""


def _line(event: ApplyEvent, terminal: Terminal) -> None:
    kind, path = event_text(event)
    if isinstance(event, ActionDone):
        terminal.note(Styled("  ok ", "green"), f"{kind} {path}", _took(event))
    elif isinstance(event, ActionFailed):
        terminal.note(Styled("  failed ", "red"), path, _took(event))
    elif isinstance(event, ActionPending):
        terminal.note(Styled("  pending ", "yellow"), path)
    # Skipped actions are reported once, in the result.


def _took(event: ActionDone | ActionFailed) -> Styled:
    return Styled(f"  {event.milliseconds:.0f} ms", "dim")


def event_text(event: ApplyEvent) -> tuple[str, str]:
    """Return an event's action, as a verb in the past tense, and its path."""
    action = event.action
    if action.action == "move":
        return _PAST["move"], f"{action.body['from']} to {action.body['to']}"
    return _PAST[action.action.value], action.path


def _bar(terminal: Terminal) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=terminal.err, no_color=terminal.no_color or None, highlight=False)
    return Progress(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    )


class _Bar:
    """Moves a rich bar; its text is the step that began last."""

    def __init__(self, bar: Any, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)

    def __call__(self, event: ApplyEvent) -> None:
        if isinstance(event, ActionStarted):
            self._bar.update(self._task, description=safe(event.action.path))
        else:
            self._bar.advance(self._task)
