"""A6, E1, H5: answers that never end, or are no whole HTTP, seen from the command line."""

from __future__ import annotations

import gzip
import resource
import socket
import ssl
import threading
import time
import zlib
from pathlib import Path

import pytest
import trustme
from support.cli import checked_data, checked_envelope, invoke
from support.client_libraries import client_library  # noqa: F401 - runs all tests twice
from support.https import server_context
from support.raw_server import dripping, pouring, raw_server, saying

from skyflowctl.vault.bounded import MOST_BYTES
from skyflowctl.vault.connection import NoResponseError, TargetPool
from skyflowctl.vault.target import Target
from skyflowctl.vault.tls import speaks_tls

CREDS = "creds order order-producer"
MANIFEST = """version: 1
manifest: shop
mounts:
  order: {roles: {order-producer: {role_ids: [skyflow-role-order]}}, credentials: {env: ORDER_KEY}}
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HEALTH = b'{"initialized":true,"sealed":false,"cluster_id":"id-1"}'
WHOLE = OK + b"Content-Length: %d\r\n\r\n" % len(HEALTH) + HEALTH


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    return tmp_path


def failed(address: str, words: str, **environ: str) -> tuple[int, dict[str, str], float]:
    """The exit code, the first problem and the seconds of a command against this address."""
    started = time.monotonic()
    done = invoke(
        *words.split(), "-o", "json", env={"BAO_ADDR": address, "BAO_TOKEN": "x", **environ}
    )
    problem = checked_envelope(done.stdout)["errors"][0]
    return done.exit_code, problem, time.monotonic() - started


ENDLESS = {
    "body": dripping(OK + b"Content-Length: 1000\r\n\r\n{", b" "),
    "body without a length": dripping(OK + b"\r\n{", b" "),
    "chunks": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "header": dripping(OK, b"a"),
    "status line": dripping(b"HTTP/1.1 200", b" "),
    "100 Continue": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("words", ["plan", CREDS])
def test_point_4_a_dripping_answer_ends_with_the_client_timeout(name: str, words: str):
    with raw_server(ENDLESS[name]) as address:
        code, problem, seconds = failed(address, words, BAO_CLIENT_TIMEOUT="1s")
    assert code == 69
    assert seconds < 5
    assert "in time" in problem["why"]


def test_point_4_health_keeps_its_own_limit_too():
    with raw_server(ENDLESS["body"]) as address:
        started = time.monotonic()
        env = {"BAO_ADDR": address, "BAO_TOKEN": "x", "BAO_CLIENT_TIMEOUT": "1s"}
        done = invoke("health", "-o", "json", env=env)
    assert done.exit_code == 6
    assert time.monotonic() - started < 5
    assert {row["state"] for row in checked_data(done.stdout)["mounts"]} == {"unreachable"}


def bomb() -> bytes:
    """256 MiB of blanks as gzip."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    piece = b" " * (1 << 20)
    return b"".join([packer.compress(piece) for _ in range(256)]) + packer.flush()


LARGE = {
    "endless": pouring(OK + b"\r\n{", b" " * 65536),
    "endless chunks": pouring(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"
    ),
    "compressed": None,
}


@pytest.mark.parametrize("name", LARGE)
def test_point_4_an_endless_answer_is_refused_at_its_size(name: str):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packed = OK + b"Content-Encoding: gzip\r\n\r\n"
    with raw_server(LARGE[name] or saying(packed + bomb())) as address:
        code, problem, _ = failed(address, "plan")
    assert (code, problem["code"]) == (69, "not-a-server")
    assert f"larger than {MOST_BYTES >> 20} MiB" in problem["why"]
    # Two requests, one after the other: their pieces, the joined body, and some room.
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 6 * MOST_BYTES / 1024


def test_point_4_an_answer_within_the_limits_is_read_whole():
    body = b'{"data":"' + b"x" * (8 << 20) + b'"}'
    with raw_server(saying(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)) as address:
        pool = TargetPool(Target(address, "", None, "flags"))
        got = pool.send(address, "GET", "a", headers={}, seconds=20)
        pool.close()
    assert got.content == body


