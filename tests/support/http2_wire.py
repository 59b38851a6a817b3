"""HTTP/2 by hand: a transport in memory, frames to send, and frames that were sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hpack import Decoder, Encoder

from skyflowctl.plugin.http2.connection import Http2Connection
from skyflowctl.plugin.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    settings_frame,
)
from skyflowctl.plugin.http2.grpc import MESSAGE_PREFIX
from skyflowctl.plugin.http2.server import ListenMethod, ServerConnection, UnaryMethod

CALL = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/test.Test/Echo"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


@dataclass
class Sent:
    """One frame that the connection sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; ``pause`` acts as a peer that does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self.unread = 0

    def write(self, data: Any) -> None:
        self.writes += 1
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return self.unread


class Message:
    """A message whose encoding is itself."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def SerializeToString(self) -> bytes:
        return self.content


@dataclass
class Wire:
    """A connection of ours and the other side, played by hand."""

    connection: Http2Connection
    transport: MemoryTransport = field(default_factory=MemoryTransport)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)

    def start(self, settings: dict[Any, int] | None = None) -> Wire:
        self.connection.connection_made(self.transport)
        self.connection.data_received(
            (PREFACE if self.connection.is_server else b"") + settings_frame(settings or {})
        )
        self.connection.data_received(frame(SETTINGS, ACK, 0))
        self.sent()
        return self

    def receive(self, *frames: bytes) -> None:
        self.connection.data_received(b"".join(frames))

    def sent(self) -> list[Sent]:
        """What was sent since the last look, gathered writes included."""
        self.connection.flush()
        data = bytes(self.transport.written)
        self.transport.written.clear()
        data = data.removeprefix(PREFACE)
        frames = list(split(data))
        for one in frames:  # in their order, or the decoder's table is another
            if one.kind == HEADERS:
                one.fields = dict(self.decoder.decode(one.payload))
        return frames

    def headers(
        self, stream: int, fields: Iterable[tuple[str, str]], *, end: bool = False
    ) -> bytes:
        block = self.encoder.encode(list(fields))
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def call(self, stream: int, message: bytes = b"hello", path: str = "", **more: str) -> bytes:
        """A unary call, whole."""
        fields = [*CALL, *((name.replace("_", "-"), value) for name, value in more.items())]
        if path:
            fields[2] = (":path", path)
        return self.headers(stream, fields) + data(stream, message, end=True)


def split(stream: bytes) -> Iterable[Sent]:
    position = 0
    while position < len(stream):
        high, low, kind, flags, number = FRAME_HEAD.unpack_from(stream, position)
        end = position + 9 + (high << 8 | low)
        assert end <= len(stream), "half a frame was written"
        yield Sent(kind, flags, number, stream[position + 9 : end])
        position = end


def data(stream: int, message: bytes, *, end: bool = False) -> bytes:
    """A DATA frame of one gRPC message."""
    return frame(
        DATA, END_STREAM if end else 0, stream, MESSAGE_PREFIX.pack(0, len(message)) + message
    )


def goaway_code(frames: list[Sent]) -> int | None:
    """The code of the GOAWAY among the frames."""
    for one in frames:
        if one.kind == GOAWAY:
            return int.from_bytes(one.payload[4:8], "big")
    return None


def reset_code(frames: list[Sent], stream: int) -> int | None:
    """The code with which a stream was reset."""
    for one in frames:
        if (one.kind, one.stream) == (RST_STREAM, stream):
            return int.from_bytes(one.payload, "big")
    return None


class EchoMethods:
    """Methods of a test server, and what was seen of their calls."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.begun: list[bytes] = []
        self.cancelled = 0
        self.metadata: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.after: list[str] = []

    async def echo(self, message: bytes, metadata: dict[str, str]) -> Message:
        self.metadata = dict(metadata)
        return Message(message)

    async def wait(self, message: bytes, metadata: dict[str, str]) -> Message:
        self.begun.append(message)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Message(message)

    async def crash(self, message: bytes, metadata: dict[str, str]) -> Message:
        raise RuntimeError("private")

    async def size(self, message: bytes, metadata: dict[str, str]) -> Message:
        return Message(b"x" * int(message))

    def served(self) -> dict[bytes, UnaryMethod | ListenMethod]:
        methods: dict[str, UnaryMethod | ListenMethod] = {
            "Echo": UnaryMethod(bytes, self.echo),
            "Wait": UnaryMethod(bytes, self.wait),
            "Crash": UnaryMethod(bytes, self.crash),
            "Size": UnaryMethod(bytes, self.size),
            "Quick": UnaryMethod(bytes, self.crash, quick=Message),
            "Last": UnaryMethod(bytes, self.echo, afterwards=lambda: self.after.append("done")),
            "Listen": ListenMethod(bytes, self.heard.append),
            "Stay": ListenMethod(bytes, self.heard.append, stays=True),
        }
        return {f"/test.Test/{name}".encode(): method for name, method in methods.items()}


def server_wire(methods: EchoMethods, settings: dict[Any, int] | None = None) -> Wire:
    """A started server connection with these methods."""
    return Wire(ServerConnection(methods.served())).start(settings)


async def turns(count: int = 4) -> None:
    """Let the event loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)
