"""Exchanges over HTTPS, against real sockets on this machine."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest
from support.exchanging import (
    ASSERTION,
    ask,
    failure,
    give_token,
    hang,
    run_against,
)
from support.https import Call

from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import TokenServiceRefusedError, TokenServiceUnreachableError

# --- a good exchange


def test_what_is_sent_and_what_comes_back(local_ca):
    async def use(service, server):
        return await ask(service, server.uri), server

    answer, server = run_against(local_ca, give_token, use)
    call = server.calls[0]
    assert call.head.startswith("POST /v1/auth/sa/oauth/token HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n" in call.head.lower()
    assert "authorization" not in call.head.lower()
    assert json.loads(call.body) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": ASSERTION.reveal(),
        "scope": "role:r1",
    }
    assert (answer.token_type, answer.request_id) == ("Bearer", "req-1")
    assert answer.access_token.reveal().count(".") == 2


def test_without_a_role_there_is_no_scope(local_ca):
    async def use(service, server):
        await ask(service, server.uri, scope=None)
        return json.loads(server.calls[0].body)

    assert "scope" not in run_against(local_ca, give_token, use)


def test_one_connection_serves_many_exchanges(local_ca):
    async def use(service, server):
        for _ in range(20):
            await ask(service, server.uri)
        return server.connections, service.open_connections

    assert run_against(local_ca, give_token, use) == (1, 1)


def test_nagle_is_off_and_tls_is_at_least_1_2(local_ca):
    async def use(service, server):
        await ask(service, server.uri)
        ((connection,),) = service._pool._idle.values()
        transport = connection._transport
        nodelay = transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY
        )
        return nodelay, transport.get_extra_info("ssl_object").version()

    nodelay, version = run_against(local_ca, give_token, use)
    assert nodelay
    assert version in ("TLSv1.2", "TLSv1.3")


def test_slots_bound_the_connections_and_the_rest_wait(local_ca):
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.02)
        await call.token()

    async def use(service, server):
        await asyncio.gather(*(ask(service, server.uri) for _ in range(12)))
        return server.connections, len(server.calls)

    assert run_against(local_ca, slow, use, slots=3) == (3, 12)


def test_a_chunked_answer_and_an_interim_answer_are_read(local_ca):
    async def chunked(call: Call) -> None:
        body = b'{"accessToken":"a.b.c","tokenType":"Bearer"}'
        await call.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (body[:7], body[7:]):
            await call.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0.01)
        await call.send(b"0\r\n\r\n")

    async def use(service, server):
        tokens = [(await ask(service, server.uri)).access_token for _ in range(2)]
        return tokens, server.connections

    assert run_against(local_ca, chunked, use) == ([Secret("a.b.c")] * 2, 1)


def test_connection_close_is_obeyed(local_ca):
    async def use(service, server):
        await ask(service, server.uri)
        assert service.open_connections == 0
        await ask(service, server.uri)
        return server.connections

    assert run_against(local_ca, lambda call: call.token(connection="close"), use) == 2


def test_both_spellings_of_the_answer_are_read(local_ca):
    reply = b'{"access_token":"a.b.c","token_type":"bearer"}'

    async def use(service, server):
        return await ask(service, server.uri)

    answer = run_against(local_ca, lambda call: call.answer(200, reply), use)
    assert (answer.access_token, answer.token_type) == (Secret("a.b.c"), "bearer")


# --- refusals


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 502, 503])
def test_a_refusal_keeps_status_message_and_request_id_and_is_not_repeated(local_ca, status):
    body = json.dumps({"error": {"http_code": status, "message": "Key expired"}}).encode()
    error, server = failure(
        local_ca,
        lambda call: call.answer(status, body, x_request_id="req-9", retry_after="1"),
        TokenServiceRefusedError,
    )
    assert (error.status, error.message, error.request_id) == (status, "Key expired", "req-9")
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (
            "application/json",
            b'{"error":{"message":"two\\nlines\\u001b[31m\\u202e"}}',
            "two lines [31m",
        ),
        ("application/json", b'{"code":7,"message":"denied"}', "denied"),
        ("application/json", b'{"error":"invalid_grant"}', "invalid_grant"),
        ("application/json", b"{}", "HTTP 502 Bad Gateway"),
        ("application/json", b"[[[", "HTTP 502 Bad Gateway"),
        ("application/json", b"[" * 60_000, "HTTP 502 Bad Gateway"),
        ("application/json", b"\xff\xfe\x00", "HTTP 502 Bad Gateway"),
        ("text/html", b"<html><style>p{}</style><title>No way</title><h1>x</h1>", "No way"),
        ("text/plain; charset=utf-8", b"\n\n upstream gone \r\nmore", "upstream gone"),
        ("text/plain", b"", "HTTP 502 Bad Gateway"),
        (
            "text/plain",
            b"assertion eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln bad",
            "assertion *** bad",
        ),
    ],
)
def test_a_message_is_one_clean_line(local_ca, kind, body, message):
    error, _ = failure(
        local_ca, lambda call: call.answer(502, body, kind=kind), TokenServiceRefusedError
    )
    assert error.message == message


@pytest.mark.parametrize(
    "page", [b"<" * 65_000, b"<script" * 9_000, b"<!--" * 16_000, b"< >" * 20_000]
)
def test_a_hostile_page_costs_no_time(local_ca, page):
    started = time.process_time()
    error, _ = failure(
        local_ca, lambda call: call.answer(502, page, kind="text/html"), TokenServiceRefusedError
    )
    assert len(error.message) <= 500
    assert time.process_time() - started < 1


def test_a_long_message_is_cut(local_ca):
    body = json.dumps({"error": {"message": "word " * 1000}}).encode()
    error, _ = failure(local_ca, lambda call: call.answer(400, body), TokenServiceRefusedError)
    assert 490 <= len(error.message) <= 500


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("application/json", b"[]"),
        ("application/json", b'{"accessToken":null}'),
        ("application/json", b'{"accessToken":17}'),
        ("application/json", b'{"accessToken":"with blank"}'),
        ("application/json", b'{"accessToken":""}'),
        ("text/html", b"<html><body>Please log in to this network</body></html>"),
        ("application/json", b""),
    ],
)
def test_a_200_without_a_token_is_a_refusal(local_ca, kind, body):
    error, server = failure(
        local_ca,
        lambda call: call.answer(200, body, kind=kind, x_request_id="req-2"),
        TokenServiceRefusedError,
    )
    assert (error.status, error.message) == (200, "answer holds no usable token")
    assert error.request_id == "req-2"
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_over_64_kib_is_not_read_to_its_end(local_ca, status):
    error, _ = failure(
        local_ca,
        lambda call: call.answer(status, b"x" * 5_000_000, kind="text/plain"),
        TokenServiceRefusedError,
    )
    assert (error.status, error.message) == (status, "answer is larger than 64 KiB")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_its_host_named(local_ca, status):
    location = "https://user:word@evil.example:8443/v1/auth/sa/oauth/token"
    error, server = failure(
        local_ca, lambda call: call.answer(status, location=location), TokenServiceUnreachableError
    )
    assert f"HTTP {status} redirects to evil.example:8443" in error.reason
    assert "word" not in error.reason
    assert len(server.calls) == 1


@pytest.mark.parametrize("location", [None, "", "/elsewhere", "http://[broken"])
def test_a_redirect_to_nowhere_or_to_itself_is_refused_too(local_ca, location):
    headers = {} if location is None else {"location": location}
    error, server = failure(
        local_ca, lambda call: call.answer(307, **headers), TokenServiceUnreachableError
    )
    expected = f"127.0.0.1:{server.port}" if location == "/elsewhere" else "nowhere"
    assert f"redirects to {expected};" in error.reason


# --- no answer


def test_a_hanging_service_ends_at_the_deadline_and_the_connection_is_closed(local_ca):
    async def use(service, server):
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(TokenServiceUnreachableError, match=r"no answer from .* within 0\.2 s"):
            await ask(service, server.uri, deadline=0.2)
        assert service.open_connections == 0
        await server.until_open(0)
        return loop.time() - started

    assert 0.15 < run_against(local_ca, hang, use) < 3


def test_a_slow_drip_does_not_extend_the_deadline(local_ca):
    async def drip(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
        for _ in range(5000):
            await call.send(b"x")
            await asyncio.sleep(0.01)

    error, _ = failure(local_ca, drip, TokenServiceUnreachableError, deadline=0.3)
    assert "within 0.3 s" in error.reason


def test_waiting_for_a_slot_counts_towards_the_deadline(local_ca):
    async def use(service, server):
        first = asyncio.ensure_future(ask(service, server.uri, deadline=5))
        while not server.calls:
            await asyncio.sleep(0.005)
        with pytest.raises(TokenServiceUnreachableError, match=r"within 0\.1 s"):
            await ask(service, server.uri, deadline=0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return len(server.calls)

    assert run_against(local_ca, hang, use, slots=1) == 1


def test_a_reset_in_the_middle_of_an_answer_is_not_repeated(local_ca):
    async def half(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
        await asyncio.sleep(0.05)
        call.writer.transport.abort()

    async def use(service, server):
        with pytest.raises(TokenServiceUnreachableError, match="in the middle of the answer"):
            await ask(service, server.uri)
        return len(server.calls)

    assert run_against(local_ca, half, use) == 1


def test_a_fresh_connection_closed_without_an_answer_is_not_repeated(local_ca):
    async def close(call: Call) -> None:
        call.writer.transport.abort()

    error, server = failure(local_ca, close, TokenServiceUnreachableError)
    assert "ended before the answer" in error.reason
    assert len(server.calls) == 1


def test_what_is_not_http_is_said(local_ca):
    async def garbage(call: Call) -> None:
        await call.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    error, _ = failure(local_ca, garbage, TokenServiceUnreachableError)
    assert "not HTTP" in error.reason
