"""Counts and dates lines that could not be read, and identifies files that are no audit log."""

import re
from dataclasses import dataclass

import msgspec

from skyflowctl.audit.times import utc_text
from skyflowctl.errors import InvalidInputError

_TIME = re.compile(rb'"time\\?": {0,4}\\?"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?)Z\\?"')
_KEY_OF_TIME = b'"time'
_STARTS = (b'{"time":"', b'{\\"time\\":\\"')
SERVER_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\S{1,40} \[(?:TRACE|DEBUG|INFO|WARN|ERROR)\]")
"""The start of a line of the server's own log."""
_SHOWN = 40
_KEYS_SHOWN = 5
_KEY = re.compile(r"[A-Za-z0-9_.@-]{1,32}")

_MAGIC = (
    (b"\xfd7zXZ\x00", "it is compressed with xz", "decompress it first: xz -dk {name}"),
    (b"BZh91AY&SY", "it is compressed with bzip2", "decompress it first: bzip2 -dk {name}"),
    (b"\x04\x22\x4d\x18", "it is compressed with lz4", "decompress it first: lz4 -dk {name}"),
    (b"\x5d\x00\x00", "it is compressed with lzma", "decompress it first: lzma -dk {name}"),
    (b"\x1f\x9d", "it is compressed with compress", "decompress it first: zcat {name} > audit.log"),
    (b"PK\x03\x04", "it is a zip archive", "unpack it first: unzip {name}"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive", "unpack it first: 7z x {name}"),
    (b"\x7fELF", "it is a program", ""),
    (b"%PDF-", "it is a PDF document", ""),
    (b"\x89PNG", "it is an image", ""),
    (b"SQLite format 3\x00", "it is an SQLite database", ""),
    (b"\xff\xfe", "it is text in UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 {name}"),
    (b"\xfe\xff", "it is text in UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 {name}"),
)
_TAR_AT, _TAR = 257, b"ustar"
_FIX = "name the file of an audit device that writes JSON, as sys/audit lists it"


@dataclass(slots=True)
class Unread:
    """How many lines could not be read, and between which times.

    Args:
        lines: the number of lines.
        first: the earliest possible time; empty: from the start of a log.
        last: the latest possible time; empty: to the end of a log.
    """

    lines: int = 0
    first: str = "~"
    last: str = ""
    _to_the_end: bool = False

    def add(self, first: str, last: str, lines: int = 1) -> None:
        """Count lines between two times, given as text; empty if not known."""
        self.lines += lines
        self.first = min(self.first, first)
        self.last = max(self.last, last)
        self._to_the_end = self._to_the_end or not last

    def span(self) -> tuple[str, str]:
        """Return the times between which the lines lie; empty: the start or end of a log."""
        known = self.first != "~"
        return self.first if known else "", "" if self._to_the_end else self.last


class Dating:
    """Dates unreadable lines by their position among readable entries.

    A line has its own time if it contains one, else it lies between the entries around it.
    Lines between the same two entries share both times, so they are only counted. No text is
    searched more than twice, however many lines are unreadable.

    Args:
        unread: counts the lines with their times.
    """

    def __init__(self, unread: Unread) -> None:
        self._unread = unread
        self._entries = b""
        self._last = ""
        self._waiting = 0

    @property
    def last(self) -> str:
        """The time of the last entry so far; empty: none."""
        if self._entries:
            self._last = last_time_in(self._entries) or self._last
            self._entries = b""
        return self._last

    def readable(self, entries: bytes) -> None:
        """Record an entry, or a block of entries."""
        if self._waiting:
            self._date_waiting(time_in(entries))
        if _KEY_OF_TIME in entries:
            self._entries = entries

    def passed(self, first: str, last: str) -> None:
        """Record entries by their first and last time; empty: none is known."""
        if self._waiting:
            self._date_waiting(first)
        if last:
            self._entries, self._last = b"", last

    def _date_waiting(self, time: str) -> None:
        """Date the lines that wait for the time of the next entry."""
        if time:
            last = self.last
            self._unread.add(min(last, time), max(last, time), self._waiting)
            self._waiting = 0

    def unreadable(self, line: bytes) -> None:
        """Record a line that is no entry."""
        if own := time_in(line):
            self._unread.add(own, own)
        else:
            self._waiting += 1

    def end(self) -> None:
        """Record that no entry follows."""
        if self._waiting:
            self._unread.add(self.last, "", self._waiting)
            self._waiting = 0


def time_in(text: bytes) -> str:
    """Return the first time of an entry in this text, without its Z; empty: none."""
    match = _TIME.search(text)
    return utc_text(f"{match[1].decode()}Z") or "" if match else ""


def last_time_in(block: bytes) -> str:
    """Return the time of the last entry in a block of entries; empty: none."""
    last_line = block[block.rfind(b"\n", 0, -1) + 1 :]
    if time := time_in(last_line):
        return time
    at = max(block.rfind(start) for start in _STARTS)
    if at >= 0 and (time := time_in(block[at:])):
        return time
    # Entries with another first key, such as those of a writer that sorts the keys.
    at = len(block)
    while (at := block.rfind(_KEY_OF_TIME, 0, at)) >= 0:
        if (match := _TIME.match(block, at)) and (time := time_in(match[0])):
            return time
    return ""


def known_format(head: bytes) -> tuple[str, str] | None:
    """Return a known file format, by the first bytes, and what to do about it; else None."""
    for magic, what, fix in _MAGIC:
        if head.startswith(magic):
            return what, fix or _FIX
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "it is a tar archive", "unpack it first: tar -xf {name}"
    return None


def no_audit_log(name: str, head: bytes) -> InvalidInputError:
    """Return the error for a file without any readable entry.

    Args:
        name: the file's name as given.
        head: its first bytes, decompressed.
    """
    what, fix = known_format(head) or (_format_of_text(head), _FIX)
    return InvalidInputError(
        f"{name} is not an audit log: no line could be read",
        why=what,
        fix=fix.format(name=name),
        code="no-audit-log-file",
    )


def _format_of_text(head: bytes) -> str:
    """Describe the first line; only a prefix before JSON, and keys, are quoted from it."""
    if not head:
        return "it is compressed, and corrupt from the start"
    if b"\0" in head:
        return "it is not text: it contains NUL bytes"
    line = next((line for line in head.split(b"\n") if line.strip()), b"").strip()
    brace = line.find(b'{"')
    if line.startswith(b"{"):
        return _format_of_json(line)
    if brace > 0:
        before = line[:brace].decode(errors="replace")
        shown = before[:_SHOWN] + ("..." if len(before) > _SHOWN else "")
        return f"its first line has the unknown prefix {shown!r}"
    if SERVER_LINE.match(line):
        return "it is the server's own log, not an audit device's"
    return "its first line is not JSON"


def _format_of_json(line: bytes) -> str:
    try:
        whole = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "its first line is truncated JSON"
    keys = [key for key in whole if _KEY.fullmatch(key)] if isinstance(whole, dict) else []
    names = ", ".join(keys[:_KEYS_SHOWN]) or "none"
    return f"its lines are JSON, but not entries of an audit device (keys: {names})"
