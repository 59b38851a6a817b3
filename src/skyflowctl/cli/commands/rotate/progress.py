"""Progress of a rotation: a line for each step of one mount, or for each of several mounts."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from skyflowctl.cli.console import Styled, Terminal, safe
from skyflowctl.cli.help import wrap
from skyflowctl.rotation.events import Notice, RotationEvent, StepDone, StepStarted
from skyflowctl.rotation.model import Result, Step, StepName

STYLES = {
    Result.ROTATED: "bold green",
    Result.ROLLED_BACK: "bold yellow",
    Result.REFUSED: "bold red",
    Result.FAILED: "bold red",
    Result.NOT_DUE: "dim",
    Result.PENDING: "bold yellow",
    Result.RETIRED: "bold green",
    Result.WOULD_ROTATE: "bold green",
}
_NAME_COLUMNS = 19
# The text of a step that found nothing to report.
_PLAIN = {
    StepName.RESUME: "looked for a rotation that was left open",
    StepName.INTENT: "the rotation is open in the engine",
    StepName.LINT: "well-formed, for this service account",
}


class Steps:
    """Shows the progress on stderr; called from several threads.

    With one mount each step is a line; a terminal also shows the current step. With several, a
    finished mount is a line; ``-v`` shows their steps as well.

    Args:
        terminal: the output.
        names: of the mounts.
    """

    def __init__(self, terminal: Terminal, names: Sequence[str]) -> None:
        self._terminal = terminal
        self._several = len(names) > 1
        self._longest = max(map(len, names), default=0)
        self._moving = terminal.interactive_err and not terminal.quiet and not self._several
        self._shown = False
        self._lock = threading.RLock()  # a signal's handler may come in between

    def __call__(self, event: RotationEvent) -> None:
        """Show an event of a rotation."""
        with self._lock:
            if isinstance(event, StepStarted):
                self._begin(event)
            elif isinstance(event, StepDone):
                self._done(event)
            else:
                self._say(event)

    def finished(self, name: str, word: Result) -> None:
        """Show that a mount is finished."""
        if self._several:
            with self._lock:
                result = Styled(said(word), STYLES[word])
                self._terminal.note(f"  {name:<{self._longest}}  ", result)

    def stopping(self) -> None:
        """Show that the first signal came, and what a second one does."""
        with self._lock:
            self._clear()
            self._terminal.note("stopping in order; a second signal stops at once")

    def _begin(self, event: StepStarted) -> None:
        if self._moving:
            self._clear()
            self._terminal.err.write(f"    {event.name.value} ...")
            self._terminal.err.flush()
            self._shown = True

    def _done(self, event: StepDone) -> None:
        self._clear()
        if not self._several or self._terminal.verbosity:
            mount = f"{event.mount:<{self._longest}}  " if self._several else ""
            for line in step_lines(event.step, self._terminal, mount):
                self._terminal.note("  ", *line)

    def _say(self, event: Notice) -> None:
        self._clear()
        mount = f"{event.mount}: " if self._several else ""
        self._terminal.note(f"    {mount}{event.text}")

    def _clear(self) -> None:
        if self._shown:
            self._terminal.err.write("\r\x1b[K")
            self._shown = False


def step_lines(step: Step, terminal: Terminal, before: str = "") -> Iterator[list[str | Styled]]:
    """Yield a finished step's lines in pieces: a mark, its name, its time, what it found."""
    good, bad = ("✓", "✗") if _draws(terminal) else ("ok    ", "failed")
    mark = Styled(good, "green") if step.ok else Styled(bad, "bold red")
    name = f" {before}{step.name.value:<{_NAME_COLUMNS}}"
    time = f"{took(step.ms):>8}"
    detail = safe(step.detail or (_PLAIN.get(step.name, "") if step.ok else ""))
    left = len(mark.text) + len(name) + len(time) + 2
    first, *more = _wrapped(detail, terminal, left)
    yield [mark, name, Styled(time, "dim"), f"  {first}"]
    for line in more:
        yield [" " * left, line]


def _wrapped(text: str, terminal: Terminal, left: int) -> list[str]:
    """Wrap a text to the width of a terminal; elsewhere do not wrap it."""
    if not terminal.interactive_err:
        return [text]
    room = max(30, shutil.get_terminal_size().columns - left - 2)
    return wrap(text, room) or [""]


def steps_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return steps as JSON objects."""
    return [
        {"name": one.name.value, "ms": round(one.ms, 1), "ok": one.ok, "detail": one.detail}
        for one in steps
    ]


def said(word: str) -> str:
    """Return a result as text: ``rolled back``."""
    return word.replace("_", " ")


def took(milliseconds: float) -> str:
    """Return a duration as text: ``312 ms``, ``4.2 s``, ``61 min``."""
    if milliseconds < 9_999:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _draws(terminal: Terminal) -> bool:
    """Return whether a tick can be drawn: not in a pipe, nor without Unicode."""
    encoding = str(getattr(terminal.err, "encoding", "") or "").lower().replace("-", "")
    return terminal.interactive_err and encoding == "utf8"
