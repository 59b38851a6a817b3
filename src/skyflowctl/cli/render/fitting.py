"""Rows in columns that fit a terminal: the widest cells are cut first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyflowctl.cli.render.terminal import Piece, Styled, Terminal
from skyflowctl.cli.render.text import columns, safe

TableRow = Mapping[str, Any]
_GAP = 2
_CUT = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        header: its head.
        value: what it shows of a row.
        least: it is not cut below so many columns.
        from_start: its end tells more than its start (a path).
    """

    header: str
    value: Callable[[TableRow], Piece]
    least: int = 8
    from_start: bool = False


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
        _write(terminal, [Styled(column.header, "dim") for column in shown], shown, widths)
    for row in cells:
        _write(terminal, row, shown, widths)
    return widths


def _widths(
    terminal: Terminal, shown: Sequence[Column], cells: Sequence[Sequence[Piece]]
) -> Sequence[int]:
    widths = [
        max([columns(column.header), *(columns(_plain(row[at])) for row in cells)])
        for at, column in enumerate(shown)
    ]
    if not terminal.interactive_out:
        return widths
    least = [max(column.least, columns(column.header)) for column in shown]
    over = sum(widths) + _GAP * (len(widths) - 1) - terminal.width
    while over > 0:
        at = max(range(len(widths)), key=lambda one: (widths[one] > least[one], widths[one]))
        if widths[at] <= least[at]:
            break
        widths[at] -= 1
        over -= 1
    return widths


def _plain(piece: Piece) -> str:
    return safe(piece.text if isinstance(piece, Styled) else piece)


def _write(
    terminal: Terminal, row: Sequence[Piece], shown: Sequence[Column], widths: Sequence[int]
) -> None:
    pieces: list[Piece] = []
    for cell, column, width in zip(row, shown, widths, strict=True):
        text = _plain(cell)
        if terminal.interactive_out and columns(text) > width:
            text = truncated(text, width, from_start=column.from_start)
        pieces.append(Styled(text, cell.style) if isinstance(cell, Styled) else text)
        pieces.append(" " * (width - columns(text) + _GAP))
    terminal.line(*pieces)


def truncated(text: str, width: int, *, from_start: bool = False) -> str:
    """Return the text cut to so many columns, with a mark where something is missing."""
    kept = text[::-1] if from_start else text
    while columns(kept) > width - 1:
        kept = kept[:-1]
    return _CUT + kept[::-1] if from_start else kept + _CUT
