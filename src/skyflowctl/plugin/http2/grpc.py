"""gRPC on top of HTTP/2: messages, statuses and timeouts, as its protocol description says."""

import re
from enum import IntEnum
from struct import Struct

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message; a server's own limit of a request's body is half of it by default."""
MESSAGE_PREFIX = Struct(">BL")
"""Whether the message is compressed, and its length."""
PREFIX_SIZE = 5
CONTENT_TYPE = b"application/grpc"

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# What may stand in a grpc-message as it is: printable ASCII without the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class GrpcStatus(IntEnum):
    """The statuses that this plugin gives or expects."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class GrpcError(Exception):
    """A call ends with this status instead of a reply."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def status_name(self) -> str:
        """The status in words."""
        known = self.status in GrpcStatus._value2member_map_
        return GrpcStatus(self.status).name if known else f"gRPC status {self.status}"


class MessageReader:
    """Cuts the content of one direction of a call into messages."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest(self) -> int:
        """How many bytes of an incomplete message have arrived."""
        return len(self._buffer)

    def add(self, content: bytes) -> list[bytes]:
        """Return the messages that are complete with this piece of content.

        Raises:
            GrpcError: a message is compressed or too long.
        """
        buffer = self._buffer
        whole = not buffer and len(content) >= PREFIX_SIZE
        if whole and message_size(content) == len(content) - PREFIX_SIZE:
            return [content[PREFIX_SIZE:]]  # nearly always a piece is one message
        buffer += content
        messages = []
        while len(buffer) >= PREFIX_SIZE:
            end = PREFIX_SIZE + message_size(buffer)
            if len(buffer) < end:
                break
            messages.append(bytes(buffer[PREFIX_SIZE:end]))
            del buffer[:end]
        return messages


def message_size(content: bytes | bytearray) -> int:
    """Return the length that a message's prefix names.

    Raises:
        GrpcError: the message is compressed or too long.
    """
    compressed, size = MESSAGE_PREFIX.unpack_from(content)
    if compressed:
        raise GrpcError(GrpcStatus.UNIMPLEMENTED, "compressed messages are not understood")
    if size > MAX_MESSAGE:
        raise GrpcError(GrpcStatus.RESOURCE_EXHAUSTED, "the message is too long")
    return int(size)


def encode_message_text(text: str) -> bytes:
    """Return a ``grpc-message``: UTF-8, percent-encoded where it is not printable ASCII."""
    from urllib.parse import quote  # for a failure only

    return quote(text, safe=_PLAIN, encoding="utf-8", errors="replace").encode("ascii")


def decode_message_text(value: bytes) -> str:
    """Return the text of a ``grpc-message``; never fails."""
    from urllib.parse import unquote

    return unquote(value.decode("utf-8", "replace"), errors="replace")


def read_timeout(value: bytes) -> float:
    """Return the seconds of a ``grpc-timeout``.

    Raises:
        GrpcError: it is not of the form that the protocol describes.
    """
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise GrpcError(GrpcStatus.UNKNOWN, "Invalid grpc-timeout header")
    return int(found[1]) * _UNITS[found[2]]
