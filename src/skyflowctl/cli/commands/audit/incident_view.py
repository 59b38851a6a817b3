"""An incident as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.cli.commands.audit.view import (
    AuditRow,
    found_words,
    note_wrapped,
    read_words,
    short_hashes,
    short_time,
)
from skyflowctl.cli.console import Column, Piece, Styled, Terminal, fitted
from skyflowctl.text import counted

_TOKENS_SHOWN = 50
_WORDS = {"key_id": "key", "app": "app", "ctx": "ctx"}


def show_incident(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write what was found, what was done since, and what is not known."""
    subject, summary = data["subject"], data["summary"]
    terminal.line(Styled(f"{_WORDS[subject['kind']]} {subject['value']}", "bold"))
    terminal.fields(_head(summary, data["attempts"]))
    _table("Mounts", _MOUNTS, data["mounts"], terminal)
    _table("Applications", _GROUPS, data["groups"], terminal)
    _table("Tokens", _TOKENS, data["tokens"][:_TOKENS_SHOWN], terminal)
    if (more := summary["tokens"] - _TOKENS_SHOWN) > 0:
        terminal.line(f"and {more} more: -o json lists them, --evidence DIR writes all")
    _table("Done since", _ACTIONS, data["actions"], terminal)
    terminal.line()
    terminal.line(Styled("Not known", "bold"))
    for one in data["unknown"]:
        terminal.wrapped(f"- {one['text']}")
    terminal.out.flush()
    found = counted(summary["tokens"], "token") if summary["tokens"] else "no token"
    read = read_words(data["read"], all_lines=False)
    note_wrapped(f"{found_words(found, certain=data['certain'])}; {read}", terminal)


def _head(summary: Mapping[str, Any], attempts: Sequence[AuditRow]) -> list[tuple[str, object]]:
    tokens = counted(summary["tokens"], "token")
    if summary["signatures"]:
        tokens += f", {summary['signatures']} of them requests to sign"
    if summary["reused"]:
        tokens += f", {summary['reused']} of them with a bearer that was issued before"
    pairs: list[tuple[str, object]] = [("issued", tokens)]
    if summary["tokens"]:
        apps, mounts = counted(summary["apps"], "app"), counted(summary["mounts"], "mount")
        first, last = short_time(summary["first"]), short_time(summary["last"])
        pairs += [("to", f"{apps}, on {mounts}"), ("requested", f"{first} to {last} UTC")]
        pairs.append(("alive until", _until(summary)))
    for one in attempts:
        first, last = short_time(one["first"]), short_time(one["last"])
        pairs.append((one["outcome"], f"{counted(one['count'], 'request')}, {first} to {last}"))
    return pairs


def _until(row: AuditRow) -> str:
    """Return when the last token ends, and how many have no known end."""
    known = f"{short_time(row['alive_until'])} UTC" if row["alive_until"] else ""
    unknown = f"{row['end_unknown']} with an end that the log does not show"
    return "; ".join([known] * bool(known) + [unknown] * bool(row["end_unknown"]))


def _table(
    title: str, columns: Sequence[Column], rows: Sequence[AuditRow], terminal: Terminal
) -> None:
    terminal.line()
    terminal.line(Styled(title, "bold"), "" if rows else "  none")
    if rows:
        fitted(terminal, columns, rows)


def _time(name: str) -> Column:
    header = f"{name.replace('_', ' ').upper()} (UTC)"
    return Column(header, lambda row: short_time(row[name]) if row[name] else "not known", 19)


def _text(header: str, name: str, least: int = 6) -> Column:
    return Column(header, lambda row: short_hashes(str(row[name] or "-")), least)


def _path(row: AuditRow) -> Piece:
    return f"{row['mount']}/{row['kind']}/{row['role']}"


def _ended(row: AuditRow) -> Piece:
    end = row["ended_by"]
    if end is None:
        return Styled("nothing", "yellow")
    after = f", {row['after_end']} after it" if row["after_end"] else ""
    return f"{end['kind']} {short_time(end['time'])}{after}"


def _end_of_token(row: AuditRow) -> Piece:
    if row["outcome"] != "granted":
        return Styled("no answer", "yellow")
    return short_time(row["alive_until"]) if row["alive_until"] else Styled("not known", "yellow")


def _request(row: AuditRow) -> Piece:
    run = f" (execution {row['execution']})" if row["execution"] else ""
    return f"{row['request_id']}{run}"


_MOUNTS = (
    Column("MOUNT", lambda row: row["mount"], 8, from_start=True),
    _text("TOKENS", "tokens"),
    _time("first"),
    _time("last"),
    _time("alive_until"),
    Column("ENDED BY", _ended, 10),
)
_GROUPS = (
    _text("APP", "app", 8),
    _text("AUTH", "auth"),
    Column("PATH", _path, 12, from_start=True),
    _text("TOKENS", "tokens"),
    Column("CTX", lambda row: f"{'>' * row['more_ctx']}{row['distinct_ctx']}", 3),
    _time("last"),
    _time("alive_until"),
)
_TOKENS = (
    _time("time"),
    _text("APP", "app", 8),
    Column("PATH", _path, 12, from_start=True),
    _text("CTX", "ctx", 8),
    Column("ALIVE UNTIL (UTC)", _end_of_token, 19),
    Column("REQUEST", _request, 12),
)
_ACTIONS = (
    _time("time"),
    Column("MOUNT", lambda row: row["mount"] or "-", 8, from_start=True),
    _text("CHANGE", "kind", 8),
    _text("OUTCOME", "outcome"),
    _text("KEY", "key_id", 8),
    _text("BY", "app", 6),
    _text("RUN", "run_id", 8),
)
