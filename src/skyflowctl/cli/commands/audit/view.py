"""Token requests out of an audit log, as JSON, as CSV and as people read them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyflowctl.audit.as_json import unread_json
from skyflowctl.audit.model import Counts, RequestOutcome, TokenRequest
from skyflowctl.audit.query import full_mount
from skyflowctl.cli.console import Column, Piece, Styled, Terminal, fitted
from skyflowctl.clock import rfc3339
from skyflowctl.text import counted

OUTCOME_STYLES: Mapping[str, str] = {
    "granted": "green",
    "denied": "red",
    "refused": "yellow",
    "failed": "magenta",
    "unknown": "dim",
    "pending": "cyan",
}
_COUNTING = re.compile(r"\d+ errors? occurred:")
_HASH = re.compile(r"hmac-sha256:([0-9a-f]{8})[0-9a-f]{56}")
_NARROW, _WIDE, _FULL = 0, 100, 150

AuditRow = Mapping[str, Any]


def request_json(one: TokenRequest) -> dict[str, Any]:
    """Return a request as an object for JSON: what is not there is null."""
    return {
        "time": rfc3339(one.time),
        "app": one.caller.app or None,
        "claimed_app": one.claimed_app or None,
        "auth": one.caller.auth or None,
        "mount": full_mount(one),
        "role": one.role,
        "ctx": one.ctx or None,
        "ctx_hashed": one.ctx_hashed,
        "outcome": one.outcome.value,
        "request_id": one.request_id,
        "node": one.node,
        "run_id": one.run_id or None,
        "key_id": one.key_id or None,
        "remote_address": one.remote_address or None,
        "wrapped": one.wrapped,
        "unwrapped_by": one.unwrapped_by or None,
        "approved_by": list(one.approved_by),
        "error": error_words(one.error) or None,
    }


def cells(row: AuditRow) -> list[Any]:
    """Return a request's cells of CSV; names in one cell have a blank between."""
    found = (row[name] for name in FIELDS)
    return [" ".join(value) if isinstance(value, list) else value for value in found]


def error_words(error: str) -> str:
    """Return a response's error in one line, without the server's counting."""
    lines = [line.strip().removeprefix("* ") for line in error.splitlines()]
    return "; ".join(line for line in lines if line and not _COUNTING.fullmatch(line))


FIELDS = (
    *("time", "app", "claimed_app", "auth", "mount", "role", "ctx", "ctx_hashed", "outcome"),
    *("request_id", "node", "run_id", "key_id", "remote_address", "wrapped", "unwrapped_by"),
    *("approved_by", "error"),
)
"""Of :func:`request_json`, in their order: the columns of CSV."""


def scan_counts(counts: Counts) -> dict[str, Any]:
    """Return what was read as an object for JSON."""
    return {
        "files": counts.files,
        "bytes": counts.bytes,
        "lines": counts.lines,
        "damaged": dict(counts.damaged),
        "duplicates": counts.duplicates,
        "forwards": counts.forwards,
        "unpaired": counts.unpaired,
        **unread_json(counts),
    }


def read_words(read: Mapping[str, Any], *, all_lines: bool = True) -> str:
    """Say what was read, and what of it could not be used.

    Args:
        read: of :func:`scan_counts`.
        all_lines: False where most were not decoded: pairs then mean nothing.
    """
    words = f"{counted(read['lines'], 'line')} of {counted(read['files'], 'file')}"
    notes = [
        f"{number} {word}"
        for number, word in (
            (read["duplicates"], "logged twice"),
            (read["forwards"], "forwarded by a standby"),
            (read["unpaired"] if all_lines else 0, "without a pair"),
        )
        if number
    ]
    notes += [f"{number} unwrapped ({name})" for name, number in read["unwrapped"].items()]
    if read["damaged"]:
        reasons = ", ".join(f"{word} {number}" for word, number in read["damaged"].items())
        notes.append(f"{sum(read['damaged'].values())} damaged ({reasons})")
    return f"{words} read" + (f"; {', '.join(notes)}" if notes else "")


