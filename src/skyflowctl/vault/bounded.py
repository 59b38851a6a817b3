"""Limits the total time and the size of each answer.

The timeouts of requests and urllib3 apply to one read, so a server that sends a byte now and
then never exceeds them.
"""

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import DecodeError

MOST_BYTES = 32 * 1024 * 1024
"""The largest body of an answer, decompressed."""

_PIECE = 4096  # small: one piece of compressed content must not fill the memory
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_ENDS: ContextVar[float | None] = ContextVar("skyflowctl_answer_ends", default=None)


class AnswerTooLargeError(Exception):
    """The body is larger than :data:`MOST_BYTES`."""


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Limit the time until the last byte of the answer, for the request sent in this block."""
    token = _ENDS.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS.reset(token)


class _TimedReader(io.RawIOBase):
    """Reads a socket until a point in time, then raises TimeoutError."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, ends: float) -> None:
        self._sock = sock
        self._raw = raw
        self._ends = ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        usual = self._sock.gettimeout()
        self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        finally:
            # The connection may be reused. A closed socket has no timeout.
            with suppress(OSError):
                self._sock.settimeout(usual)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        ends = _ENDS.get()
        if ends is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_TimedReader(sock, raw, ends))


class TimedConnection(HTTPConnection):
    """A connection with a limit on the total time of each answer."""

    response_class = _TimedResponse


class _TimedTlsConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedPool(HTTPConnectionPool):
    ConnectionCls = TimedConnection


class _TimedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


TIMED_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _TimedPool, "https": _TimedTlsPool}


def read_body(raw: BaseHTTPResponse) -> bytes:
    """Return the whole body of an answer, decompressed.

    Raises:
        AnswerTooLargeError: the body is larger than :data:`MOST_BYTES`.
        HTTPError: the body is truncated, late or malformed.
    """
    if raw.headers.get("content-encoding", "").strip().lower() not in _ENCODINGS:
        raise DecodeError("it has an encoding that was not requested")
    pieces: list[bytes] = []
    size = 0
    for piece in raw.stream(_PIECE, decode_content=True):
        size += len(piece)
        if size > MOST_BYTES:
            raise AnswerTooLargeError
        pieces.append(piece)
    return b"".join(pieces)
