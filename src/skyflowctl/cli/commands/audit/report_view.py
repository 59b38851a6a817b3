"""``audit report`` as text."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from skyflowctl.cli.commands.audit.view import short_hashes
from skyflowctl.cli.commands.cut_off_view import cut_off_note
from skyflowctl.cli.console import (
    Column,
    Piece,
    Styled,
    Terminal,
    fitted,
    has_room,
    packed,
    safe,
    show,
)
from skyflowctl.text import counted, size

_WIDE, _FULL = 112, 150
_NO_TOKEN = ("denied", "refused", "failed", "unknown", "pending")
ReportRow = Mapping[str, Any]


def show_report(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the report's tables."""
    _show_head(data, terminal)
    if data["usage"]:
        _show_usage(data, terminal)
    _show_unusual(data, terminal)
    if data["changes"]:
        _show_changes(data["changes"], terminal, asked="cut_off" in data)
    if data.get("cut_off"):
        terminal.line()
        terminal.line(Styled("Cut off now, as the server says", "bold"))
    for one in data.get("cut_off", ()):
        revoked = {name: one[name] for name in ("at", "by", "reason", "run", "key_id")}
        basic, namespace = one["api"] == "basic", one["namespace"]
        cut_off_note(one["mount"], revoked, terminal, basic=basic, namespace=namespace)


def _show_head(data: Mapping[str, Any], terminal: Terminal) -> None:
    totals, counts, span = data["totals"], data["counts"], data["range"]
    ended = [f"{totals[name]} {name}" for name in ("granted", *_NO_TOKEN) if totals[name]]
    read = f"{counted(counts['files'], 'file')}, {size(counts['bytes'])}, "
    read += counted(counts["lines"], "line")
    damaged = sum(counts["damaged"].values())
    subject = data["subject"]
    pairs = [
        ("cluster", subject["cluster"] or "not named (--cluster)"),
        ("environment", subject["environment"] or "not named (--environment)"),
        ("range", _range(span)),
        ("requests", f"{totals['requests']} ({', '.join(ended)})" if ended else "none"),
        ("asked by", f"{counted(totals['apps'], 'app')}, for {_places(totals)}"),
        ("logs", f"{read}, {damaged} damaged" if damaged else read),
    ]
    notes = [
        f"{counts[name]} {words}"
        for name, words in (
            ("duplicates", "also logged by another device"),
            ("forwards", "forwarded by a standby"),
            ("unpaired", "without their request or response"),
        )
        if counts[name]
    ]
    if totals["probes"]:
        probes = counted(totals["probes"], "request")
        pairs.append(("probes", f"{probes} of config revoke, refused as expected; not counted"))
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


def _time(text: str) -> str:
    """Write a time to the minute."""
    return text[:16].replace("T", " ")


def _show_usage(data: Mapping[str, Any], terminal: Terminal) -> None:
    by_mount: dict[str, list[ReportRow]] = {}
    for row in data["usage"]:
        by_mount.setdefault(row["mount"], []).append(row)
    when = _clock(data["range"], terminal)
    for mount, rows in by_mount.items():
        total = counted(sum(row["requests"] for row in rows), "request")
        terminal.line()
        terminal.line(Styled(mount, "bold"), f"  {total}")
        shown = list(_usage_columns(rows, when, terminal.width))
        if has_room(terminal, shown, rows):
            fitted(terminal, shown, rows)
            continue
        for row in rows:
            packed(terminal, [column.value(row) for column in shown[:2]])
            figures = ((column.header.strip().lower(), column.value(row)) for column in shown[2:])
            packed(terminal, _figures(figures), "  ")


def _figures(cells: Iterable[tuple[str, Piece]]) -> Iterator[Piece]:
    """Yield a row's figures with their names, without the zeros."""
    for header, cell in cells:
        text = cell.text if isinstance(cell, Styled) else cell
        if text.strip() not in {"", "-"}:
            yield f"{header} {text.strip()}".strip()


def _clock(span: Mapping[str, str | None], terminal: Terminal) -> Callable[[str], str]:
    """Return a function that writes a time in full, or without the part in the range's line."""
    if terminal.width >= _FULL:
        return _time
    one_year = (span["first"] or "")[:4] == (span["last"] or "")[:4]
    return (lambda text: _time(text)[5:]) if one_year else (lambda text: text[:10])


def _usage_columns(
    rows: Sequence[ReportRow], when: Callable[[str], str], width: int
) -> Iterator[Column]:
    """Yield the columns that fit this width."""
    yield Column("ROLE", lambda row: row["role"], 10)
    yield Column("APP", lambda row: show(row["app"]), 8)
    if width >= _FULL:
        yield Column("AUTH", lambda row: show(row["auth"]))
    yield _number("REQUESTS", rows, lambda row: row["requests"])
    if width >= _WIDE:
        for name in _NO_TOKEN:
            if any(row[name] for row in rows):
                yield _number(name.upper(), rows, itemgetter(name), "yellow")
    else:
        yield _number("ERRORS", rows, lambda row: row["errors"], "yellow")
    yield _number("CTX", rows, _ctx)
    if width >= _WIDE:
        if any(row["wrapped"] for row in rows):
            yield _number("WRAPPED", rows, lambda row: row["wrapped"])
        if any(row["signed"] for row in rows):
            yield _number("SIGN", rows, lambda row: row["signed"])
        yield Column("FIRST", lambda row: when(row["first"]), 10)
    yield Column("LAST", lambda row: when(row["last"]), 10)
    if width >= _WIDE:
        yield Column("BUSIEST", lambda row: f"{row['busiest_hour']:02}h ({row['busiest_count']})")
    else:
        yield Column("BUSY", lambda row: f"{row['busiest_hour']:02}h", 3)
    if any(row["unusual"] for row in rows):
        yield Column("", _mark, 7)


