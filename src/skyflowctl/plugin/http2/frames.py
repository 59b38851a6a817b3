"""Frames of HTTP/2 (RFC 9113, sections 4 and 6): their numbers, their bytes, their settings."""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = Struct(">HBBBL")
"""A frame's first 9 bytes: length (high 16 and low 8 bits), type, flags, stream."""
HEAD_SIZE = 9

MAX_FRAME = 16_384
"""The longest payload that either side sends before it is allowed more; we never allow more."""
FIRST_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1

_SETTING = Struct(">HL")
_LONG = Struct(">L")


class ErrorCode(IntEnum):
    """Why a stream or a connection ended (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class SettingId(IntEnum):
    """The settings of a connection (RFC 9113, section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Http2Error(Exception):
    """The peer broke a rule in a way that ends the connection; the text is for its log."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


class MalformedError(Exception):
    """A message breaks a rule of section 8.1.1, which ends its stream only."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    size = len(payload)
    return FRAME_HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, flags: int, max_frame: int) -> bytes:
    """Return a header block as HEADERS and, if it is long, CONTINUATION frames."""
    if len(block) <= max_frame:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[start : start + max_frame] for start in range(0, len(block), max_frame)]
    middle = [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    last = frame(CONTINUATION, END_HEADERS, stream, parts[-1])
    return b"".join([frame(HEADERS, flags, stream, parts[0]), *middle, last])


def settings_frame(values: dict[SettingId, int]) -> bytes:
    """Return a SETTINGS frame."""
    packed = b"".join(_SETTING.pack(name, value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, packed)


def reset_frame(stream: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _LONG.pack(code))


def window_frame(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _LONG.pack(increment))


def goaway_frame(last_stream: int, code: int, text: str = "") -> bytes:
    """Return a GOAWAY frame; ``text`` is for the peer's log."""
    return frame(GOAWAY, 0, 0, _LONG.pack(last_stream) + _LONG.pack(code) + text.encode())


def read_long(payload: bytes) -> int:
    """Return the number of a WINDOW_UPDATE (its first bit means nothing) or RST_STREAM frame.

    Raises:
        Http2Error: the payload is not 4 bytes long.
    """
    if len(payload) != 4:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "4 bytes were expected")
    return int.from_bytes(payload, "big")


def read_settings(payload: bytes, *, of_server: bool) -> Iterator[tuple[int, int]]:
    """Yield the settings of a frame, unknown ones too.

    Raises:
        Http2Error: the frame, or one value of a setting that we know, is not allowed.
    """
    if len(payload) % _SETTING.size:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "settings of 6 bytes each were expected")
    for name, value in _SETTING.iter_unpack(payload):
        if name == SettingId.ENABLE_PUSH and value > (0 if of_server else 1):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "this ENABLE_PUSH is not allowed")
        if name == SettingId.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if name == SettingId.MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
        yield name, value


def without_padding(flags: int, payload: bytes) -> bytes:
    """Return the payload of a DATA or HEADERS frame without its padding.

    Raises:
        Http2Error: the padding is longer than the payload.
    """
    if not flags & PADDED:
        return payload
    if not payload:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "the length of the padding is missing")
    if payload[0] >= len(payload):
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]