def found_words(found: str, *, certain: bool) -> str:
    """Say what was found; where parts could not be read, that it may not be all."""
    return found if certain else f"{found} in what could be read"


def short_hashes(text: str) -> str:
    """Return a text with every hash cut to its first 8 digits."""
    return _HASH.sub(r"hmac:\1…", text)


def short_time(text: str) -> str:
    """Return an RFC 3339 time in UTC as people read it, without a fraction."""
    return text[:19].replace("T", " ")


def outcome_piece(row: AuditRow) -> Piece:
    """Return how a request ended; one that was granted behind a wrapping token says so."""
    word = row["outcome"]
    if row["wrapped"] and word == RequestOutcome.GRANTED.value:
        return Styled("wrapped", "green")
    return Styled(word, OUTCOME_STYLES[word])


def _text(name: str) -> Callable[[AuditRow], Piece]:
    return lambda row: row[name] or "-"


def _ctx(row: AuditRow) -> Piece:
    text = short_hashes(row["ctx"] or "-")
    return Styled(text, "dim") if row["ctx_hashed"] else text


_COLUMNS: Sequence[tuple[int, Column]] = (
    (_NARROW, Column("TIME (UTC)", lambda row: short_time(row["time"]), least=19)),
    (_NARROW, Column("APP", _text("app"), least=8)),
    (_WIDE, Column("AUTH", _text("auth"), least=6)),
    (_FULL, Column("CLAIMED APP", _text("claimed_app"), least=8)),
    (_NARROW, Column("MOUNT", _text("mount"), least=7, from_start=True)),
    (_NARROW, Column("ROLE", _text("role"), least=8)),
    (_NARROW, Column("CTX", _ctx, least=8)),
    (_NARROW, Column("OUTCOME", outcome_piece, least=7)),
    (_FULL, Column("NODE", _text("node"), least=6)),
    (_FULL, Column("REQUEST", _text("request_id"), least=36)),
)


def table_columns(terminal: Terminal) -> Sequence[Column]:
    """Return the columns that a terminal of this width has room for."""
    shown = [column for width, column in _COLUMNS if terminal.width >= width]
    if terminal.width >= _WIDE:
        return shown
    return [_SHORT.get(column.header, column) for column in shown]


_SHORT = {
    # Without the year, and without the prefix that mounts have by default.
    "TIME (UTC)": Column("TIME (UTC)", lambda row: short_time(row["time"])[5:], least=14),
    "MOUNT": Column(
        "MOUNT", lambda row: row["mount"].removeprefix("skyflow/"), least=7, from_start=True
    ),
}


class StreamedTable:
    """Writes rows as they come, in columns whose widths the first of them decide."""

    _FIRST = 500

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._columns = table_columns(terminal)
        self._first: list[AuditRow] | None = []
        self._widths: Sequence[int] = ()

    def add(self, row: AuditRow) -> None:
        """Take a row; it is written now, or with the first ones."""
        if self._first is None:
            fitted(self._terminal, self._columns, [row], widths=self._widths)
            return
        self._first.append(row)
        if len(self._first) >= self._FIRST:
            self.flush()

    def flush(self) -> None:
        """Write the first rows, if they wait."""
        if self._first:
            self._widths = fitted(self._terminal, self._columns, self._first)
            self._first = None


def show_request(row: AuditRow, terminal: Terminal) -> None:
    """Write everything about one request."""
    head = [short_time(row["time"]), "  ", outcome_piece(row)]
    terminal.line(Styled(f"{row['mount']}/creds/{row['role']}", "bold"), "  ", *head)
    names = ("app", "auth", "claimed_app", "ctx", "unwrapped_by", "error", "key_id", "run_id")
    pairs = [(name, row[name]) for name in (*names, "remote_address", "request_id", "node")]
    pairs.append(("approved_by", ", ".join(row["approved_by"])))
    terminal.fields([pair for pair in pairs if pair[1]], "  ")
