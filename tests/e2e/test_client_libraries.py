"""http.client and hvac say the same about every server, and a plan's workers share connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from support.bao import BaoServer
from support.client_libraries import client_library  # noqa: F401 - runs all tests twice
from support.gateways import target_of
from support.https import server_context
from support.raw_server import raw_server, saying
from support.scripted import Answer, Seen, scripted

from skyflowctl.secret import Secret
from skyflowctl.vault.connection import NoResponseError, NotSentError, Received, TargetPool
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Request

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Vault-Index: eyJ9\r\nX-A: 1\r\nX-A: 2\r\n\r\n{"data":{}}'
LOGIN = "Basic dXNlcjpoaWQ6ZGVu"  # user, and the password hid:den


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA) -> dict[str, str]:
    return {"ca_bytes": ca.cert_pem.bytes().decode()}


def asked(address: str, seconds: float = 5, **options: object) -> Received:
    pool = TargetPool(Target(address, "", None, "flags", **options))
    try:
        return pool.send(address, "GET", "a", headers={}, seconds=seconds)
    finally:
        pool.close()


def refused(address: str, **options: object) -> NotSentError | NoResponseError:
    with pytest.raises((NotSentError, NoResponseError)) as caught:
        asked(address, **options)
    assert caught.value.__cause__ is None
    return caught.value


@contextlib.contextmanager
def secure(ca: trustme.CA, *names: str, **options: object) -> Iterator[str]:
    with raw_server(saying(OK), server_context(ca, *names, **options)) as address:
        yield address.replace("http:", "https:")


def test_an_answer_is_read_whole_with_its_headers(ca, trusted):
    with secure(ca) as address:
        got = asked(address, **trusted)
    assert (got.status, got.headers["x-a"], got.content) == (200, "1, 2", b'{"data":{}}')


@pytest.mark.parametrize(
    ("names", "options", "reason", "fix"),
    [
        (("other.example",), {}, "its certificate is for another name", "--tls-server-name"),
        (("127.0.0.2",), {}, "its certificate is for another name", "--tls-server-name"),
        (
            ("127.0.0.1",),
            {"not_after": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=1)},
            "its certificate has expired",
            "renew",
        ),
    ],
)
def test_a_certificate_that_does_not_fit(ca, trusted, names, options, reason, fix):
    with secure(ca, *names, **options) as address:
        error = refused(address, **trusted)
        assert asked(address, skip_verify=True).status == 200
    assert isinstance(error, NotSentError)
    assert (error.reason, error.lasting, error.foreign) == (reason, True, False)
    assert fix in error.fix


def test_an_unknown_authority_names_the_option(ca):
    with secure(trustme.CA()) as address:
        error = refused(address, ca_bytes=ca.cert_pem.bytes().decode())
    assert error.reason.startswith("its certificate cannot be verified: ")
    assert "--ca-cert" in error.fix


def test_another_name_is_checked_instead_of_the_host(ca, trusted):
    with secure(ca, "bao.example") as address:
        assert asked(address, tls_server_name="bao.example", **trusted).status == 200
        error = refused(address, tls_server_name="other.example", **trusted)
    assert error.reason == "its certificate is for another name"


def test_a_port_without_tls(trusted):
    with raw_server(saying(OK)) as address:
        error = refused(address.replace("http:", "https:"), **trusted)
    assert (error.reason, error.lasting) == ("that port does not speak TLS", True)


def test_a_server_that_wants_a_certificate(ca, trusted):
    context = server_context(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with raw_server(saying(OK), context) as address:
        error = refused(address.replace("http:", "https:"), **trusted)
    assert (type(error), error.lasting) == (NotSentError, True)
    assert error.reason.startswith("the TLS handshake failed")


def hanging(_: socket.socket, ended: threading.Event) -> None:
    ended.wait(20)


@pytest.mark.parametrize("scheme", ["http:", "https:"])
def test_a_server_that_says_nothing(trusted, scheme):
    with raw_server(hanging) as address:
        started = time.monotonic()
        error = refused(address.replace("http:", scheme), seconds=0.5, **trusted)
    assert time.monotonic() - started < 5
    assert (type(error), error.reason) == (NoResponseError, "no answer in time")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://name.invalid", "its name cannot be resolved"),
        (f"http://{'a' * 64}.invalid", "its name cannot be resolved"),
    ],
)
def test_no_connection(address, reason):
    error = refused(address)
    assert (type(error), error.reason, error.lasting) == (NotSentError, reason, False)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the connection was closed before the answer"),
        (b"SSH-2.0-x\r\n", "the server there does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, "the header of the answer is too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "the answer is cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "the answer is cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nx", "its content cannot be decompressed"),
    ],
)
def test_no_whole_answer(raw, reason):
    with raw_server(saying(raw)) as address:
        assert refused(address).reason.startswith(reason)


def test_a_chunk_without_an_end_does_not_fill_the_memory():
    """Its size of -1 makes the standard library read until the end of the connection."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"

    def pour(client: socket.socket, ended: threading.Event) -> None:
        client.recv(65536)
        client.sendall(head)
        for _ in range(400):
            if ended.is_set():
                return
            client.sendall(b" " * (1 << 20))

    with raw_server(pour) as address:
        error = refused(address, seconds=20)
    assert isinstance(error, NoResponseError)
    assert error.broken


