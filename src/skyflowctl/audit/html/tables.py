"""Tables that sort, filter and fold with scripts, and are complete without."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from skyflowctl.audit.html.text import text

FOLD_AFTER = 50
"""The rows that a screen shows before the rest is folded; paper shows all."""


@dataclass(frozen=True, slots=True)
class HeadedColumn:
    """A column's heading; a ``wide`` one takes the remaining width."""

    title: str
    kind: Literal["text", "number", "time"] = "text"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: safe HTML, and its sort key if that is not its text (escaped here)."""

    html: str
    sort: str | int | None = None


def table(
    ident: str,
    caption: str,
    columns: Sequence[HeadedColumn],
    rows: Sequence[Sequence[Cell]],
    order: tuple[int, Literal["ascending", "descending"]] | None = None,
) -> str:
    """Return a table with its filter.

    Args:
        ident: unique on the page.
        caption: a short description of the rows; safe HTML.
        columns: the first one names the row.
        rows: in their initial order.
        order: the column that they are sorted by; None if they are not sorted.
    """
    heads = "".join(_head(each, at, order) for at, each in enumerate(columns))
    body = "".join(_row(columns, row) for row in rows)
    return (
        f'<div class="table" id="{ident}" data-fold="{FOLD_AFTER}">{_tools(ident, caption)}'
        f'<table><caption class="unseen">{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        f'<p class="more" hidden><button type="button">Show all {len(rows):,} rows</button></p>'
        "</div>"
    )


def _tools(ident: str, caption: str) -> str:
    return (
        f'<div class="tools" hidden><label for="{ident}-filter">Filter '
        f'<span class="unseen">{caption}</span></label>'
        f'<input id="{ident}-filter" type="search" autocomplete="off" spellcheck="false">'
        '<p class="count" role="status" aria-live="polite"></p></div>'
    )


def _head(column: HeadedColumn, at: int, order: tuple[int, str] | None) -> str:
    sort = f' aria-sort="{order[1]}"' if order and order[0] == at else ""
    given = f'class="{_class(column)}" data-kind="{column.kind}"{sort}'
    return f'<th scope="col" {given}>{column.title}</th>'


def _class(column: HeadedColumn) -> str:
    return f"{column.kind} wide" if column.wide else column.kind


def _row(columns: Sequence[HeadedColumn], row: Sequence[Cell]) -> str:
    parts = []
    for at, (column, cell) in enumerate(zip(columns, row, strict=True)):
        name, scope = ("td", "") if at else ("th", ' scope="row"')
        key = "" if cell.sort is None else f' data-sort="{text(str(cell.sort))}"'
        parts.append(f'<{name}{scope} class="{_class(column)}"{key}>{cell.html}</{name}>')
    return f"<tr>{''.join(parts)}</tr>"
