"""TLS between a socket and a connection: handshakes, farewells, and peers that do neither."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from skyflowctl.plugin.certificates import (
    OwnCertificate,
    client_context,
    make_certificate,
    server_context,
)
from skyflowctl.plugin.http2 import tls
from skyflowctl.plugin.http2.tls import TlsLink, connect_tls


def pem(certificate: OwnCertificate) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate.der)


class Recorder(asyncio.Protocol):
    """Keeps what happens; may echo."""

    def __init__(self, *, echo: bool = False) -> None:
        self.echo = echo
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.got = bytearray()
        self.pauses: list[str] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.echo:
            assert self.transport
            self.transport.write(data)

    def pause_writing(self) -> None:
        self.pauses.append("pause")

    def resume_writing(self) -> None:
        self.pauses.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set()


class Rig:
    """A server on a unix socket, and the contexts of both sides."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "s")
        self.host, self.own = make_certificate(), make_certificate()
        self.server = server_context(self.own, pem(self.host))
        self.client = client_context(self.host, pem(self.own))
        self.accepted: list[Recorder] = []
        self.shaken: list[OSError | None] = []

    def accept(self) -> TlsLink:
        self.accepted.append(Recorder(echo=True))
        return TlsLink(self.server, self.accepted[-1], on_shaken=self.shaken.append)

    @contextlib.asynccontextmanager
    async def listening(self):
        server = await asyncio.get_running_loop().create_unix_server(self.accept, self.path)
        try:
            async with asyncio.timeout(20):
                yield self
        finally:
            server.close()


@pytest.fixture
def rig(tmp_path_factory) -> Rig:
    return Rig(tmp_path_factory.mktemp("t"))


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [1, 16_384, 1_000_000])
def test_bytes_come_back_whole(rig: Rig, size: int):
    async def story() -> None:
        async with rig.listening():
            mine = Recorder()
            await connect_tls(rig.path, rig.client, "localhost", mine)
            assert mine.transport
            content = bytes(range(256)) * (size // 256 + 1)
            mine.transport.write(content)
            await until(lambda: len(mine.got) >= len(content))
            assert mine.got == content
            mine.transport.close()
            await rig.accepted[0].lost.wait()
            await mine.lost.wait()
            assert mine.transport.is_closing()
            assert rig.shaken == [None]

    asyncio.run(story())


def test_it_talks_to_the_standard_librarys_tls(rig: Rig):
    async def story() -> None:
        async with rig.listening():
            reader, writer = await asyncio.open_unix_connection(
                rig.path, ssl=rig.client, server_hostname="localhost"
            )
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            rig.accepted[0].transport.close()
            assert await reader.read() == b""
            writer.close()
            await rig.accepted[0].lost.wait()

    asyncio.run(story())


def test_a_stranger_is_refused_on_either_side(rig: Rig):
    async def story() -> None:
        stranger = make_certificate()
        async with rig.listening():
            wrong_server = client_context(rig.host, pem(stranger))
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect_tls(rig.path, wrong_server, "localhost", Recorder())
            other_name = client_context(rig.host, pem(rig.own))
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect_tls(rig.path, other_name, "elsewhere", Recorder())
            theirs = Recorder()
            wrong_client = client_context(stranger, pem(rig.own))
            await connect_tls(rig.path, wrong_client, "localhost", theirs)  # TLS 1.3 tells later
            await theirs.lost.wait()
            await until(lambda: len(rig.shaken) == 3)
            assert all(isinstance(error, OSError) for error in rig.shaken)
            assert not any(one.made.is_set() for one in rig.accepted)

    asyncio.run(story())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_speaks_no_tls_or_leaves_is_dropped(rig: Rig, sent: bytes):
    async def story() -> None:
        async with rig.listening():
            _, writer = await asyncio.open_unix_connection(rig.path)
            writer.write(sent)
            if not sent:
                writer.close()
            await until(lambda: rig.shaken)
            assert isinstance(rig.shaken[0], OSError)
            writer.close()

    asyncio.run(story())


def test_a_handshake_that_takes_too_long_is_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.1)

    async def story() -> None:
        async with rig.listening():
            reader, writer = await asyncio.open_unix_connection(rig.path)
            assert await reader.read() == b""
            assert isinstance(rig.shaken[0], ConnectionAbortedError)
            writer.close()

    asyncio.run(story())


def test_no_server_is_an_error_of_the_system(rig: Rig):
    async def story() -> None:
        with pytest.raises(FileNotFoundError):
            await connect_tls(rig.path, rig.client, "localhost", Recorder())

    asyncio.run(story())


def test_a_server_that_says_nothing_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.1)

    async def story() -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(rig.path)
            silent.listen()
            with pytest.raises(ConnectionAbortedError):
                await connect_tls(rig.path, rig.client, "localhost", Recorder())
            task = asyncio.create_task(connect_tls(rig.path, rig.client, "localhost", Recorder()))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(story())


def test_garbage_after_the_handshake_ends_the_connection(rig: Rig):
    async def story() -> None:
        async with rig.listening():
            raw = socket.socket(socket.AF_UNIX)
            raw.settimeout(10)

            def act() -> None:
                raw.connect(rig.path)
                secure = rig.client.wrap_socket(raw, server_hostname="localhost")
                secure.sendall(b"x")
                assert secure.recv(1) == b"x"
                with socket.socket(fileno=secure.detach()) as plain:
                    plain.sendall(b"\x17\x03\x03\x00\x05junk!")
                    plain.settimeout(10)
                    while plain.recv(1000):
                        pass

            await asyncio.to_thread(act)
            await rig.accepted[0].lost.wait()
            assert rig.accepted[0].got == b"x"

    asyncio.run(story())


def test_a_peer_that_does_not_read_pauses_and_loses_nothing(rig: Rig):
    async def story() -> None:
        async with rig.listening():
            reads = threading.Event()
            total = 3_000_000
            got: list[int] = []

            def act() -> None:
                with socket.socket(socket.AF_UNIX) as raw:
                    raw.settimeout(10)
                    raw.connect(rig.path)
                    with rig.client.wrap_socket(raw, server_hostname="localhost") as secure:
                        secure.sendall(b"!")
                        assert secure.recv(1) == b"!"
                        assert reads.wait(10)
                        while sum(got) < total:
                            got.append(len(secure.recv(65_536)))

            thread = asyncio.create_task(asyncio.to_thread(act))
            await until(lambda: rig.accepted and rig.accepted[0].got)
            theirs = rig.accepted[0]
            assert theirs.transport
            theirs.transport.write(bytes(total))
            await until(lambda: theirs.pauses)
            assert theirs.transport.get_write_buffer_size() > 0
            theirs.transport.close()
            reads.set()
            await thread
            assert (sum(got), theirs.pauses[0]) == (total, "pause")
            await theirs.lost.wait()

    asyncio.run(story())


def test_aborting_ends_at_once(rig: Rig):
    async def story() -> None:
        async with rig.listening():
            mine = Recorder()
            await connect_tls(rig.path, rig.client, "localhost", mine)
            assert mine.transport
            mine.transport.abort()
            mine.transport.write(b"nothing")
            await mine.lost.wait()
            await rig.accepted[0].lost.wait()

    asyncio.run(story())