# Proxies.


def relay(target: str) -> Callable[[socket.socket, threading.Event], None]:
    """A proxy that opens one tunnel, to this host and port only."""

    def serve(client: socket.socket, _: threading.Event) -> None:
        head = client.recv(65536).decode()
        granted = head.startswith(f"CONNECT {target} ") and LOGIN in head
        client.sendall(b"HTTP/1.1 200 Go\r\n\r\n" if granted else b"HTTP/1.1 403 No\r\n\r\n")
        if not granted:
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            back = threading.Thread(target=copied, args=(server, client))
            back.start()
            copied(client, server)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join()

    return serve


def copied(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def with_login(address: str) -> Secret:
    return Secret(address.replace("://", "://user:hid%3Aden@"))


def test_a_tunnel_of_a_proxy_leads_to_a_server_with_tls(ca, trusted):
    with secure(ca) as address, raw_server(relay(address.removeprefix("https://"))) as proxy:
        assert asked(address, proxy=with_login(proxy), **trusted).status == 200
        error = refused(address, proxy=Secret(proxy), **trusted)
    assert error.reason == "the proxy answered 403 and did not connect"


def test_behind_a_tunnel_the_server_is_named_and_not_the_proxy(ca, trusted):
    heads: list[bytes] = []

    def answering(client: socket.socket, _: threading.Event) -> None:
        heads.append(client.recv(65536))
        client.sendall(OK)

    with raw_server(answering, server_context(ca)) as server:
        address = server.replace("http:", "https:")
        with raw_server(relay(address.removeprefix("https://"))) as proxy:
            assert asked(address, proxy=with_login(proxy), **trusted).status == 200
    names = [line for line in heads[0].lower().splitlines() if line.startswith(b"host:")]
    assert names == [f"host: {address.removeprefix('https://')}".encode()]


def test_a_proxy_gets_the_whole_address_of_a_server_without_tls():
    with scripted(Answer(200, {})) as proxy:
        assert asked("http://bao.invalid:8200", proxy=with_login(proxy.address)).status == 200
        (seen,) = proxy.seen
    assert seen.path == "http://bao.invalid:8200/v1/a"
    assert seen.headers["proxy-authorization"] == LOGIN
    assert seen.headers["host"] == "bao.invalid:8200"


def test_a_proxy_with_tls_is_asked_all_the_same(ca, trusted):
    with secure(ca) as proxy:
        got = asked("http://bao.invalid", proxy=Secret(proxy), skip_verify=True)
        assert got.content == b'{"data":{}}'


def test_a_proxy_with_tls_shows_a_certificate_that_the_users_ca_signed(ca, trusted):
    """The stock client checks it in the same way as the server's."""
    with secure(ca) as proxy:
        assert asked("http://bao.invalid", proxy=Secret(proxy), **trusted).status == 200
        other = {"ca_bytes": trustme.CA().cert_pem.bytes().decode()}
        error = refused("http://bao.invalid", proxy=Secret(proxy), **other)
    assert error.reason.startswith("the proxy cannot be reached: its certificate cannot be")
    assert (type(error), error.lasting) == (NotSentError, True)


def test_a_tunnel_through_a_proxy_with_tls_leads_to_a_server_with_tls(ca, trusted):
    with (
        secure(ca) as address,
        raw_server(relay(address.removeprefix("https://")), server_context(ca)) as plain,
    ):
        proxy = plain.replace("http:", "https:")
        got = asked(address, proxy=with_login(proxy), **trusted)
        error = refused(address, proxy=Secret(proxy), **trusted)
    assert got.content == b'{"data":{}}'
    assert error.reason == "the proxy answered 403 and did not connect"


@pytest.mark.parametrize(
    ("answer", "reason", "lasting"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", "the proxy answered 407: it requires a login", True),
        (b"HTTP/1.1 503 No\r\n\r\n", "the proxy answered 503 and did not connect", False),
        (b"", "the proxy cannot be reached", True),
        (b"SSH\r\n\r\n", "the proxy cannot be reached", True),
    ],
)
def test_a_proxy_that_does_not_connect(trusted, answer, reason, lasting):
    with raw_server(saying(answer)) as proxy:
        error = refused("https://bao.invalid", proxy=with_login(proxy), **trusted)
    assert isinstance(error, NotSentError)
    assert (error.reason, error.lasting) == (reason, lasting)
    assert "hid" not in str(error)


def test_a_proxy_that_does_not_run():
    error = refused("http://bao.invalid", proxy=Secret("http://127.0.0.1:1"))
    assert error.reason == "the proxy cannot be reached"
    assert "NO_PROXY" in error.fix


# What is sent.


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a//b/", "/v1/a/b"),
        ("a b/é/%2e?#", "/v1/a%20b/%C3%A9/%252e%3F%23"),
        ("sys/mounts/~x", "/v1/sys/mounts/~x"),
    ],
)
def test_a_path_and_its_query_are_quoted(path, shown):
    with scripted(Answer(200, {}, {"X-Vault-Index": "eyJ9"})) as server:
        transport = HttpTransport(Target(server.address, "", None, "flags"), run_id="r")
        transport.send(Request("GET", path, params={"ctx": "a b&c/é=+"}))
        transport.close()
        (seen,) = server.seen
    assert seen.path == f"{shown}?ctx=a+b%26c%2F%C3%A9%3D%2B"
    assert seen.headers["host"] == server.address.removeprefix("http://")


