"""The terminal for the views: two streams, colour, and width.

Every text of a view is escaped here, so no view can forget it; colour is added afterwards. Needs no
library, because ``creds`` prints through it too.
"""

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, TextIO

from skyflowctl.cli.help import wants_color, wrap
from skyflowctl.cli.printed_commands import GivenOptions, given_options
from skyflowctl.cli.streams import drop
from skyflowctl.frozen import dataclass

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
# Control characters, line and paragraph separators, and characters that reorder text: a name with
# them could clear the screen or hide other text.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}
_TOKEN_LIKE = re.compile(r"[A-Za-z0-9+/=_.~-]{20,}")


@dataclass(frozen=True, slots=True)
class Styled:
    """A text and its style, used if colour is on."""

    text: str
    style: str


Piece = str | Styled


@dataclass(slots=True)
class Terminal:
    """The output of a command.

    Args:
        quiet: notices are left out; errors never are.
        verbosity: how often ``-v`` was given.
        no_color: ``--no-color`` was given.
        out: data; ``err``: everything else.
        given: the options that printed commands repeat.
    """

    quiet: bool = False
    verbosity: int = 0
    no_color: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    given: GivenOptions = field(default_factory=given_options)

    @property
    def width(self) -> int:
        """The columns of the terminal; without a terminal a large number, so nothing is cut."""
        return shutil.get_terminal_size((200, 24)).columns if self.interactive_out else 200

    @property
    def interactive_out(self) -> bool:
        """True if stdout is a terminal."""
        return self.out.isatty()

    @property
    def interactive_err(self) -> bool:
        """True if stderr is a terminal that can move its cursor."""
        return self.err.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, *pieces: Piece) -> None:
        """Write one line of data."""
        self._write(self.out, pieces)

    def wrapped(self, text: str) -> None:
        """Write a sentence; on a terminal wrap it at blanks."""
        width = self.width if self.interactive_out else len(text) or 1
        for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False):
            self.line(line)

    def note(self, *pieces: Piece) -> None:
        """Write one line to stderr; nothing with ``--quiet``."""
        if not self.quiet:
            self._write_err([self._completed(piece) for piece in pieces])

    def notice(self, text: str) -> None:
        """Write a sentence to stderr, on a terminal wrapped at blanks; nothing with ``--quiet``."""
        if self.quiet:
            return
        text = self.given.complete(text)
        width = max(40, shutil.get_terminal_size().columns)
        for line in wrap(safe(text), width) if self.interactive_err else [text]:
            self.alert(line)

    def alert(self, *pieces: Piece) -> None:
        """Write one line to stderr, also with ``--quiet``."""
        self._write_err(pieces)

    def raw(self, text: str) -> None:
        """Write generated data, such as JSON or a script, without escaping."""
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

    def _completed(self, piece: Piece) -> Piece:
        if isinstance(piece, Styled):
            return Styled(self.given.complete(piece.text), piece.style)
        return self.given.complete(piece)

    def _write_err(self, pieces: Sequence[Piece]) -> None:
        """Write to stderr; a closed or full stderr fails no command."""
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


def safe(text: object) -> str:
    """Return the text with every terminal control character escaped."""
    return _UNSAFE.sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def clipped(text: str, longest: int = 100) -> str:
    """Return one safe line of at most ``longest`` characters."""
    return safe(text if len(text) <= longest else text[: longest - 3] + "...")


def mask_tokens(text: str) -> str:
    """Return one safe line with every possible secret masked.

    For messages of unexpected exceptions: a library may have put a header's value into one.
    """
    return safe(_TOKEN_LIKE.sub("***", text))


def columns(text: str) -> int:
    """Return the width of the text in columns on a terminal, without colour."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def show(value: object) -> str:
    """Return a JSON value as text: ``-`` for nothing, lists with commas."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={show(item)}" for key, item in value.items())
    return str(value)


