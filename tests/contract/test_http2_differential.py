"""Our HTTP/2 and gRPC against the library's: same calls, same answers, on either side.

Every pair of server and client (ours and grpclib's) talks over TLS on a unix socket with the same
list of calls; all four must see the same replies, statuses and texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Server
from support.http2_wire import Message

from skyflowctl.plugin.certificates import client_context, make_certificate, server_context
from skyflowctl.plugin.http2.client import GrpcClient
from skyflowctl.plugin.http2.grpc import GrpcError
from skyflowctl.plugin.http2.server import ServerConnection, UnaryMethod
from skyflowctl.plugin.http2.tls import TlsLink, connect_tls

Outcome = tuple[object, ...]
Call = Callable[[str, bytes], Awaitable[Outcome]]
PATHS = ("Echo", "Size", "Refuse", "Crash", "Sleep", "Absent")


class Raw(CodecBase):
    """Messages of the library that are their own encoding."""

    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


async def work(name: str, message: bytes) -> bytes:
    """What each method does, on both servers."""
    if name == "Size":
        return b"x" * int(message)
    if name == "Sleep":
        await asyncio.sleep(int(message) / 1000)
    return message


REFUSALS = [(5, "näht %41 \n"), (14, ""), (16, "ok"), (2, "x" * 3000), (3, "percent % and ü")]


async def ours_work(name: str, message: bytes) -> Message:
    if name == "Refuse":
        raise GrpcError(*REFUSALS[int(message)])
    if name == "Crash":
        raise RuntimeError("private")
    return Message(await work(name, message))


async def library_work(name: str, stream) -> None:
    message = await stream.recv_message()
    if name == "Absent":  # its own answer lacks the content type, which its own client refuses
        raise GRPCError(Status.UNIMPLEMENTED, "Method not found")
    if name == "Refuse":
        status, text = REFUSALS[int(message)]
        raise GRPCError(Status(status), text or None)
    if name == "Crash":
        raise RuntimeError("private")
    await stream.send_message(await work(name, message))


class LibraryService:
    def __mapping__(self):
        return {
            f"/t.T/{name}": Handler(
                lambda stream, name=name: library_work(name, stream),
                Cardinality.UNARY_UNARY,
                None,
                None,
            )
            for name in PATHS
        }


@dataclass
class Side:
    """The two TLS contexts, each side with its own certificate."""

    server: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def make(cls) -> Side:
        host, own = make_certificate(), make_certificate()
        pems = [ssl.DER_cert_to_PEM_cert(one.der) for one in (host, own)]
        return cls(server_context(own, pems[0]), client_context(host, pems[1]))


@contextlib.asynccontextmanager
async def our_server(path: str, context: ssl.SSLContext) -> AsyncIterator[None]:
    methods = {
        f"/t.T/{name}".encode(): UnaryMethod(
            bytes, lambda message, _metadata, name=name: ours_work(name, message)
        )
        for name in PATHS[:-1]
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(
        lambda: TlsLink(context, ServerConnection(methods)), path
    )
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def library_server(path: str, context: ssl.SSLContext) -> AsyncIterator[None]:
    server = Server([LibraryService()], codec=Raw())
    await server.start(path=path, ssl=context)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def our_client(path: str, context: ssl.SSLContext) -> AsyncIterator[Call]:
    connection = GrpcClient(b"localhost")
    await connect_tls(path, context, "localhost", connection)

    async def call(name: str, message: bytes) -> Outcome:
        try:
            return ("reply", await connection.call(f"/t.T/{name}".encode(), message))
        except GrpcError as error:
            return ("status", error.status, error.message)

    try:
        yield call
    finally:
        connection.close_with()


@contextlib.asynccontextmanager
async def library_client(path: str, context: ssl.SSLContext) -> AsyncIterator[Call]:
    config = Configuration(ssl_target_name_override="localhost")
    channel = Channel(path=path, ssl=context, codec=Raw(), config=config)

    async def call(name: str, message: bytes) -> Outcome:
        try:
            method = UnaryUnaryMethod(channel, f"/t.T/{name}", None, None)
            return ("reply", await method(message))
        except GRPCError as error:
            return ("status", error.status.value, error.message or "")

    try:
        yield call
    finally:
        channel.close()


def calls(seed: int) -> list[tuple[str, bytes]]:
    choice = random.Random(seed)
    kinds = {
        "Echo": lambda: choice.randbytes(choice.choice([0, 1, 300, 16_384, 70_000])),
        "Size": lambda: b"%d" % choice.choice([0, 16_379, 16_384, 65_530, 65_535, 200_000]),
        "Refuse": lambda: b"%d" % choice.randrange(len(REFUSALS)),
        "Crash": lambda: b"",
        "Sleep": lambda: b"%d" % choice.randrange(15),
        "Absent": lambda: b"x",
    }
    names = choice.choices(PATHS, [5, 5, 2, 1, 3, 1], k=150)
    fixed = [("Echo", bytes(5_000_000)), ("Size", b"6000000")]
    return [(name, kinds[name]()) for name in names] + fixed


async def all_outcomes(server, client, side: Side, path: str, seed: int) -> list[Outcome]:
    """The outcomes of all calls, up to 40 of them at once."""
    places = asyncio.Semaphore(40)
    async with server(path, side.server), client(path, side.client) as call:

        async def one(name: str, message: bytes) -> Outcome:
            async with places:
                return await call(name, message)

        return await asyncio.gather(*(one(*what) for what in calls(seed)))


@pytest.mark.parametrize("seed", range(3))
def test_the_same_calls_have_the_same_answers(seed: int, tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("d")
    side = Side.make()
    seen = {}
    for server in (library_server, our_server):
        for client in (library_client, our_client):
            path = str(folder / f"s{len(seen)}")
            story = all_outcomes(server, client, side, path, seed)
            seen[server.__name__, client.__name__] = asyncio.run(story)
    expected = seen["library_server", "library_client"]
    assert {one[0] for one in expected} == {"reply", "status"}
    for outcomes in seen.values():
        assert outcomes == expected


@pytest.mark.parametrize("server", [library_server, our_server])
def test_a_deadline_of_the_librarys_client_ends_the_call(server, tmp_path_factory):
    async def story() -> None:
        side, path = Side.make(), str(tmp_path_factory.mktemp("d") / "s")
        config = Configuration(ssl_target_name_override="localhost")
        async with server(path, side.server):
            channel = Channel(path=path, ssl=side.client, codec=Raw(), config=config)
            method = UnaryUnaryMethod(channel, "/t.T/Sleep", None, None)
            assert await method(b"1", timeout=5) == b"1"
            with pytest.raises((TimeoutError, GRPCError)):
                await method(b"5000", timeout=0.1)
            assert await method(b"1", timeout=5) == b"1"
            channel.close()

    asyncio.run(story())


@pytest.mark.parametrize("server", [library_server, our_server])
def test_a_cancelled_call_leaves_the_connection_usable(server, tmp_path_factory):
    async def story() -> None:
        side, path = Side.make(), str(tmp_path_factory.mktemp("d") / "s")
        for client in (our_client, library_client):
            async with server(path, side.server), client(path, side.client) as call:
                tasks = [asyncio.create_task(call("Sleep", b"9000")) for _ in range(50)]
                assert await call("Echo", b"a") == ("reply", b"a")
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert await call("Echo", b"b") == ("reply", b"b")
            Path(path).unlink(missing_ok=True)

    asyncio.run(story())


def test_a_server_that_goes_away_fails_the_calls_of_either_client(tmp_path_factory):
    async def story() -> None:
        side = Side.make()
        for client in (our_client, library_client):
            path = str(tmp_path_factory.mktemp("d") / "s")
            made: list[ServerConnection] = []

            def accept(made=made) -> TlsLink:
                methods = {b"/t.T/Sleep": UnaryMethod(bytes, lambda m, _: ours_work("Sleep", m))}
                made.append(ServerConnection(methods))
                return TlsLink(side.server, made[-1])

            server = await asyncio.get_running_loop().create_unix_server(accept, path)
            async with client(path, side.client) as call:
                assert await call("Sleep", b"1") == ("reply", b"1")
                task = asyncio.create_task(call("Sleep", b"9000"))
                await asyncio.sleep(0.05)
                made[0].close_with()
                with pytest.raises((OSError, StreamTerminatedError)):
                    await asyncio.wait_for(task, 5)
            server.close()

    asyncio.run(story())


@pytest.mark.parametrize("client", [our_client, library_client])
def test_a_thousand_cancelled_calls_leave_nothing(client, tmp_path_factory):
    """Calls are cancelled before, while and after they are served; no place is lost."""
    places = asyncio.Semaphore(64)
    begun: list[bytes] = []

    async def guarded(message: bytes, _metadata: object) -> Message:
        async with places:
            begun.append(message)
            return await ours_work("Sleep", message)

    async def story() -> None:
        side, path = Side.make(), str(tmp_path_factory.mktemp("d") / "s")
        made: list[ServerConnection] = []
        choice = random.Random(5)

        def accept() -> TlsLink:
            made.append(ServerConnection({b"/t.T/Sleep": UnaryMethod(bytes, guarded)}))
            return TlsLink(side.server, made[-1])

        server = await asyncio.get_running_loop().create_unix_server(accept, path)
        async with asyncio.timeout(60), client(path, side.client) as call:
            waiting: set[asyncio.Task[Outcome]] = set()
            for number in range(1000):
                waiting.add(asyncio.create_task(call("Sleep", b"%d" % choice.choice([0, 5, 900]))))
                if number % 10 == 9:
                    await asyncio.sleep(choice.random() * 0.01)
                    for task in choice.sample(sorted(waiting, key=id), len(waiting) // 2):
                        task.cancel()
                        waiting.discard(task)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert await call("Sleep", b"1") == ("reply", b"1")
            while made[0]._tasks or made[0].streams:
                await asyncio.sleep(0.01)
            assert places._value == 64
            assert len(begun) > 64
        server.close()

    asyncio.run(story())