# Connections.


def test_workers_share_as_many_connections_as_there_are_workers():
    ports: set[int] = set()

    def serve(client: socket.socket, _: threading.Event) -> None:
        ports.add(client.getpeername()[1])
        while client.recv(65536):
            client.sendall(OK)

    with raw_server(serve) as address:
        transport = HttpTransport(Target(address, "", None, "flags"), run_id="r")
        with ThreadPoolExecutor(4) as workers:
            list(workers.map(lambda _: transport.send(Request("GET", "a")), range(200)))
        transport.close()
    assert 1 <= len(ports) <= 4


def test_a_connection_that_the_server_has_closed_is_replaced():
    """A server ends an idle connection; the next read must not fail, and is sent once."""
    asked_for: list[bytes] = []

    def serve(client: socket.socket, _: threading.Event) -> None:
        asked_for.append(client.recv(65536))
        client.sendall(OK)

    with raw_server(serve) as address:
        pool = TargetPool(Target(address, "", None, "flags"))
        for _ in range(5):
            assert pool.send(address, "GET", "a", headers={}, seconds=5).status == 200
            time.sleep(0.02)  # until the end of the connection has arrived here
        pool.close()
    assert len(asked_for) == 5


def test_a_read_while_another_closes_the_pool_is_answered():
    entered, release = threading.Event(), threading.Event()

    def answer(_: Seen) -> Answer:
        entered.set()
        release.wait(5)
        return Answer(200, {"data": {}}, {"X-Vault-Index": "eyJ9"})

    with scripted(Answer()) as server, ThreadPoolExecutor(1) as worker:
        server.script = answer
        transport = HttpTransport(Target(server.address, "", None, "flags"), run_id="r")
        reply = worker.submit(transport.send, Request("GET", "a"))
        assert entered.wait(5)
        transport.close()
        release.set()
        assert reply.result(5).status == 200


@pytest.mark.real_server
def test_only_a_write_loads_hvac(bao: BaoServer, tmp_path: Path):
    target = target_of(bao)
    code = (
        "import sys\n"
        "from skyflowctl.secret import Secret\n"
        "from skyflowctl.vault.http_transport import HttpTransport\n"
        "from skyflowctl.vault.target import Target\n"
        "from skyflowctl.vault.transport import Request\n"
        f"target = Target({bao.address!r}, '', Secret({bao.token!r}), 'flags', "
        f"ca_cert={target.ca_cert!r})\n"
        "transport = HttpTransport(target, run_id='r')\n"
        "transport.send(Request('GET', 'sys/mounts'))\n"
        "transport.send(Request('LIST', 'sys/policies/acl'))\n"
        "print(sorted({'hvac', 'requests', 'urllib3'} & set(sys.modules)))\n"
        "transport.send(Request('POST', 'sys/capabilities-self', body={'paths': ['a']}))\n"
        "print('hvac' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "True"], done.stderr
