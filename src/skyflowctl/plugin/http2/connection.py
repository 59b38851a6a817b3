"""One HTTP/2 connection, of either side: what every frame means, whatever is sent in it.

:class:`Http2Connection` answers all that RFC 9113 prescribes and calls the methods of its
subclass with headers, data and ends of streams. ``server.py`` and ``client.py`` are the two.
"""

import asyncio
from collections import deque

from skyflowctl.plugin.http2.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    HEAD_SIZE,
    MAX_FRAME,
    MAX_WINDOW,
    PING,
    PREFACE,
    PRIORITIZED,
    SETTINGS,
    ErrorCode,
    Http2Error,
    SettingId,
    frame,
    goaway_frame,
    read_long,
    read_settings,
    reset_frame,
    settings_frame,
    window_frame,
    without_padding,
)
from skyflowctl.plugin.http2.headers import MAX_HEADER_LIST, HeaderList, HeaderReader
from skyflowctl.plugin.http2.sending import FrameSender, Http2Stream

MAX_STREAMS = 10_000
"""Calls at once; with a library's usual 100, one mount's slow requests would block another's in
a shared process."""

# What the peer may send before it is allowed more. Memory is bounded by the streams (MAX_MESSAGE
# of grpc.py each), so a window only has to be large enough not to slow a body down.
_STREAM_WINDOW = 4 * 1024 * 1024
_CONNECTION_WINDOW = 16 * 1024 * 1024

# Frames without content that a peer may send within a second. A server that cancels all its
# calls at once stays below.
_MAX_IDLE_FRAMES = 50_000
_REMEMBERED_STREAMS = 1_000
_GAPS = 100


