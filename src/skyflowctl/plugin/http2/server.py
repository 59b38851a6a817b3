"""The serving side of gRPC: finds the method of a call, and writes its reply."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.plugin.http2.connection import MAX_STREAMS, Http2Connection
from skyflowctl.plugin.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    ErrorCode,
    Http2Error,
    MalformedError,
    frame,
    header_frames,
)
from skyflowctl.plugin.http2.grpc import (
    CONTENT_TYPE,
    MESSAGE_PREFIX,
    GrpcError,
    GrpcStatus,
    MessageReader,
    encode_message_text,
    read_timeout,
)
from skyflowctl.plugin.http2.headers import HeaderList, check_reply, check_request
from skyflowctl.plugin.http2.sending import Http2Stream

_LOG = logging.getLogger(__name__)

_REPLY = ((b":status", b"200"), (b"content-type", CONTENT_TYPE))
_DONE = ((b"grpc-status", b"0"),)
# What is no metadata for the method that is called.
_OWN_FIELDS = frozenset(
    {
        b":method",
        b":scheme",
        b":path",
        b":authority",
        b"content-type",
        b"te",
        b"user-agent",
        b"grpc-timeout",
        b"grpc-accept-encoding",
        b"content-length",
    }
)
_CONTENT_TYPES = frozenset({CONTENT_TYPE, CONTENT_TYPE + b"+proto"})
# Deadlines that are closer to each other than this are looked at together.
_DEADLINE_STEP = 0.01
_WRITTEN_STEP, _WRITTEN_STEPS = 0.005, 200
# Digits of a content-length; int() refuses numbers of some thousand.
_LENGTH_DIGITS = 19

Metadata = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method with one message each way.

    Args:
        parse: reads the caller's message.
        answer: returns the reply, which has ``SerializeToString``.
        quick: returns the reply to a message that needs no waiting, else None.
        afterwards: called when the reply is written.
    """

    parse: Callable[[bytes], Any]
    answer: Callable[[Any, Metadata], Awaitable[Any]]
    quick: Callable[[Any], Any] | None = None
    afterwards: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class ListenMethod:
    """A method that takes messages and sends none.

    Args:
        parse: reads a message.
        listen: gets each message.
        stays: the call stays open when the caller has said all.
    """

    parse: Callable[[bytes], Any]
    listen: Callable[[Any], None]
    stays: bool = False


Methods = Mapping[bytes, UnaryMethod | ListenMethod]


class _Call:
    """A call on its stream."""

    __slots__ = ("deadline", "expected", "head_sent", "messages", "metadata", "method", "reader",
                 "size", "task")  # fmt: skip

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self.method: UnaryMethod | ListenMethod | None = None
        self.metadata: Metadata = {}
        self.reader = MessageReader()
        self.messages: list[bytes] = []
        self.task: asyncio.Task[None] | None = None
        self.deadline = inf
        self.head_sent = False
        self.size = 0
        self.expected: int | None = None
        if b"content-length" in fields:
            length = fields[b"content-length"]
            if not length.isdigit() or len(length) > _LENGTH_DIGITS:
                raise MalformedError("content-length is not a number")
            self.expected = int(length)