def test_point_4_a_connection_is_used_again_after_an_answer():
    """The rest of one answer's time is not the next one's."""
    seen: list[int] = []

    def serve(client: socket.socket, _: threading.Event) -> None:
        while client.recv(65536):
            seen.append(client.getpeername()[1])
            client.sendall(WHOLE)

    with raw_server(serve) as address:
        pool = TargetPool(Target(address, "", None, "flags"))
        for seconds in (0.5, 5, 5):
            got = pool.send(address, "GET", "a", headers={}, seconds=seconds)
            assert got.content == HEALTH
        pool.close()
    assert len(seen) == 3
    assert len(set(seen)) == 1


BROKEN = {
    "gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "cut gzip": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(HEALTH * 99)[:30],
    "an encoding nobody asked for": OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "cut chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n99\r\nhello",
    "short body": OK + b"Content-Length: 1000\r\n\r\n{",
    "giant header": OK + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "a thousand headers": OK + b"X-A: a\r\n" * 1000 + b"\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("words", ["plan", CREDS])
def test_point_5_a_broken_answer_is_no_server_within_5_seconds(name: str, words: str):
    with raw_server(saying(BROKEN[name])) as address:
        code, problem, seconds = failed(address, words)
    assert (code, problem["code"]) == (69, "not-a-server")
    assert seconds < 5
    assert problem["summary"].startswith("this is no OpenBao or Vault")
    assert address in problem["summary"]
    assert "Error" not in problem["why"]
    assert problem["fix"]


def test_point_5_a_broken_answer_of_a_server_that_answered_before_is_waited_out():
    """It is sent again, as after any lost answer, and what comes then counts."""
    seen: list[bytes] = []

    def serve(client: socket.socket, _: threading.Event) -> None:
        asked = client.recv(65536).split(b" ", 2)[1]
        seen.append(asked)
        if b"sys/health" in asked:
            client.sendall(WHOLE)
            return
        body = b'{"request_id":"r","data":{"keys":[]}}'
        length = 1000 if len(seen) < 8 else len(body)
        client.sendall(OK + b"Content-Length: %d\r\n\r\n" % length + body)

    with raw_server(serve) as address:
        code, problem, _ = failed(address, "role list order", BAO_CLIENT_TIMEOUT="20s")
    assert problem["code"] != "not-a-server"
    assert len(seen) >= 8, (code, problem)


def tls_context() -> ssl.SSLContext:
    return server_context(trustme.CA(), "127.0.0.1")


@pytest.mark.parametrize("words", ["plan", CREDS])
def test_point_5_http_on_a_tls_port_that_closes_names_https(words: str):
    with raw_server(saying(WHOLE), tls_context()) as address:
        code, problem, seconds = failed(address, words)
    assert (code, problem["code"]) == (69, "not-a-server")
    assert seconds < 5
    assert "speaks TLS" in problem["why"]
    secure = address.replace("http:", "https:")
    assert problem["fix"] == f"use {secure} as the address"


def test_point_5_a_port_is_asked_for_tls_once():
    asked: list[bytes] = []

    def serve(client: socket.socket, _: threading.Event) -> None:
        asked.append(client.recv(65536))

    with raw_server(serve) as address:
        pool = TargetPool(Target(address, "", None, "flags"))
        for _ in range(3):
            with pytest.raises(NoResponseError, match="closed before the answer"):
                pool.send(address, "GET", "a", headers={}, seconds=5)
        pool.close()
    assert [one[:1] for one in asked].count(b"\x16") == 1
    assert len(asked) == 4


def test_point_5_a_port_that_refuses_the_client_speaks_tls_all_the_same():
    context = tls_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with raw_server(saying(WHOLE), context) as address:
        assert speaks_tls("127.0.0.1", int(address.rpartition(":")[2]))
    with raw_server(saying(WHOLE)) as address:
        assert not speaks_tls("127.0.0.1", int(address.rpartition(":")[2]))