TableRow = Mapping[str, Any]
_COLUMN_GAP = 2
_LEAST_LINE = 20
_CUT = "…"
_FOLD = "    "


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        header: its heading.
        value: returns its cell of a row.
        least: the smallest width to which it is cut.
        from_start: cut the start, because the end is more important (a path).
        whole: never cut it, because it is typed into a command; if the columns then have no room
            beside each other, the last ones continue on a line below.
    """

    header: str
    value: Callable[[TableRow], Piece]
    least: int = 8
    from_start: bool = False
    whole: bool = False


def fitted(
    terminal: Terminal,
    shown: Sequence[Column],
    rows: Iterable[TableRow],
    *,
    widths: Sequence[int] = (),
) -> Sequence[int]:
    """Write rows under headers and return the widths; with ``widths``, without headers."""
    cells = [[column.value(row) for column in shown] for row in rows]
    if not widths:
        widths = _widths(terminal, shown, cells)
        _write_row(terminal, [Styled(column.header, "dim") for column in shown], shown, widths)
    for row in cells:
        _write_row(terminal, row, shown, widths)
    return widths


def has_room(terminal: Terminal, shown: Sequence[Column], rows: Iterable[TableRow]) -> bool:
    """Return whether rows can be written in these columns without cutting a cell."""
    if not terminal.interactive_out:
        return True
    cells = [[column.value(row) for column in shown] for row in rows]
    whole = sum(
        max([columns(column.header), *(columns(_plain(row[at])) for row in cells)])
        for at, column in enumerate(shown)
    )
    return whole + _COLUMN_GAP * (len(shown) - 1) <= terminal.width


def packed(terminal: Terminal, pieces: Iterable[Piece], indent: str = "") -> None:
    """Write pieces next to each other on as few lines as possible. Only a piece longer than a line
    is wrapped, at blanks; none is cut."""
    room = max(_LEAST_LINE, terminal.width - len(indent))
    line: list[Piece] = []
    used = 0
    for piece in pieces:
        for part in broken(piece, room):
            width = columns(_plain(part))
            if line and used + _COLUMN_GAP + width > room:
                terminal.line(indent, *line)
                line, used = [], 0
            gap = _COLUMN_GAP if line else 0
            line += [" " * gap, part]
            used += gap + width
    if line:
        terminal.line(indent, *line)


def broken(piece: Piece, room: int) -> list[Piece]:
    """Return a piece in parts of at most this width, broken at blanks; no word is cut."""
    text = _plain(piece)
    if columns(text) <= room:
        return [piece]
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return [Styled(one, piece.style) if isinstance(piece, Styled) else one for one in lines]


def _widths(
    terminal: Terminal, shown: Sequence[Column], cells: Sequence[Sequence[Piece]]
) -> Sequence[int]:
    widths = [
        max([columns(column.header), *(columns(_plain(row[at])) for row in cells)])
        for at, column in enumerate(shown)
    ]
    if not terminal.interactive_out:
        return widths
    least = [
        width if column.whole else max(column.least, columns(column.header))
        for column, width in zip(shown, widths, strict=True)
    ]
    gaps = _COLUMN_GAP * (len(widths) - 1)
    if any(column.whole for column in shown) and sum(least) + gaps > terminal.width:
        return widths
    over = sum(widths) + gaps - terminal.width
    while over > 0:
        at = max(range(len(widths)), key=lambda one: (widths[one] > least[one], widths[one]))
        if widths[at] <= least[at]:
            break
        widths[at] -= 1
        over -= 1
    return widths


def _write_row(
    terminal: Terminal, row: Sequence[Piece], shown: Sequence[Column], widths: Sequence[int]
) -> None:
    pieces: list[Piece] = []
    used = 0
    folds = terminal.interactive_out and any(column.whole for column in shown)
    for cell, column, width in zip(row, shown, widths, strict=True):
        if folds and pieces and used + width > terminal.width:
            terminal.line(*pieces)
            pieces, used = [_FOLD], len(_FOLD)
        room = width if column.whole or not folds else min(width, terminal.width - used)
        text = _plain(cell)
        if terminal.interactive_out and columns(text) > room:
            text = truncated(text, room, from_start=column.from_start)
        pieces.append(Styled(text, cell.style) if isinstance(cell, Styled) else text)
        pieces.append(" " * (width - columns(text) + _COLUMN_GAP))
        used += width + _COLUMN_GAP
    terminal.line(*pieces)


def truncated(text: str, width: int, *, from_start: bool = False) -> str:
    """Return the text cut to ``width`` columns, with a mark at the cut."""
    kept = text[::-1] if from_start else text
    while columns(kept) > width - 1:
        kept = kept[:-1]
    return _CUT + kept[::-1] if from_start else kept + _CUT
