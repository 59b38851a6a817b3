"""Limits the total time and the size of each answer.

The timeouts of http.client apply to one read, so a server that sends a byte now and then never
exceeds them.
"""

import http.client
import io
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from skyflowctl.vault.connection import NoResponseError

MOST_BYTES = 32 * 1024 * 1024
"""The largest body of an answer, decompressed."""

PIECE = 65_536
"""How much of a body is read at once, in bytes."""

_MOST_RECEIVED = MOST_BYTES + (1 << 20)  # room for the header, and for the sizes of chunks
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_ENDS: ContextVar[float | None] = ContextVar("skyflowctl_answer_ends", default=None)


class _AnswerTooLargeError(OSError):
    """The answer is larger than allowed."""


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Limit the time until the last byte of the answer, for the request sent in this block."""
    token = _ENDS.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS.reset(token)


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
        usual = self._sock.gettimeout()
        self._sock.settimeout(left)
        try:
            count = self._raw.readinto(buffer)
        finally:
            # The connection may be reused. A closed socket has no timeout.
            with suppress(OSError):
                self._sock.settimeout(usual)
        self._left -= count or 0
        if self._left < 0:
            raise _AnswerTooLargeError
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer that ends within the time of :func:`answer_within`."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        ends = _ENDS.get()
        if ends is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_BoundedReader(sock, raw, ends))


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
