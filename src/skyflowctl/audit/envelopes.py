"""Removes what surrounds an entry, line by line, and counts it by name.

An audit device may write a constant prefix before each entry. Container runtimes and syslog
wrap each line in their own envelope, and split long lines into parts.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from skyflowctl.audit.entries import (
    NOT_JSON,
    NUL_BYTES,
    Entry,
    SharedAuths,
    decode_all,
    decode_line,
    decode_lines,
)
from skyflowctl.audit.lines import MAX_LINE_BYTES, TOO_LONG, LineBlock, split_lines
from skyflowctl.audit.unread import SERVER_LINE, Dating, Unread, time_in

START = b'{"time":"'
"""How a server begins an entry."""
_BETWEEN = b"}\n" + START
_BRACE, _CLOSING, _NEWLINE = ord("{"), ord("}"), ord("\n")
_BOM = b"\xef\xbb\xbf"
_DOCKER_START = b'{"log":'
# Docker splits longer lines into parts of this size; some drivers drop the line's end.
_DOCKER_PART_BYTES = 16 << 10
_PREFIX_MAX = 256
_NAMES_MAX = 8
HEAD_BYTES = 4096
"""The bytes of a file's beginning that tell what it is."""

BYTE_ORDER_MARK, DOCKER, CRI, SYSLOG = "byte-order mark", "Docker JSON", "CRI", "syslog"
OTHER_PREFIXES = "other prefixes"
SERVER_LOG = "the server's own log"

_CRI = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP])(?: |$)")
# A line of a file (RFC 3164, or with an RFC 3339 time), or as sent (RFC 5424).
_SYSLOG = re.compile(
    rb"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S{8,24}) "
    rb"\S{1,255} [^\s:]{1,64}: ?"
    rb"|<\d{1,3}>1 (?:\S{1,255} ){5}(?:-|\[[^\]]{0,4096}\]) (?:\xef\xbb\xbf)?"
)
# Must not match a part of a split entry.
_PREFIX = re.compile(rb'[^"{}\\\x00-\x1f]{1,256}')


class _Docker(msgspec.Struct):
    """One line of Docker's json-file driver."""

    log: str
    stream: str = ""


_docker = msgspec.json.Decoder(_Docker).decode


def bare_lines(block: LineBlock, size: int, ends: list[int] | None = None) -> int:
    """Return the number of lines in a block of entries only; -1 if it may contain others.

    Args:
        block: whole lines.
        size: how many bytes of the block are meant.
        ends: gets the end of each line.
    """
    find, begins, count = block.find, block.startswith, 1
    if not begins(START) or find(b"\0", 0, size) >= 0:
        return -1
    end = size - 1 if block[size - 1] == _NEWLINE else size
    if block[end - 1] != _CLOSING:
        return -1
    at = find(b"\n", 0, end)
    while at >= 0:
        if not begins(_BETWEEN, at - 1):
            return -1
        count += 1
        if ends is not None:
            ends.append(at)
        at = find(b"\n", at + 1, end)
    if ends is not None:
        ends.append(end)
    return count


def entries_of(
    block: LineBlock, size: int, auths: SharedAuths | None = None
) -> tuple[Sequence[Entry], list[int]] | None:
    """Return the entries of a block and the end of each line; None if one line is no entry.

    Args:
        block: whole lines.
        size: how many bytes of the block are meant.
        auths: used for blocks of entries only, so that equal auths are mostly one object.
    """
    ends: list[int] = []
    if (count := bare_lines(block, size, ends)) >= 0:
        # No value goes on after a line's end, because none begins right after another one.
        entries = decode_lines(memoryview(block)[:size], auths)
        return (entries, ends) if entries is not None and len(entries) == count else None
    content = bytes(block[:size])
    lines = split_lines(content)
    entries = None if b"\0" in content else decode_all(lines)
    return None if entries is None else (entries, list(accumulate(map(len, lines), _next_end)))


def _next_end(end: int, size: int) -> int:
    return end + 1 + size


def has_entry(block: LineBlock, size: int) -> bool:
    """Return whether a block of so many bytes has an entry; it is not enough that its lines look
    like entries."""
    start = 0
    while start < size:
        end = block.find(b"\n", start, size)
        end = size if end < 0 else end
        if isinstance(decode_line(bytes(block[start:end])), Entry):
            return True
        start = end + 1
    return False