def _number(
    header: str, rows: Sequence[ReportRow], value: Callable[[ReportRow], object], style: str = ""
) -> Column:
    """Return a right-aligned column of figures; zero is a dash."""
    width = max(len(header), *(len(str(value(row))) for row in rows))

    def cell(row: ReportRow) -> Piece:
        number = value(row)
        text = (str(number) if number else "-").rjust(width)
        return Styled(text, style) if number and style else text

    return Column(header.rjust(width), cell, width)


def _ctx(row: ReportRow) -> object:
    return f"{row['distinct_ctx']}+" if row["more_ctx"] else row["distinct_ctx"]


def _mark(row: ReportRow) -> Piece:
    return Styled("unusual", "yellow") if row["unusual"] else ""


def _show_unusual(data: Mapping[str, Any], terminal: Terminal) -> None:
    found = data["unusual"]
    terminal.line()
    terminal.line(Styled("Unusual", "bold"), f"  {counted(data['totals']['unusual'], 'finding')}")
    for each in found:
        when = _time(each["first"])
        times = f"{counted(each['count'], 'request')}, {each['granted']} granted, from {when}"
        terminal.line(Styled(each["kind"], "yellow"), f"  {_about(each)}: {times}")
        _wrapped(each["detail"], terminal)
    _show_rules(data, terminal)


def _about(found: ReportRow) -> str:
    """Return the app and the object of a finding."""
    who = show(found["app"]) if found["app"] else ""
    where = " ".join(found[name] for name in ("mount", "role") if found[name])
    return " on ".join(part for part in (who, where) if part) or "the server"


def _show_rules(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the rules that were applied, and those that could not be, with the reason."""
    missing = {each["rule"]: each["why"] for each in data["rules_not_applied"]}
    applied = [each for each in data["rules"] if each.partition(":")[0] not in missing]
    if not data["unusual"] and applied:
        terminal.line("  nothing unusual by the rules that were applied")
    terminal.line(Styled("Rules that were applied", "dim"))
    for rule in applied or ["none"]:
        _wrapped(rule, terminal, "dim")
    if missing:
        terminal.line(Styled("Rules that could not be applied", "yellow"))
        for rule, why in missing.items():
            _wrapped(f"{rule}: {why}", terminal)


def _wrapped(text: str, terminal: Terminal, style: str = "") -> None:
    width = max(40, min(terminal.width, 118) - 2)
    for line in textwrap.wrap(safe(text), width, break_long_words=False, break_on_hyphens=False):
        terminal.line("  ", Styled(line, style) if style else line)


def _because(change: ReportRow, *, asked: bool) -> Iterator[str]:
    """Yield why a mount was cut off, and why a change was not made, if known."""
    if change["reason_hashed"]:
        how = "the server has it no more" if asked else "--server-roles reads it from the server"
        yield f"reason: hashed in the log; {how}"
    elif change["reason"]:
        yield f"reason: {show(change['reason'])}"
    if change["error"]:
        yield f"why not: {change['error']}"


def _show_changes(changes: Sequence[ReportRow], terminal: Terminal, *, asked: bool) -> None:
    """Write the changes, each with who made it, in which run, and what changed, below it."""
    terminal.line()
    terminal.line(Styled("Changes that affect token access", "bold"), f"  {len(changes)}")
    shown = list(_change_columns())
    as_table = has_room(terminal, shown, changes)
    kind, outcome = (max(len(each[name]) for each in changes) for name in ("kind", "outcome"))
    widths = [19, max(len(_place(each)) for each in changes), kind, outcome]
    for each in changes:
        if as_table:
            fitted(terminal, shown, [each], widths=widths)
        else:
            packed(terminal, [shown[at].value(each) for at in (0, 2, 3)])
            packed(terminal, [_place(each)], "  ")
        run = f", run {each['run_id']}" if each["run_id"] else ", without a run of skyflowctl"
        key = f"key {each['key_id']}, " if each["key_id"] else ""
        _wrapped(f"{key}by {show(each['app'])}{run}", terminal, "dim")
        for words in _because(each, asked=asked):
            _wrapped(words, terminal, "dim")
        for field in each["changes"]:
            before, after = (short_hashes(field[name] or "-") for name in ("before", "after"))
            known = f"{before} -> {after}" if field["before"] else after
            _wrapped(f"{field['field']}: {known}", terminal, "dim")


def _change_columns() -> Iterator[Column]:
    yield Column("TIME", lambda row: row["time"][:19].replace("T", " "), 19)
    yield Column("WHERE", _place, from_start=True)
    yield Column("CHANGE", lambda row: row["kind"], 21)
    yield Column("OUTCOME", _outcome, 7)


def _place(change: ReportRow) -> str:
    """Return what was changed: a mount, a role on it, a policy, a plugin."""
    name = change["name"] if change["name"] != change["mount"] else None
    parts = [part for part in (change["mount"], name) if part]
    return " ".join(dict.fromkeys(parts)) or "-"


def _outcome(row: ReportRow) -> Piece:
    word = row["outcome"]
    return word if word == "granted" else Styled(word, "yellow")
