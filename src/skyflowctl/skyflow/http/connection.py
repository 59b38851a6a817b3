"""One HTTP/1.1 client connection: one request at a time, kept open between them.

h11 reads and writes the protocol, asyncio moves the bytes; no thread is involved, so
cancelling the task that waits is all it takes to give up an exchange.
"""

import asyncio

import h11

from skyflowctl.frozen import dataclass

MAXIMUM_BODY = 64 * 1024
_MAXIMUM_HEAD = 16 * 1024


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A reply.

    Args:
        status: the HTTP status.
        headers: names in lower case.
        body: at most 64 KiB.
        truncated: the body was larger; the rest was not read.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    truncated: bool = False

    def header(self, name: bytes) -> str:
        """Return the first value of a header, or an empty text."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return ""


class ConnectionBrokenError(Exception):
    """The connection ended before the whole reply was there.

    Args:
        reason: the cause, in a few words.
        untouched: no byte of a reply had arrived.
    """

    def __init__(self, reason: str, *, untouched: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.untouched = untouched


class HttpConnection(asyncio.Protocol):
    """The protocol of one connection; its owner gives it one request at a time."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAXIMUM_HEAD)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[HttpAnswer] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._untouched = True
        self.uses = 0
        self.idle_since = loop.time()

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._wire.our_state is h11.IDLE
        )

    async def send(self, request: h11.Request, body: bytes) -> HttpAnswer:
        """Send a request and return the reply.

        The caller that is cancelled here must :meth:`abort` the connection.

        Raises:
            ConnectionBrokenError: it ended, or what came is not HTTP.
        """
        assert self._transport is not None
        self._head, self._untouched = None, True
        self._body.clear()
        self.uses += 1
        self._waiter = asyncio.get_running_loop().create_future()
        parts = [self._wire.send(event) for event in (request, h11.Data(body), h11.EndOfMessage())]
        # One write: head and body in two segments can cost 40 ms (delayed ACK).
        self._transport.write(b"".join(part for part in parts if part))
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def abort(self) -> None:
        """Close at once, without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the socket is closed."""
        await asyncio.shield(self._closed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio calls this)."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take bytes from the other side (asyncio calls this)."""
        if self._waiter is None:
            # No request was sent: these bytes could be mistaken for the next reply.
            self.abort()
            return
        self._untouched = False
        try:
            self._wire.receive_data(data)
            self._read_events()
        except h11.RemoteProtocolError:
            self._fail("the answer is not HTTP/1.1")

    def eof_received(self) -> bool:
        """Finish a reply that ends with the connection (asyncio calls this)."""
        if self._waiter is not None and not self._untouched:
            try:
                self._wire.receive_data(b"")
                self._read_events()
            except h11.RemoteProtocolError:
                self._fail("the connection ended in the middle of the answer")
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Wake the waiting task (called by asyncio)."""
        if not self._closed.done():
            self._closed.set_result(None)
        where = "before" if self._untouched else "in the middle of"
        self._fail(f"the connection ended {where} the answer")

    def _read_events(self) -> None:
        while True:
            event = self._wire.next_event()
            if isinstance(event, h11.Response):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAXIMUM_BODY:
                    self._finish(truncated=True)
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._finish(truncated=False)
                return
            elif not isinstance(event, h11.InformationalResponse):
                return

    def _finish(self, *, truncated: bool) -> None:
        assert self._head is not None
        body = bytes(self._body[:MAXIMUM_BODY])
        headers = tuple(self._head.headers)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(HttpAnswer(self._head.status_code, headers, body, truncated))
        both_done = self._wire.our_state is h11.DONE and self._wire.their_state is h11.DONE
        if both_done and not self._wire.trailing_data[0]:
            self._wire.start_next_cycle()
        else:
            self.abort()

    def _fail(self, reason: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionBrokenError(reason, untouched=self._untouched))
        self.abort()
