"""Limits the total time and the size of each answer.

The timeouts of http.client apply to one read, so a server that sends a byte now and then never
exceeds them.
"""

import http.client
import io
import re
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from skyflowctl.vault.connection import NoResponseError

MOST_BYTES = 32 * 1024 * 1024
"""The largest body of an answer, decompressed."""

PIECE = 65_536
"""How much of a body is read at once, in bytes."""

_MOST_RECEIVED = MOST_BYTES + (1 << 20)  # room for the header, and for the sizes of chunks
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_MOST_FIELDS = 100  # as in the standard library, like the next
_LONGEST_LINE = 65_536
_HEAD_ENDS = frozenset({b"\r\n", b"\n", b""})
_ORDINARY = re.compile(r"(?:[A-Za-z0-9-]+: [ -~]*\r\n)+\r\n")


class _AnswerTooLargeError(OSError):
    """The answer is larger than allowed."""


class _BoundedReader(io.RawIOBase):
    """Reads a socket until a point in time, then raises TimeoutError; it also counts bytes."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, ends: float) -> None:
        self._sock = sock
        self._raw = raw
        self._ends = ends
        self._left = _MOST_RECEIVED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise _AnswerTooLargeError
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer that ends in time.

    Args:
        sock: receives it; its timeout is changed.
        method: of the request.
        ends: the time of its last byte at the latest, as of ``time.monotonic()``.
    """

    def __init__(self, sock: socket.socket, method: str, ends: float) -> None:
        super().__init__(sock, method=method)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_BoundedReader(sock, raw, ends))

    def begin(self) -> None:
        """Read the status and the headers, by the rules of the standard library.

        Its own function parses every head as an e-mail, a quarter of the CPU of a request.

        Raises:
            HTTPException: it is no HTTP answer.
        """
        status = http.client.CONTINUE
        while status == http.client.CONTINUE:
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
            fields = self._read_fields()
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version in {"HTTP/1.0", "HTTP/0.9"} else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = self.msg = fields
        self.chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        if status in {http.client.NO_CONTENT, http.client.NOT_MODIFIED} or status < 200:
            self.length = 0
        else:
            self.length = None if self.chunked else _length(fields.get("content-length", ""))
        unlimited = self.length is None and not self.chunked
        self.will_close = self._check_close() or unlimited  # type: ignore[attr-defined]

    def _read_fields(self) -> Any:
        """Return the headers: a dict, or the standard library's object for an unusual head."""
        lines: list[bytes] = []
        while not lines or lines[-1] not in _HEAD_ENDS:
            lines.append(self.fp.readline(_LONGEST_LINE + 1))
            if len(lines) > _MOST_FIELDS or len(lines[-1]) > _LONGEST_LINE:
                break  # refused below
        head = b"".join(lines)
        text = head.decode("iso-8859-1")
        if len(lines) <= _MOST_FIELDS and _ORDINARY.fullmatch(text):
            pairs = [line.partition(": ") for line in text.split("\r\n")[:-2]]
            fields = {name.lower(): value.lstrip() for name, _, value in pairs}
            if len(fields) == len(pairs):
                return fields
        return http.client.parse_headers(io.BytesIO(head))


def _length(text: str) -> int | None:
    """Return the length that a Content-Length names; None if it names none."""
    try:
        length = int(text)
    except ValueError:
        return None
    return length if length >= 0 else None


def read_body(pieces: Iterable[bytes], encoding: str) -> bytes:
    """Return the whole body of an answer, decompressed.

    Args:
        pieces: the parts of the body, as received.
        encoding: the answer's Content-Encoding; empty for none.

    Raises:
        NoResponseError: the body is larger than :data:`MOST_BYTES`, truncated, late or malformed.
    """
    found: list[bytes] = []
    size = 0
    try:
        for piece in _unpacked(pieces, encoding.strip().lower()):
            size += len(piece)
            if size > MOST_BYTES:
                raise _AnswerTooLargeError
            found.append(piece)
    except _AnswerTooLargeError:
        reason = f"the answer is larger than {MOST_BYTES >> 20} MiB"
        raise NoResponseError(reason, broken=True, lasting=True) from None
    except TimeoutError:
        raise NoResponseError("the answer did not end in time") from None
    except zlib.error:
        raise NoResponseError("its content cannot be decompressed", broken=True) from None
    except (OSError, ValueError, http.client.HTTPException):
        raise NoResponseError("the answer is cut short", broken=True) from None
    return b"".join(found)


def _unpacked(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield a body decompressed, in pieces that cannot fill the memory.

    Raises:
        zlib.error: it is not compressed as its header says.
    """
    if encoding in {"", "identity"}:
        yield from pieces
        return
    if encoding not in _ENCODINGS:
        raise zlib.error("it has an encoding that was not requested")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    empty = True
    for piece in pieces:
        rest, empty = piece, False
        while rest:
            yield unpacker.decompress(rest, PIECE)
            rest = unpacker.unconsumed_tail
    yield unpacker.flush()
    if unpacker.unused_data or not (unpacker.eof or empty):
        raise zlib.error("it has no end, or something follows it")
