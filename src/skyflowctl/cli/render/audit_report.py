"""``audit report`` as people read it."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skyflowctl.cli.render.terminal import Piece, Styled, Terminal
from skyflowctl.cli.render.text import columns, counted, safe, show

_WIDE = 118
_NUMBERS = "REQUESTS GRANTED DENIED REFUSED FAILED UNKNOWN ERRORS CTX WRAPPED COUNT ROLES"
_NO_TOKEN = ("denied", "refused", "failed", "unknown")


def show_report(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the report's tables."""
    _show_head(data, terminal)
    if data["usage"]:
        _show_usage(data["usage"], terminal)
    _show_unusual(data, terminal)
    if data["changes"]:
        _show_changes(data["changes"], terminal)


def _show_head(data: Mapping[str, Any], terminal: Terminal) -> None:
    totals, counts, span = data["totals"], data["counts"], data["range"]
    ended = [f"{totals[name]} {name}" for name in ("granted", *_NO_TOKEN) if totals[name]]
    read = f"{counted(counts['files'], 'file')}, {_size(counts['bytes'])}, "
    read += counted(counts["lines"], "line")
    damaged = sum(counts["damaged"].values())
    pairs = [
        ("range", _range(span)),
        ("requests", f"{totals['requests']} ({', '.join(ended)})" if ended else "none"),
        ("asked by", f"{counted(totals['apps'], 'app')}, for {_places(totals)}"),
        ("logs", f"{read}, {damaged} damaged" if damaged else read),
    ]
    notes = [
        f"{counts[name]} {words}"
        for name, words in (
            ("duplicates", "told by another device too"),
            ("forwards", "forwarded by a standby"),
            ("unpaired", "without their request or response"),
        )
        if counts[name]
    ]
    if notes:
        pairs.append(("entries", ", ".join(notes)))
    terminal.fields(pairs)


def _places(totals: Mapping[str, int]) -> str:
    return f"{counted(totals['roles'], 'role')} of {counted(totals['mounts'], 'mount')}"


def _range(span: Mapping[str, str | None]) -> str:
    first, last = span["first"], span["last"]
    found = "nothing in it" if not first or not last else f"{_time(first)} to {_time(last)} UTC"
    asked = [f"{name} {_time(span[name] or '')}" for name in ("since", "until") if span[name]]
    return f"{found} (asked: {', '.join(asked)})" if asked else found


def _size(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _time(text: str) -> str:
    """Write a time to the minute."""
    return text[:16].replace("T", " ")


def _show_usage(usage: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    by_mount: dict[str, list[Mapping[str, Any]]] = {}
    for row in usage:
        by_mount.setdefault(row["mount"], []).append(row)
    wide = terminal.width >= _WIDE
    for mount, rows in by_mount.items():
        total = counted(sum(row["requests"] for row in rows), "request")
        terminal.line()
        terminal.line(Styled(mount, "bold"), f"  {total}")
        _table(terminal, *(_wide(rows) if wide else _narrow(rows)))


Rows = tuple[list[str], list[list[Piece]]]


def _wide(rows: Sequence[Mapping[str, Any]]) -> Rows:
    bad = [name for name in _NO_TOKEN if any(row[name] for row in rows)]
    wrapped = any(row["wrapped"] for row in rows)
    headers = ["ROLE", "APP", "AUTH", "REQUESTS", *(name.upper() for name in bad), "CTX"]
    headers += [*(["WRAPPED"] if wrapped else []), "FIRST", "LAST", "BUSIEST", ""]
    found: list[list[Piece]] = []
    for row in rows:
        cells: list[Piece] = [
            row["role"],
            show(row["app"]),
            show(row["auth"]),
            str(row["requests"]),
        ]
        cells += [_count(row[name], "yellow") for name in bad]
        cells += [_ctx(row), *([_count(row["wrapped"], "")] if wrapped else [])]
        cells += [_time(row["first"]), _time(row["last"]), _busiest(row), _mark(row)]
        found.append(cells)
    return headers, found


def _narrow(rows: Sequence[Mapping[str, Any]]) -> Rows:
    headers = ["ROLE", "APP", "REQUESTS", "ERRORS", "CTX", "LAST", "BUSIEST", ""]
    found: list[list[Piece]] = [
        [
            _cut(row["role"], 22),
            _cut(row["app"], 16),
            str(row["requests"]),
            _count(row["errors"], "yellow"),
            _ctx(row),
            _time(row["last"])[5:],
            f"{row['busiest_hour']:02}h",
            _mark(row),
        ]
        for row in rows
    ]
    return headers, found


def _cut(text: str | None, most: int) -> str:
    text = safe(show(text))
    return text if len(text) <= most else text[: most - 2] + ".."


def _count(number: int, style: str) -> Piece:
    return Styled(str(number), style) if number and style else str(number) if number else "-"


def _ctx(row: Mapping[str, Any]) -> str:
    return f"{row['distinct_ctx']}+" if row["more_ctx"] else str(row["distinct_ctx"])


def _busiest(row: Mapping[str, Any]) -> str:
    return f"{row['busiest_hour']:02}h ({row['busiest_count']})"


def _mark(row: Mapping[str, Any]) -> Piece:
    return Styled("unusual", "yellow") if row["unusual"] else Styled("", "dim")


def _table(terminal: Terminal, headers: list[str], rows: list[list[Piece]]) -> None:
    """Write a table whose figures stand at the right of their columns."""
    for at, header in enumerate(headers):
        if header not in _NUMBERS.split():
            continue
        width = max(len(header), *(columns(_text(row[at])) for row in rows))
        headers[at] = header.rjust(width)
        for row in rows:
            cell = row[at]
            padded = _text(cell).rjust(width)
            row[at] = Styled(padded, cell.style) if isinstance(cell, Styled) else padded
    terminal.table(headers, rows)


def _text(cell: Piece) -> str:
    return cell.text if isinstance(cell, Styled) else cell


def _show_unusual(data: Mapping[str, Any], terminal: Terminal) -> None:
    found = data["unusual"]
    terminal.line()
    terminal.line(Styled("Unusual", "bold"), f"  {counted(data['totals']['unusual'], 'finding')}")
    for each in found:
        who = f"{show(each['app'])} on {each['mount']} {each['role']}"
        when = _time(each["first"])
        times = f"{counted(each['count'], 'request')}, {each['granted']} granted, from {when}"
        terminal.line(Styled(each["kind"], "yellow"), f"  {who}: {times}")
        _wrapped(each["detail"], terminal)
    terminal.line(Styled("The rules", "dim"))
    for rule in data["rules"]:
        _wrapped(rule, terminal, "dim")


def _wrapped(text: str, terminal: Terminal, style: str = "") -> None:
    width = max(40, min(terminal.width, 118) - 2)
    for line in textwrap.wrap(safe(text), width, break_on_hyphens=False):
        terminal.line("  ", Styled(line, style) if style else line)


def _show_changes(changes: Iterable[Mapping[str, Any]], terminal: Terminal) -> None:
    rows: list[list[Piece]] = [
        [
            each["time"][:19].replace("T", " "),
            each["mount"],
            each["kind"],
            *(show(each[name]) for name in ("key_id", "app", "run_id")),
            each["outcome"] if each["outcome"] == "granted" else Styled(each["outcome"], "yellow"),
        ]
        for each in changes
    ]
    terminal.line()
    terminal.line(Styled("Changes of credentials", "bold"), f"  {len(rows)}")
    terminal.table(["TIME", "MOUNT", "CHANGE", "KEY", "BY", "RUN", "OUTCOME"], rows)
