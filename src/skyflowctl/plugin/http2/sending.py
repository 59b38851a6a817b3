"""The sending half of a connection: gathered writes, and content within the peer's windows."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from skyflowctl.plugin.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME_HEAD,
    HEADERS,
    MAX_FRAME,
    MAX_WINDOW,
    ErrorCode,
    Http2Error,
    frame,
)
from skyflowctl.plugin.http2.headers import FieldTuple, HeaderWriter

# Answers to the peer's own frames that may wait because it does not read.
_MAX_WAITING_ANSWERS = 1_000


class Http2Stream:
    """One stream; it lives until both sides are done and the last byte is written.

    Args:
        number: the stream's identifier.
        window: how much content the peer allows us.
    """

    __slots__ = (
        "call",
        "number",
        "peer_done",
        "queued",
        "tail",
        "unacknowledged",
        "unsent",
        "window",
    )

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.unacknowledged = 0
        self.peer_done = False
        self.unsent: memoryview | None = None
        self.tail: FieldTuple = ()
        self.queued = False
        self.call: Any = None


class FrameSender(asyncio.Protocol):
    """Writes to the transport: what one turn of the event loop produces becomes one write."""

    streams: dict[int, Http2Stream]

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.writer = HeaderWriter()
        self.max_frame = MAX_FRAME
        self.max_peer_streams = MAX_WINDOW
        self.first_window = FIRST_WINDOW
        self.next_stream = 1  # of ours
        self._window = FIRST_WINDOW
        self._out: list[bytes] = []
        self._paused = False
        self._waiting_answers = 0
        self._queue: deque[Http2Stream] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def pause_writing(self) -> None:
        """Send no more content: the peer does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with the content that waits."""
        self._paused, self._waiting_answers = False, 0
        self._send_queued()

    def write(self, data: bytes) -> None:
        """Write frames at the end of this turn of the event loop."""
        if not self._out:
            self.loop.call_soon(self.flush)
        self._out.append(data)

    def write_control(self, data: bytes) -> None:
        """Write an answer to a frame of the peer.

        Raises:
            Http2Error: the peer asks more and more, but does not read.
        """
        if self._paused:
            self._waiting_answers += 1
            if self._waiting_answers > _MAX_WAITING_ANSWERS:
                raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the answers are not read")
        self.write(data)

    def flush(self) -> None:
        """Write at once what was gathered."""
        if self._out and self.transport is not None:
            out, self._out = self._out, []
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def send(self, stream: Http2Stream, head: bytes, content: bytes, tail: FieldTuple) -> None:
        """Send headers, content and the end of our side of a stream: once for each.

        Args:
            stream: an open stream.
            head: the frames of the headers.
            content: sent as the peer's windows allow.
            tail: the trailers, encoded when their turn comes; without any the content ends the
                stream.
        """
        size = len(content)
        if size > min(stream.window, self._window, self.max_frame):
            self.write(head)
            stream.unsent, stream.tail = memoryview(content), tail
            self._enqueue(stream)
            self._send_queued()
            return
        stream.window -= size
        self._window -= size
        flags = 0 if tail else END_STREAM
        data_head = FRAME_HEAD.pack(size >> 8, size & 0xFF, DATA, flags, stream.number)
        self.write(b"".join((head, data_head, content, self._trailers(stream, tail))))
        self.side_done(stream)

    def _trailers(self, stream: Http2Stream, tail: FieldTuple) -> bytes:
        if not tail:
            return b""
        block = self.writer.constant(tail)
        return frame(HEADERS, END_HEADERS | END_STREAM, stream.number, block)

    def side_done(self, stream: Http2Stream) -> None:
        """Handle that the last byte of our side was handed over."""
        raise NotImplementedError

    def _enqueue(self, stream: Http2Stream) -> None:
        if not stream.queued:
            stream.queued = True
            self._queue.append(stream)

    def _send_queued(self) -> None:
        """Send a frame of each stream in turn while the windows allow it."""
        queue = self._queue
        while queue and self._window > 0 and not self._paused:
            stream = queue.popleft()
            stream.queued = False
            if stream.unsent is None or self.streams.get(stream.number) is not stream:
                continue
            if self._send_part(stream, stream.unsent) and stream.window > 0:
                self._enqueue(stream)
            self._flush_large()

    def _send_part(self, stream: Http2Stream, content: memoryview) -> bool:
        """Send one frame of a stream's content; True if there is more."""
        size = max(0, min(len(content), stream.window, self._window, self.max_frame))
        last = size == len(content)
        if not size and not last:
            return True  # its next WINDOW_UPDATE brings it back
        stream.window -= size
        self._window -= size
        flags = END_STREAM if last and not stream.tail else 0
        self.write(frame(DATA, flags, stream.number, bytes(content[:size])))
        stream.unsent = None if last else content[size:]
        if last:
            self.write(self._trailers(stream, stream.tail))
            self.side_done(stream)
        return not last

    def _flush_large(self) -> None:
        """Hand over what is gathered, so that the transport can ask us to pause."""
        if len(self._out) >= 16:
            self.flush()

    def widen_connection(self, increment: int) -> None:
        """Add to the window that all streams share.

        Raises:
            Http2Error: it is too large then.
        """
        self._window += increment
        if self._window > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        self._send_queued()

    def widen_stream(self, stream: Http2Stream, increment: int) -> bool:
        """Add to a stream's window; False if it is too large then."""
        stream.window += increment
        if stream.window > MAX_WINDOW:
            return False
        self._bring_back(stream)
        return True

    def _bring_back(self, stream: Http2Stream) -> None:
        if stream.unsent is not None and stream.window > 0:
            self._enqueue(stream)
            self._send_queued()

    def change_first_window(self, size: int, streams: Iterable[Http2Stream]) -> None:
        """Obey the peer's INITIAL_WINDOW_SIZE, which changes open streams too.

        Raises:
            Http2Error: the window of a stream is too large then.
        """
        difference, self.first_window = size - self.first_window, size
        for stream in list(streams):
            stream.window += difference
            if stream.window > MAX_WINDOW:
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
            self._bring_back(stream)