class ServerConnection(Http2Connection):
    """The connection of one caller.

    Args:
        methods: by path, such as ``/pb.Backend/Setup``.
        on_made: called when the connection can be used.
        on_lost: called when it is lost, before its calls are cancelled.
    """

    def __init__(
        self,
        methods: Methods,
        on_made: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._methods = methods
        self._on_made, self._on_lost = on_made, on_lost
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say so."""
        super().connection_made(transport)
        self._on_made()

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Cancel all calls."""
        self.closed = True
        self._on_lost()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self.streams.clear()

    # From the caller

    def open_stream(self, number: int) -> Http2Stream | None:
        """Refuse more calls than we allow; a cancelled one counts until its work has ended."""
        if max(len(self.streams), len(self._tasks)) >= MAX_STREAMS:
            return None
        stream = self.streams[number] = Http2Stream(number, self.first_window)
        return stream

    def headers_received(self, stream: Http2Stream, headers: HeaderList, *, end: bool) -> None:
        """Begin a call, or end its content with trailers."""
        try:
            if stream.call is None:
                fields = check_request(headers)
                stream.call = _Call(fields)
                self.start_call(stream, fields)
            elif not end:
                raise MalformedError("trailers that end nothing")
            else:
                check_reply(headers, trailers=True)
            if end:
                self._end_content(stream)
        except MalformedError:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)

    def data_arrived(self, stream: Http2Stream, content: bytes, *, end: bool) -> None:
        """Collect the messages of a call."""
        call: _Call = stream.call
        call.size += len(content)
        try:
            if call.method is not None:
                self._take(stream, call.reader.add(content))
            if end:
                self._end_content(stream)
        except GrpcError as fault:
            self.end_with(stream, fault)
        except MalformedError:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)

    def _end_content(self, stream: Http2Stream) -> None:
        call: _Call = stream.call
        if call.expected is not None and call.size != call.expected:
            raise MalformedError("content-length is not the length of the content")
        if stream.number in self.streams:
            self.content_ended(stream)

    def stream_ended(self, stream: Http2Stream, _code: int) -> None:
        """Cancel the call."""
        call = stream.call
        if call is not None and call.task is not None:
            call.task.cancel()

    # gRPC

    def start_call(self, stream: Http2Stream, fields: dict[bytes, bytes]) -> None:
        """Find the method; refuse what is no gRPC."""
        if fields[b":method"] != b"POST":
            self._refuse(stream, b"405", "Method Not Allowed")
        elif fields.get(b"content-type") not in _CONTENT_TYPES:
            self._refuse(stream, b"415", "Unacceptable content-type header")
        elif fields.get(b"te") != b"trailers":
            self._refuse(stream, b"400", 'Required "te: trailers" header is missing')
        else:
            try:
                self._find_method(stream, fields)
            except GrpcError as fault:
                self.end_with(stream, fault)

    def _find_method(self, stream: Http2Stream, fields: dict[bytes, bytes]) -> None:
        call: _Call = stream.call
        method = self._methods.get(fields[b":path"])
        if method is None:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, "Method not found")
        timeout = fields.get(b"grpc-timeout")
        if timeout is not None:
            call.deadline = self.loop.time() + read_timeout(timeout)
            self._watch(call.deadline)
        call.metadata = {
            name.decode("ascii", "replace"): value.decode("utf-8", "replace")
            for name, value in fields.items()
            if name not in _OWN_FIELDS
        }
        call.method = method
        if type(method) is ListenMethod:
            self.write(
                header_frames(stream.number, self.writer.constant(_REPLY), 0, self.max_frame)
            )
            call.head_sent = True

    def _take(self, stream: Http2Stream, messages: list[bytes]) -> None:
        method = stream.call.method
        if type(method) is ListenMethod:
            for message in messages:
                method.listen(_parsed(method, message))
        else:
            stream.call.messages += messages

    def content_ended(self, stream: Http2Stream) -> None:
        """Answer a unary call; end the call of a listener."""
        call: _Call = stream.call
        method = call.method
        if type(method) is ListenMethod:
            if not method.stays:
                self._end(stream, _DONE)
        elif type(method) is UnaryMethod:
            try:
                self._answer(stream, call, method)
            except GrpcError as fault:
                self.end_with(stream, fault)

    def _answer(self, stream: Http2Stream, call: _Call, method: UnaryMethod) -> None:
        if len(call.messages) != 1 or call.reader.rest:
            raise GrpcError(GrpcStatus.INTERNAL, "one message was expected")
        message = _parsed(method, call.messages[0])
        reply = method.quick(message) if method.quick else None
        if reply is not None:
            self._reply(stream, _encoded(reply))
            return
        task = self.loop.create_task(self._work(stream, method, message))
        call.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, stream: Http2Stream, method: UnaryMethod, message: Any) -> None:
        try:
            reply = _encoded(await method.answer(message, stream.call.metadata))
        except GrpcError as error:
            self.end_with(stream, error)
            return
        except Exception:  # noqa: BLE001 - the caller gets an answer in any case
            _LOG.exception("a method failed")
            self.end_with(stream, GrpcError(GrpcStatus.UNKNOWN, "Internal Server Error"))
            return
        self._reply(stream, reply)
        if method.afterwards:
            self._when_written(method.afterwards)

    # Replies

    def _reply(self, stream: Http2Stream, message: bytes) -> None:
        """Send headers, the message and trailers as one piece if the windows allow it."""
        number = stream.number
        if self.streams.get(number) is not stream:
            return  # cancelled in the meantime
        head = frame(HEADERS, END_HEADERS, number, self.writer.constant(_REPLY))
        self.send(stream, head, MESSAGE_PREFIX.pack(0, len(message)) + message, _DONE)

    def end_with(self, stream: Http2Stream, fault: GrpcError) -> None:
        """End a call with a status instead of a reply, and stop its work."""
        if self.streams.get(stream.number) is not stream or stream.unsent is not None:
            return
        fields = [(b"grpc-status", b"%d" % fault.status)]
        if fault.message:
            fields.append((b"grpc-message", encode_message_text(fault.message)))
        self._end(stream, fields)

    def _refuse(self, stream: Http2Stream, status: bytes, text: str) -> None:
        message = (b"grpc-message", encode_message_text(text))
        fields = [(b":status", status), (b"grpc-status", b"2"), message]
        stream.call.head_sent = True
        self._end(stream, fields)

    def _end(self, stream: Http2Stream, fields: Iterable[tuple[bytes, bytes]]) -> None:
        call: _Call = stream.call
        block = self.writer.single([*(() if call.head_sent else _REPLY), *fields])
        self.write(header_frames(stream.number, block, END_STREAM, self.max_frame))
        self.side_done(stream)
        if call.task is not None:
            call.task.cancel()

    def side_done(self, stream: Http2Stream) -> None:
        """Forget a stream; if the caller has more to say, it is not needed any more."""
        if not stream.peer_done:
            self._give_up(stream.number, ErrorCode.NO_ERROR)
        self.streams.pop(stream.number, None)

    def _when_written(self, function: Callable[[], None], steps: int = _WRITTEN_STEPS) -> None:
        """Call a function when all is handed to the operating system, or after a second."""
        self.flush()
        if self.transport is None or not steps or not self.transport.get_write_buffer_size():
            function()
        else:
            self.loop.call_later(_WRITTEN_STEP, self._when_written, function, steps - 1)

    # Deadlines

    def _watch(self, deadline: float) -> None:
        """Make sure that the deadlines are looked at no later than this one.

        Nearly all calls end before their deadline, so there is one timer for all.
        """
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        try:
            self._end_late_calls()
        except Http2Error as error:  # too many resets, and the caller does not read
            self.close_with(error.code, error.text)

    def _end_late_calls(self) -> None:
        now, following = self.loop.time(), inf
        for stream in list(self.streams.values()):
            if stream.call is None:
                continue
            if stream.call.deadline <= now:
                self.end_with(stream, GrpcError(GrpcStatus.DEADLINE_EXCEEDED, ""))
            else:
                following = min(following, stream.call.deadline)
        if following < inf:
            self._watch(max(following, now + _DEADLINE_STEP))


def _parsed(method: UnaryMethod | ListenMethod, message: bytes) -> Any:
    try:
        return method.parse(message)
    except Exception:  # noqa: BLE001 - whatever the parser says, the message is the caller's
        raise GrpcError(GrpcStatus.INTERNAL, "the message cannot be read") from None


def _encoded(reply: Any) -> bytes:
    try:
        message: bytes = reply.SerializeToString()
    except Exception:  # noqa: BLE001 - the caller gets an answer in any case
        _LOG.exception("a reply cannot be encoded")
        raise GrpcError(GrpcStatus.INTERNAL, "the reply cannot be encoded") from None
    return message
