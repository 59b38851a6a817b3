"""Tables that sort, filter and fold where scripts run, and are whole where they do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from skyflowctl.audit.html.text import text

FOLD_AFTER = 50
"""Rows that are shown before the rest is folded, on screens; never on paper."""


@dataclass(frozen=True, slots=True)
class HeadedColumn:
    """A column's heading; ``wide``: it takes the room that the others leave."""

    title: str
    kind: Literal["text", "number", "time"] = "text"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: safe HTML, and what it sorts by if that is not its text (escaped here)."""

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
        caption: what the rows are, in a few words; safe.
        columns: the first one names the row.
        rows: as they are to be shown first.
        order: the column that they are sorted by; None: by none.
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