class Http2Connection(FrameSender):
    """Parses what arrives; the side that it is on is that of the subclass."""

    is_server = True

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[int, Http2Stream] = {}
        self.closed = False
        self._reader = HeaderReader()
        self._rest = b""
        self._expects_preface = self.is_server
        self._expects_settings = True
        self._last_stream = 0  # of the peer
        self._gaps: deque[range] = deque(maxlen=_GAPS)
        self._given_up: deque[int] = deque(maxlen=_REMEMBERED_STREAMS)
        self._block: list[bytes] = []
        self._block_of = (0, 0, 0)  # stream, flags, size so far
        self._unacknowledged = 0
        self._idle_frames = 0
        self._idle_since = 0.0
        self._handlers = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )

    # A side implements these.

    def headers_received(self, stream: Http2Stream, headers: HeaderList, *, end: bool) -> None:
        """Handle the headers or trailers of a stream."""
        raise NotImplementedError

    def data_arrived(self, stream: Http2Stream, content: bytes, *, end: bool) -> None:
        """Handle content of a stream; ``end`` says that it was the last."""
        raise NotImplementedError

    def stream_ended(self, stream: Http2Stream, code: int) -> None:
        """Handle a stream that ended early, by the peer or by us."""
        raise NotImplementedError

    def open_stream(self, number: int) -> Http2Stream | None:
        """Return the new stream of the peer, or None if it is refused."""
        raise NotImplementedError

    def peer_leaves(self, last_stream: int, code: int, text: str) -> None:
        """Handle GOAWAY: the peer will answer no stream of ours after ``last_stream``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings at once."""
        super().connection_made(transport)
        mine = {
            SettingId.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingId.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            SettingId.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
        }
        if not self.is_server:
            mine = {SettingId.ENABLE_PUSH: 0, **mine}
        greeting = settings_frame(mine) + window_frame(0, _CONNECTION_WINDOW - 65_535)
        self.write(greeting if self.is_server else PREFACE + greeting)

    def data_received(self, data: bytes) -> None:
        """Handle the frames that are complete."""
        if self.closed:
            return
        try:
            self._parse(data)
        except Http2Error as error:
            self.close_with(error.code, error.text)

    def close_with(self, code: ErrorCode = ErrorCode.NO_ERROR, text: str = "") -> None:
        """Send GOAWAY and close when all is written."""
        if not self.closed and self.transport is not None:
            self.closed = True
            self.write(goaway_frame(self._last_stream, code, text))
            self.flush()
            self.transport.close()

    # Parsing.

    def _parse(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        if self._expects_preface:
            if data[: len(PREFACE)] != PREFACE[:end]:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            if end < len(PREFACE):
                self._rest = data
                return
            self._expects_preface, position = False, len(PREFACE)
        while end - position >= HEAD_SIZE and not self.closed:
            high, low, kind, flags, stream = FRAME_HEAD.unpack_from(data, position)
            size = high << 8 | low
            if size > MAX_FRAME:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "the frame is too long")
            start = position + HEAD_SIZE
            if end - start < size:
                break
            position = start + size
            self._check_order(kind, flags, stream & MAX_WINDOW)
            if kind <= CONTINUATION:
                self._handlers[kind](flags, stream & MAX_WINDOW, data[start:position])
            else:
                self._count_idle_frame()
        self._rest = data[position:]

    def _check_order(self, kind: int, flags: int, stream: int) -> None:
        if self._expects_settings:
            if kind != SETTINGS or flags & ACK:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "SETTINGS must come first")
            self._expects_settings = False
        if self._block and (kind != CONTINUATION or stream != self._block_of[0]):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a header block is not complete")

    def _count_idle_frame(self) -> None:
        """Count a frame that carries no work; too many of them are an attack."""
        self._idle_frames += 1
        if self._idle_frames >= _MAX_IDLE_FRAMES:
            now = self.loop.time()
            if now - self._idle_since < 1.0:
                raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without content")
            self._idle_frames, self._idle_since = 0, now

    # HEADERS, CONTINUATION

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "HEADERS without a stream")
        payload = without_padding(flags, payload)
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "the priority is missing")
            if read_long(payload[:4]) & MAX_WINDOW == number:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._on_block(number, payload, end=bool(flags & END_STREAM))
        else:
            self._block, self._block_of = [payload], (number, flags, len(payload))

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if not self._block:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._count_idle_frame()
        _, first_flags, size = self._block_of
        size += len(payload)
        if size > MAX_HEADER_LIST:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large")
        self._block.append(payload)
        self._block_of = (number, first_flags, size)
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._on_block(number, block, end=bool(first_flags & END_STREAM))

    def _on_block(self, number: int, block: bytes, *, end: bool) -> None:
        headers = self._reader.decode(block)
        stream = self.streams.get(number)
        if stream is None:
            stream = self._new_stream(number)
            if stream is None:
                return
        elif stream.peer_done:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        if end:
            stream.peer_done = True
        self.headers_received(stream, headers, end=end)

    def _new_stream(self, number: int) -> Http2Stream | None:
        """Return the stream that these headers open; None if they are to be ignored."""
        if number <= self._last_stream or not self._is_peers(number):
            if not self.is_late(number):
                self._refuse_number(number)
            return None
        if number > self._last_stream + 2:
            self._gaps.append(range(self._last_stream + 2, number, 2))
        self._last_stream = number
        stream = self.open_stream(number)
        if stream is None:
            self._count_idle_frame()
            self._give_up(number, ErrorCode.REFUSED_STREAM)
        return stream

    def is_late(self, number: int) -> bool:
        """Return whether what the peer still sends on a closed stream is to be ignored."""
        return number in self._given_up

    def _refuse_number(self, number: int) -> None:
        if self._is_idle(number) or any(number in gap for gap in self._gaps):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a stream of this number cannot be opened")
        raise Http2Error(ErrorCode.STREAM_CLOSED, "the stream is closed")

    def _is_peers(self, number: int) -> bool:
        return self.is_server and number % 2 == 1

    def _is_idle(self, number: int) -> bool:
        """Return whether no stream of this number was ever open."""
        if self._is_peers(number):
            return number > self._last_stream
        return not number or self.is_server or number % 2 == 0 or number >= self.next_stream

    # DATA

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._acknowledge(size)
        content = without_padding(flags, payload)
        end = bool(flags & END_STREAM)
        if not content and not end:
            self._count_idle_frame()
        stream = self.streams.get(number)
        if stream is None or stream.peer_done:
            self._refuse_data(number, stream)
            return
        stream.unacknowledged += size
        if stream.unacknowledged > _STREAM_WINDOW:
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if end:
            stream.peer_done = True
        elif stream.unacknowledged >= _STREAM_WINDOW // 2:
            self.write(window_frame(number, stream.unacknowledged))
            stream.unacknowledged = 0
        self.data_arrived(stream, content, end=end)

    def _refuse_data(self, number: int, stream: Http2Stream | None) -> None:
        if stream is not None:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
        elif self._is_idle(number):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "DATA for a stream that is not open")
        elif not self.is_late(number):
            self._count_idle_frame()
            self._give_up(number, ErrorCode.STREAM_CLOSED)

    def _acknowledge(self, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged > _CONNECTION_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than was allowed")
        if self._unacknowledged >= _CONNECTION_WINDOW // 2:
            self.write(window_frame(0, self._unacknowledged))
            self._unacknowledged = 0

    # Ends of streams

    def _on_reset(self, _flags: int, number: int, payload: bytes) -> None:
        code = read_long(payload)
        if self._is_idle(number):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "RST_STREAM for a stream that is not open")
        self._count_idle_frame()
        stream = self.streams.pop(number, None)
        if stream is not None:
            self.stream_ended(stream, code)

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """End a stream with RST_STREAM."""
        if self.streams.pop(stream.number, None) is not None:
            self._give_up(stream.number, code)
            self.stream_ended(stream, code)

    def _give_up(self, number: int, code: ErrorCode) -> None:
        """Send RST_STREAM; what the peer has sent until it arrives is ignored."""
        self._given_up.append(number)
        self.write_control(reset_frame(number, code))

    # SETTINGS, PING, GOAWAY, WINDOW_UPDATE, PRIORITY, PUSH_PROMISE

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & ACK and payload:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with content")
        if flags & ACK:
            return
        self._count_idle_frame()
        settings = list(read_settings(payload, of_server=not self.is_server))
        self.write_control(frame(SETTINGS, ACK, 0))  # before the content that they allow
        for name, value in settings:
            if name == SettingId.HEADER_TABLE_SIZE:
                self.writer.limit_table(value)
            elif name == SettingId.INITIAL_WINDOW_SIZE:
                self.change_first_window(value, self.streams.values())
            elif name == SettingId.MAX_FRAME_SIZE:
                self.max_frame = value
            elif name == SettingId.MAX_CONCURRENT_STREAMS:
                self.max_peer_streams = value
        self.settings_changed()

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a PING has 8 bytes")
        if not flags & ACK:
            self._count_idle_frame()
            self.write_control(frame(PING, ACK, 0, payload))

    def _on_goaway(self, _flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY has at least 8 bytes")
        last_stream = read_long(payload[:4]) & MAX_WINDOW
        self.peer_leaves(last_stream, read_long(payload[4:8]), payload[8:].decode(errors="replace"))

    def _on_window_update(self, _flags: int, number: int, payload: bytes) -> None:
        increment = read_long(payload) & MAX_WINDOW
        if not increment and not number:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "an increment of 0")
        if not number:
            self.widen_connection(increment)
            return
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "an update of a stream not open")
            self._count_idle_frame()
        elif not increment:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        elif not self.widen_stream(stream, increment):
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)

    def _on_priority(self, _flags: int, number: int, payload: bytes) -> None:
        """Check the frame, and ignore it: RFC 9113 has given priorities up."""
        self._count_idle_frame()
        if not number:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        wrong_size = len(payload) != 5
        if not wrong_size and read_long(payload[:4]) & MAX_WINDOW != number:
            return
        code = ErrorCode.FRAME_SIZE_ERROR if wrong_size else ErrorCode.PROTOCOL_ERROR
        if number not in self.streams:
            raise Http2Error(code, "a PRIORITY that cannot be right")
        self.reset(self.streams[number], code)

    def _on_push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE is not allowed")

    def settings_changed(self) -> None:
        """Go on with what waited for other settings."""
