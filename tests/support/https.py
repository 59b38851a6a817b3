"""A scripted HTTPS server and a CONNECT proxy, both in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trustme

from support.keys import unsigned_token

Script = Callable[["Call"], Awaitable[None]]


@pytest.fixture(scope="session")
def local_ca() -> trustme.CA:
    """One certificate authority for the session's local servers."""
    return trustme.CA()


def server_context(ca: trustme.CA, *names: str, **options) -> ssl.SSLContext:
    """A server's TLS side with a certificate for these names (default: 127.0.0.1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1", "localhost")), **options).configure_cert(context)
    return context


def client_context(ca: trustme.CA) -> ssl.SSLContext:
    """A client's TLS side that trusts only this authority."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@dataclass
class Call:
    """One request as it arrived, with what is needed to answer it."""

    head: str
    body: bytes
    number: int
    on_connection: int
    writer: asyncio.StreamWriter

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(
        self, status: int = 200, body: bytes = b"", *, kind: str = "application/json", **headers
    ) -> None:
        lines = [f"HTTP/1.1 {status} Word", f"content-type: {kind}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {len(body)}", "", ""]
        await self.send("\r\n".join(lines).encode() + body)

    async def token(self, **headers) -> None:
        reply = {"accessToken": unsigned_token(), "tokenType": "Bearer"}
        await self.answer(200, json.dumps(reply).encode(), **headers)


@dataclass
class LocalServer:
    """What a running server has seen."""

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def uri(self) -> str:
        return f"https://127.0.0.1:{self.port}/v1/auth/sa/oauth/token"

    async def until_open(self, count: int, seconds: float = 5) -> None:
        """Wait until exactly so many connections are open."""
        async with asyncio.timeout(seconds):
            while len(self.open) != count:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(script: Script, context: ssl.SSLContext) -> AsyncIterator[LocalServer]:
    """Run a server that gives every request to the script."""
    state = LocalServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        state.open.add(writer)
        try:
            await _requests(state, script, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            state.open.discard(writer)
            writer.transport.abort()

    async with _listening(serve, context) as port:
        state.port = port
        yield state


async def _requests(state, script, reader, writer) -> None:
    for on_connection in range(1, 1_000_000):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r")[0] or 0)
        body = await reader.readexactly(length)
        call = Call(head, body, len(state.calls) + 1, on_connection, writer)
        state.calls.append(call)
        # An end of the connection must be seen also while the script hangs.
        answering = asyncio.ensure_future(script(call))
        gone = asyncio.ensure_future(_until_eof(reader))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                return
            answering.result()
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
        if writer.transport.is_closing():
            return


async def _until_eof(reader: asyncio.StreamReader) -> None:
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def _listening(serve, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task] = set()

    async def tracked(reader, writer) -> None:
        tasks.add(asyncio.current_task())
        await serve(reader, writer)

    server = await asyncio.start_server(tracked, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@dataclass
class LocalProxy:
    """What a running proxy has seen."""

    port: int = 0
    heads: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def proxying(answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> AsyncIterator[LocalProxy]:
    """Run a CONNECT proxy; one whose answer is not 200 connects nothing."""
    state = LocalProxy()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            state.heads.append(head)
            writer.write(answer)
            if b" 200 " in answer:
                host, _, port = head.split()[1].rpartition(":")
                back, upstream = await asyncio.open_connection(host, int(port))
                await asyncio.gather(_copy(reader, upstream), _copy(back, writer))
            else:
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if upstream is not None:
                upstream.close()

    async with _listening(serve, None) as port:
        state.port = port
        yield state


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
