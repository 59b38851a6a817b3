"""Token requests from an audit log, as JSON, CSV and text."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyflowctl.audit.as_json import unread_json
from skyflowctl.audit.changes import SIGN, error_text
from skyflowctl.audit.model import Counts, RequestOutcome, TokenRequest
from skyflowctl.audit.query import full_mount
from skyflowctl.cli.console import Column, Piece, Styled, Terminal, fitted, has_room, packed
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
_HASH = re.compile(r"hmac-sha256:([0-9a-f]{8})[0-9a-f]{56}")
_NARROW, _WIDE, _FULL = 0, 100, 150

AuditRow = Mapping[str, Any]


def request_json(one: TokenRequest) -> dict[str, Any]:
    """Return a request as a JSON object; a missing value is null."""
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
        "error": error_text(one.error) or None,
        "kind": one.path,
        "execution": one.execution or None,
    }


def cells(row: AuditRow) -> list[Any]:
    """Return a request's CSV cells; names in one cell are separated by a blank."""
    found = (row[name] for name in FIELDS)
    return [" ".join(value) if isinstance(value, list) else value for value in found]


FIELDS = (
    *("time", "app", "claimed_app", "auth", "mount", "role", "ctx", "ctx_hashed", "outcome"),
    *("request_id", "node", "run_id", "key_id", "remote_address", "wrapped", "unwrapped_by"),
    *("approved_by", "error", "kind", "execution"),
)
"""Of :func:`request_json`, in their order: the columns of CSV."""


def scan_counts(counts: Counts) -> dict[str, Any]:
    """Return the counts of a scan as a JSON object."""
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
    """Return a text about what was read, and what could not be used.

    Args:
        read: of :func:`scan_counts`.
        all_lines: False if most lines were not decoded, so that pairs mean nothing.
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
    """Return a text about what was found; if parts could not be read, it may be incomplete."""
    return found if certain else f"{found} in what could be read"


def note_wrapped(text: str, terminal: Terminal) -> None:
    """Write a note to stderr; on a terminal wrap it at blanks."""
    lines = [text]
    if terminal.interactive_err:
        lines = textwrap.wrap(text, terminal.width, break_long_words=False, break_on_hyphens=False)
    for line in lines:
        terminal.note(line)


def short_hashes(text: str) -> str:
    """Return a text with every hash cut to its first 8 digits."""
    return _HASH.sub(r"hmac:\1…", text)


def short_time(text: str) -> str:
    """Return an RFC 3339 time in UTC, shortened, without a fraction."""
    return text[:19].replace("T", " ")


def outcome_piece(row: AuditRow) -> Piece:
    """Return a granted request's result in one word, such as "signed"; else its outcome."""
    word = row["outcome"]
    if word == RequestOutcome.GRANTED.value:
        shown = "wrapped" if row["wrapped"] else "signed" if row["kind"] == SIGN else word
        return Styled(shown, "green")
    return Styled(word, OUTCOME_STYLES[word])


def _text(name: str) -> Callable[[AuditRow], Piece]:
    return lambda row: row[name] or "-"


def _role(row: AuditRow) -> Piece:
    """Return the role; in a request for signed data tokens, as in its path."""
    role: str = row["role"] or "-"
    return f"{SIGN}/{role}" if row["kind"] == SIGN else role


def _ctx(row: AuditRow) -> Piece:
    text = short_hashes(row["ctx"] or "-")
    return Styled(text, "dim") if row["ctx_hashed"] else text


_COLUMNS: Sequence[tuple[int, Column]] = (
    (_NARROW, Column("TIME (UTC)", lambda row: short_time(row["time"]), least=19)),
    (_NARROW, Column("APP", _text("app"), least=8)),
    (_WIDE, Column("AUTH", _text("auth"), least=6)),
    (_FULL, Column("CLAIMED APP", _text("claimed_app"), least=8)),
    (_NARROW, Column("MOUNT", _text("mount"), least=7, from_start=True)),
    (_NARROW, Column("ROLE", _role, least=8)),
    (_NARROW, Column("CTX", _ctx, least=8)),
    (_NARROW, Column("OUTCOME", outcome_piece, least=7)),
    (_FULL, Column("NODE", _text("node"), least=6)),
    (_FULL, Column("REQUEST", _text("request_id"), least=36)),
)


class StreamedTable:
    """Writes rows as they come, in columns whose widths the first of them decide; where the
    terminal has no room for a row's cells, in a block for each row. No cell is cut."""

    _FIRST = 500

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._columns: Sequence[Column] = ()
        self._first: list[AuditRow] | None = []
        self._widths: Sequence[int] = ()

    def add(self, row: AuditRow) -> None:
        """Add a row; it is written now, or with the first ones."""
        if self._first is None:
            self._write(row)
            return
        self._first.append(row)
        if len(self._first) >= self._FIRST:
            self.flush()

    def flush(self) -> None:
        """Write the first rows, if they are still buffered."""
        first, terminal = self._first, self._terminal
        if not first:
            return
        self._first = None
        levels = [level for level in (_FULL, _WIDE, _NARROW) if terminal.width >= level]
        shown = ([column for width, column in _COLUMNS if width <= level] for level in levels)
        self._columns = next((one for one in shown if has_room(terminal, one, first)), ())
        if self._columns:
            self._widths = fitted(terminal, self._columns, first)
            return
        for row in first:
            self._write(row)

    def _write(self, row: AuditRow) -> None:
        if self._columns and has_room(self._terminal, self._columns, [row]):
            fitted(self._terminal, self._columns, [row], widths=self._widths)
        else:
            _show_block(row, self._terminal)


def _show_block(row: AuditRow, terminal: Terminal) -> None:
    """Write the cells of a table's row, each on its own line."""
    auth = f" ({row['auth']})" if row["auth"] else ""
    head = [short_time(row["time"]), outcome_piece(row), f"{row['app'] or '-'}{auth}"]
    packed(terminal, head)
    ctx = [f"ctx {short_hashes(row['ctx'])}"] if row["ctx"] else []
    packed(terminal, [_path(row), *ctx], "  ")


def _path(row: AuditRow) -> str:
    return f"{row['mount']}/{row['kind']}/{row['role']}"


def show_request(row: AuditRow, terminal: Terminal) -> None:
    """Write everything about one request."""
    head = [short_time(row["time"]), "  ", outcome_piece(row)]
    terminal.line(Styled(_path(row), "bold"), "  ", *head)
    names = ("app", "auth", "claimed_app", "ctx", "unwrapped_by", "error", "key_id", "run_id")
    pairs = [(name, row[name]) for name in (*names, "remote_address", "request_id", "node")]
    pairs.append(("approved_by", ", ".join(row["approved_by"])))
    pairs.append(("execution", row["execution"]))
    terminal.fields([pair for pair in pairs if pair[1]], "  ")
