"""The terminal as the views see it: two streams, colour or not, a width.

Every text that a view hands over is made safe here, so no view can forget it; colour
is added afterwards. Needs no library, because ``creds`` prints through it too.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from skyflowctl.cli.help import wants_color
from skyflowctl.cli.render.text import columns, safe, show
from skyflowctl.cli.streams import drop

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "bold red": "1;31",
    "bold green": "1;32",
    "bold yellow": "1;33",
}


@dataclass(frozen=True, slots=True)
class Styled:
    """A text with the style to show it in, where colour is wanted."""

    text: str
    style: str


Piece = str | Styled


@dataclass(slots=True)
class Terminal:
    """Where a command's text goes.

    Args:
        quiet: notices are left out; errors never are.
        verbosity: how often ``-v`` was given.
        no_color: ``--no-color`` was given.
        out: data; ``err``: everything else.
    """

    quiet: bool = False
    verbosity: int = 0
    no_color: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def width(self) -> int:
        """The columns of the terminal; wide where there is none, so nothing is cut."""
        return shutil.get_terminal_size((200, 24)).columns if self.interactive_out else 200

    @property
    def interactive_out(self) -> bool:
        """True when a person watches stdout."""
        return self.out.isatty()

    @property
    def interactive_err(self) -> bool:
        """True when a person watches stderr and the terminal can move its cursor."""
        return self.err.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, *pieces: Piece) -> None:
        """Write one line of data."""
        self._write(self.out, pieces)

    def note(self, *pieces: Piece) -> None:
        """Write one line to stderr; nothing with ``--quiet``."""
        if not self.quiet:
            self._write_err(pieces)

    def alert(self, *pieces: Piece) -> None:
        """Write one line to stderr, also with ``--quiet``."""
        self._write_err(pieces)

    def raw(self, text: str) -> None:
        """Write data of our own making, such as JSON or a script, as it is."""
        self.out.write(text)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Piece]]) -> None:
        """Write aligned columns under headers."""
        cells = [[_shown(cell) for cell in row] for row in rows]
        widths = [
            max([columns(header), *(columns(_plain(row[at])) for row in cells)])
            for at, header in enumerate(headers)
        ]
        self._row([Styled(header, "dim") for header in headers], widths)
        for row in cells:
            self._row(row, widths)

    def fields(self, pairs: Iterable[tuple[str, object]], indent: str = "") -> None:
        """Write aligned ``name  value`` lines."""
        shown = [(name, show(value)) for name, value in pairs]
        left = max((columns(safe(name)) for name, _ in shown), default=0)
        for name, value in shown:
            pad = " " * (left - columns(safe(name)) + 2)
            self.line(indent, Styled(name, "dim"), pad, value)

    def _row(self, row: Sequence[Piece], widths: Sequence[int]) -> None:
        pieces: list[Piece] = []
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            pieces.append(cell)
            if at + 1 < len(widths):
                pieces.append(" " * (width - columns(_plain(cell)) + 2))
        self._write(self.out, pieces)

    def _write_err(self, pieces: Sequence[Piece]) -> None:
        """Write what is not data; a stderr that takes no more fails no command."""
        try:
            self._write(self.err, pieces)
        except OSError:
            drop(self.err)

    def _write(self, stream: TextIO, pieces: Sequence[Piece]) -> None:
        color = not self.no_color and wants_color(stream)
        stream.write("".join(_painted(piece, color=color) for piece in pieces).rstrip() + "\n")


def _shown(cell: Piece) -> Piece:
    return cell if isinstance(cell, Styled) else show(cell)


def _plain(piece: Piece) -> str:
    return safe(piece.text if isinstance(piece, Styled) else piece)


def _painted(piece: Piece, *, color: bool) -> str:
    text = _plain(piece)
    if not isinstance(piece, Styled) or not color or not text:
        return text
    return f"\x1b[{_CODES[piece.style]}m{text}\x1b[0m"
