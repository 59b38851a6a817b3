"""A small HTTPS server: HTTP/1.1 with keep-alive, each reply in one write.

Headers and body leave in one segment and Nagle's algorithm is off: written separately
they made every exchange 44 ms long (measured).
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field

import h11

from skyflowctl.frozen import dataclass

MAX_BODY = 1_048_576
_READ_SIZE = 65_536
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. ``target`` is path and query as sent, header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One reply.

    Args:
        status: the HTTP status.
        body: sent as it is.
        headers: all of them but content-length.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, connection: "ClientConnection") -> bool:
        """Send it; return False when the connection cannot be used again."""
        connection.writer.write(connection.encode(self))
        await connection.writer.drain()
        return True


Session = Callable[[HttpRequest], Awaitable[HttpReply]]


class HttpServer:
    """Serves connections until it is stopped.

    Args:
        open_session: called once for each connection; what it returns answers that
            connection's requests, one after the other.
    """

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open_session = open_session
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take connections on a listening socket; it is closed by :meth:`stop`."""
        self._server = await asyncio.start_server(
            self._accept, sock=listener, ssl=context, backlog=_BACKLOG
        )

    async def stop(self) -> None:
        """Stop listening and end every connection, whatever it is waiting for."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, h11.RemoteProtocolError, asyncio.CancelledError):
                await ClientConnection(reader, writer).serve(self._open_session())
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()


class ClientConnection:
    """One connection, and what a reply needs to leave on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._http = h11.Connection(h11.SERVER)
        self.socket: socket.socket = writer.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve(self, session: Session) -> None:
        """Answer requests until either side ends the connection."""
        while (request := await self._receive()) is not None:
            reply = await session(request)
            if not await reply.send(self) or self._http.our_state is not h11.DONE:
                return
            if self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _receive(self) -> HttpRequest | None:
        """Return the next request, or None when the peer is gone or sends too much."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._feed()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    return None
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            else:
                return None

    async def _feed(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self.writer.write(self._encode(h11.InformationalResponse(status_code=100, headers=[])))
        self._http.receive_data(await self.reader.read(_READ_SIZE))

    def encode(self, reply: HttpReply) -> bytes:
        """Return a reply as it goes over the wire."""
        return self._encode(*_events(reply))

    def _encode(self, *events: h11.Event) -> bytes:
        return b"".join(self._http.send(event) or b"" for event in events)


def _request(head: h11.Request, body: bytes) -> HttpRequest:
    return HttpRequest(
        method=head.method.decode("ascii"),
        target=head.target.decode("ascii"),
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )


def _events(reply: HttpReply) -> tuple[h11.Event, ...]:
    headers = {**reply.headers, "content-length": str(len(reply.body))}
    return (
        h11.Response(status_code=reply.status, headers=list(headers.items())),
        h11.Data(data=reply.body),
        h11.EndOfMessage(),
    )