class Opener:
    """Reduces the blocks of one file to their entries.

    Args:
        damaged: counts the lines that could not be read, by reason.
        unread: gets the times of these lines.
        unwrapped: counts the lines that were in an envelope, by its name.
    """

    def __init__(self, damaged: Counter[str], unread: Unread, unwrapped: Counter[str]) -> None:
        self._damaged = damaged
        self._dating = Dating(unread)
        self._unwrapped = unwrapped
        self._parts: dict[bytes, bytearray] = {}
        self.lines = 0
        self.head = b""
        self.first = ""
        self.proved = False
        """Whether an entry was found."""

    @property
    def last(self) -> str:
        """The time of the last entry so far; empty: none."""
        return self._dating.last

    def open(self, block: bytes) -> bytes:
        """Return the entries of a block, one per line; other lines are counted."""
        lines = bare_lines(block, len(block))
        if lines >= 0:
            self.take(block, lines)
            return block
        return self.open_lines(block)

    def open_lines(self, block: bytes) -> bytes:
        """Return the same for a block that does not hold entries only."""
        self.head = self.head or block[:HEAD_BYTES]
        opened = b"\n".join(self._opened(block.split(b"\n")))
        if opened:
            self._look_into(opened)
        return opened

    def take(self, block: bytes, lines: int) -> None:
        """Record a block that contains entries only."""
        self.head = self.head or block[:HEAD_BYTES]
        self.lines += lines
        self._dating.readable(block)
        self._look_into(block)

    def pass_over(self, lines: int, head: bytes, first: str, last: str, *, proved: bool) -> None:
        """Record blocks of entries by what is known of them; see ``Sifted``."""
        self.head = self.head or head
        self.lines += lines
        self.first = self.first or first
        self.proved = self.proved or proved
        self._dating.passed(first, last)

    def close(self) -> None:
        """Record the end of the file."""
        for text in self._parts.values():
            if text:
                self._note(NOT_JSON, bytes(text))
        self._parts.clear()
        self._dating.end()

    def _look_into(self, block: bytes) -> None:
        """Record whether a block has a real entry, and the first time in it."""
        self.proved = self.proved or has_entry(block, len(block))
        if not self.first:
            self.first = time_in(block)

    def _opened(self, lines: list[bytes]) -> list[bytes]:
        found: list[bytes] = []
        for raw in lines:
            line = raw.strip(b" \t\r")
            if not line:
                continue
            self.lines += 1
            entry = self._entry(line)
            if entry is not None:
                self._dating.readable(entry)
                found.append(entry)
        return found

    def _entry(self, line: bytes) -> bytes | None:
        """Return the entry in a line; None if there is none, or only a part of one."""
        if line.startswith(_BOM):
            self._unwrapped[BYTE_ORDER_MARK] += 1
            line = line[len(_BOM) :]
        if line.startswith(_DOCKER_START):
            return self._of_docker(line)
        match = _CRI.match(line)
        if match is not None:
            text = line[match.end() :]
            return self._of_part(CRI, match[1], text, whole=match[2] == b"F")
        return self._bare(line, line)

    def _of_docker(self, line: bytes) -> bytes | None:
        try:
            found = _docker(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._note(NOT_JSON, line)
            return None
        text = found.log.encode("utf-8", "surrogatepass")
        stream = b"stderr" if found.stream == "stderr" else b"stdout"
        whole = text.endswith(b"\n") or (
            not self._parts.get(stream)
            and len(text) != _DOCKER_PART_BYTES
            and text[:1] == b"{"
            and text[-1:] == b"}"
        )
        return self._of_part(DOCKER, stream, text, whole=whole)

    def _of_part(self, name: str, stream: bytes, text: bytes, *, whole: bool) -> bytes | None:
        """Add a part of a line; return the entry once it is complete."""
        self._unwrapped[name] += 1
        held = self._parts.setdefault(stream, bytearray())
        held += text
        if not whole and len(held) <= MAX_LINE_BYTES:
            return None
        line = bytes(held)
        held.clear()
        if not whole:
            self._note(TOO_LONG, line)
            return None
        line = line.strip()
        if SERVER_LINE.match(line):
            # The runtime mixes the server's own log with the audit device's output.
            self._unwrapped[SERVER_LOG] += 1
            return None
        return self._bare(line, line) if line else None

    def _bare(self, line: bytes, whole: bytes) -> bytes | None:
        """Return a line without NULs and without a prefix."""
        if b"\0" in line:
            self._note(NUL_BYTES, whole)
            line = line.replace(b"\0", b"").strip()
            return line if line[:1] == b"{" and line[-1:] == b"}" else None
        if line[0] == _BRACE and line[-1] == _CLOSING:
            return line
        at = line.find(START)
        at = at if at >= 0 else line.find(b'{"')
        if at > 0 and line[-1] == _CLOSING and (name := _prefix_name(line[:at])):
            self._name(name)
            return line[at:]
        self._note(NOT_JSON, whole)
        return None

    def _name(self, name: str) -> None:
        """Count a line by its prefix; with too many different prefixes, the rest count as one."""
        if name not in self._unwrapped and len(self._unwrapped) >= _NAMES_MAX:
            name = OTHER_PREFIXES
        self._unwrapped[name] += 1

    def _note(self, reason: str, line: bytes) -> None:
        """Count a line that cannot be read, with its own time or the times around it."""
        self._damaged[reason] += 1
        self._dating.unreadable(line)


def _prefix_name(text: bytes) -> str:
    """Return the name of a prefix's format; empty if it is not known."""
    if _SYSLOG.fullmatch(text):
        return SYSLOG
    if len(text) <= _PREFIX_MAX and _PREFIX.fullmatch(text):
        return f"prefix {text.decode(errors='replace').strip()}"
    return ""
