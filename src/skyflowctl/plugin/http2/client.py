"""The calling side of gRPC, for unary calls."""

import asyncio
from collections import deque

from skyflowctl.plugin.http2.connection import Http2Connection
from skyflowctl.plugin.http2.frames import (
    MAX_WINDOW,
    ErrorCode,
    MalformedError,
    header_frames,
    reset_frame,
)
from skyflowctl.plugin.http2.grpc import (
    CONTENT_TYPE,
    MESSAGE_PREFIX,
    GrpcError,
    GrpcStatus,
    MessageReader,
    decode_message_text,
)
from skyflowctl.plugin.http2.headers import FieldTuple, HeaderList, check_reply
from skyflowctl.plugin.http2.sending import Http2Stream

# Digits of a grpc-status; one that is longer than a 32-bit number is none.
_STATUS_DIGITS = 10


class CallLostError(OSError):
    """The connection or the stream of a call ended before its reply."""


class _Reply:
    """What has arrived of a reply."""

    __slots__ = ("future", "head", "messages", "reader")

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future
        self.head: dict[bytes, bytes] | None = None
        self.reader = MessageReader()
        self.messages: list[bytes] = []


class GrpcClient(Http2Connection):
    """A connection to a gRPC server.

    Args:
        authority: the server's name, sent with every call.
    """

    is_server = False

    def __init__(self, authority: bytes) -> None:
        super().__init__()
        self._authority = authority
        self._leaving = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def usable(self) -> bool:
        """Whether a new call may be made."""
        return not (self.closed or self._leaving or self.next_stream > MAX_WINDOW)

    async def call(self, path: bytes, message: bytes) -> bytes:
        """Call a method, and return the reply's message.

        Raises:
            GrpcError: the server answered with another status than OK.
            CallLostError: there is no answer.
        """
        while self.usable and len(self.streams) >= self.max_peer_streams:
            await self._wait_for_place()
        if not self.usable or self.transport is None:
            raise CallLostError("the connection is closed")
        stream = Http2Stream(self.next_stream, self.first_window)
        self.next_stream += 2
        reply = stream.call = _Reply(self.loop.create_future())
        self.streams[stream.number] = stream
        block = self.writer.constant(self._request(path))
        head = header_frames(stream.number, block, 0, self.max_frame)
        self.send(stream, head, MESSAGE_PREFIX.pack(0, len(message)) + message, ())
        try:
            return await reply.future
        finally:
            if self.streams.get(stream.number) is stream:
                self._cancel(stream)

    def _cancel(self, stream: Http2Stream) -> None:
        """Give a call up. The server did not provoke this, so no bound for answers holds."""
        del self.streams[stream.number]
        self.write(reset_frame(stream.number, ErrorCode.CANCEL))
        self._stream_is_gone()

    def _request(self, path: bytes) -> FieldTuple:
        return (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", path),
            (b":authority", self._authority),
            (b"content-type", CONTENT_TYPE),
            (b"te", b"trailers"),
        )

    async def _wait_for_place(self) -> None:
        place = self.loop.create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            try:
                self._waiting.remove(place)
            except ValueError:  # its turn had come, and is now that of the next
                self._give_places()
            raise

    def _give_places(self) -> None:
        free = self.max_peer_streams - len(self.streams) if self.usable else len(self._waiting)
        while self._waiting and free > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    def settings_changed(self) -> None:
        """The server may allow more calls now."""
        self._give_places()

    # From the server

    def open_stream(self, number: int) -> Http2Stream | None:
        """Never called: a server opens no streams."""
        raise NotImplementedError

    def is_late(self, number: int) -> bool:
        """Ignore what still comes on our closed streams: any number of calls may be cancelled."""
        if self._is_idle(number):
            return False
        self._count_idle_frame()
        return True

    def headers_received(self, stream: Http2Stream, headers: HeaderList, *, end: bool) -> None:
        """Keep the headers; the trailers end the call."""
        reply: _Reply = stream.call
        try:
            fields = check_reply(headers, trailers=reply.head is not None)
            if reply.head is not None and not end:
                raise MalformedError("trailers that end nothing")
        except MalformedError:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if reply.head is None and fields[b":status"][:1] == b"1" and not end:
            return  # informational: the headers are still to come
        if reply.head is None:
            reply.head = fields
        if end:
            self._end(stream, fields)

    def data_arrived(self, stream: Http2Stream, content: bytes, *, end: bool) -> None:
        """Collect the message."""
        reply: _Reply = stream.call
        if reply.head is None:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        try:
            if reply.head[b":status"] == b"200":
                reply.messages += reply.reader.add(content)
        except GrpcError as fault:
            _fail(reply, fault)
            self.reset(stream, ErrorCode.CANCEL)
            return
        if end:
            self._end(stream, {})

    def _end(self, stream: Http2Stream, trailers: dict[bytes, bytes]) -> None:
        """Finish a call; a server may answer before it has read all."""
        reply: _Reply = stream.call
        try:
            message = _result(reply, trailers)
        except GrpcError as fault:
            _fail(reply, fault)
        else:
            if not reply.future.done():
                reply.future.set_result(message)
        if stream.unsent is not None:
            self.reset(stream, ErrorCode.CANCEL)
        self.streams.pop(stream.number, None)
        self._stream_is_gone()

    def side_done(self, stream: Http2Stream) -> None:
        """Nothing: the stream lives until the reply is complete."""

    def stream_ended(self, stream: Http2Stream, code: int) -> None:
        """Fail the call."""
        _fail(stream.call, CallLostError(f"the server ended the call with code {code}"))
        self._stream_is_gone()

    def _stream_is_gone(self) -> None:
        if self._waiting:
            self._give_places()
        if self._leaving and not self.streams:
            self.close_with()

    def peer_leaves(self, last_stream: int, _code: int, _text: str) -> None:
        """Fail the calls that the server will not answer; the others go on."""
        self._leaving = True
        for stream in [one for one in self.streams.values() if one.number > last_stream]:
            self.streams.pop(stream.number, None)
            _fail(stream.call, CallLostError("the server closes the connection"))
        self._give_places()
        self._stream_is_gone()

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Fail all calls."""
        self.closed = True
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            _fail(stream.call, CallLostError("the connection is lost"))
        self._give_places()


def _fail(reply: _Reply, error: Exception) -> None:
    if not reply.future.done():
        reply.future.set_exception(error)


def _result(reply: _Reply, trailers: dict[bytes, bytes]) -> bytes:
    """Return the message of a complete reply.

    Raises:
        GrpcError: the status is not OK, or what arrived is no reply.
    """
    head = reply.head or {}
    if head[b":status"] != b"200":
        text = f"HTTP status {head[b':status'].decode('ascii', 'replace')}"
        raise GrpcError(GrpcStatus.UNKNOWN, text)
    if not head.get(b"content-type", b"").startswith(CONTENT_TYPE):
        raise GrpcError(GrpcStatus.UNKNOWN, "the answer is no gRPC")
    status = trailers.get(b"grpc-status", b"")
    if not status.isdigit() or len(status) > _STATUS_DIGITS:
        raise GrpcError(GrpcStatus.UNKNOWN, "the answer has no status")
    if int(status):
        raise GrpcError(int(status), decode_message_text(trailers.get(b"grpc-message", b"")))
    if len(reply.messages) != 1 or reply.reader.rest:
        raise GrpcError(GrpcStatus.INTERNAL, "one message was expected")
    return reply.messages[0]
