"""Connecting to a token service: names, TLS, proxies, against real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from support.exchanging import ask, client, give_token, open_descriptors
from support.https import client_context, proxying, server_context, serving

from skyflowctl.skyflow.http.pool import ConnectionPool, default_context
from skyflowctl.skyflow.http.token_service import HttpTokenService
from skyflowctl.skyflow.token_service import TokenServiceUnreachableError


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect_failure(uri: str, ca, environ=None, deadline=5.0) -> str:
    async def main():
        async with client(ca, environ) as service:
            with pytest.raises(TokenServiceUnreachableError) as caught:
                await ask(service, uri, deadline=deadline)
            return caught.value.reason

    return asyncio.run(main())


def test_a_refused_connection(local_ca):
    port = unused_port()
    reason = connect_failure(f"https://127.0.0.1:{port}/v1/auth/sa/oauth/token", local_ca)
    assert reason == f"127.0.0.1:{port}: connection refused"


def test_a_connection_refused_once_is_tried_again(local_ca):
    async def main():
        port = unused_port()
        async with client(local_ca) as service:
            uri = f"https://127.0.0.1:{port}/v1/auth/sa/oauth/token"
            opened = service._pool.connect
            tries = []

            async def connect(address):
                tries.append(address)
                return await opened(address if len(tries) == 1 else (address[0], server.port))

            service._pool.connect = connect
            async with serving(give_token, server_context(local_ca)) as server:
                answer = await ask(service, uri)
                await service.aclose()
            return answer.token_type, len(tries)

    assert asyncio.run(main()) == ("Bearer", 2)


@pytest.mark.parametrize("host", ["name.invalid", "a" * 64 + ".invalid"])
def test_an_unknown_name(local_ca, host):
    reason = connect_failure(f"https://{host}/v1/auth/sa/oauth/token", local_ca)
    assert "name" in reason.removeprefix(host)


def tls_failure(ca, server_side) -> tuple[str, int]:
    async def main():
        async with serving(give_token, server_side) as server, client(ca) as service:
            with pytest.raises(TokenServiceUnreachableError) as caught:
                await ask(service, server.uri)
            return caught.value.reason, len(server.calls)

    return asyncio.run(main())


def test_an_unknown_authority_is_not_trusted(local_ca):
    reason, calls = tls_failure(local_ca, server_context(trustme.CA()))
    assert "certificate is not trusted" in reason
    assert calls == 0


def test_an_expired_certificate_is_not_trusted(local_ca):
    ended = datetime.now(UTC) - timedelta(days=1)
    reason, calls = tls_failure(local_ca, server_context(local_ca, not_after=ended))
    assert "certificate has expired" in reason
    assert calls == 0


@pytest.mark.parametrize("name", ["other.example", "localhost", "127.0.0.2"])
def test_a_certificate_of_another_host_is_not_trusted(local_ca, name):
    reason, calls = tls_failure(local_ca, server_context(local_ca, name))
    assert "127.0.0.1" in reason
    assert "certificate is not trusted" in reason
    assert calls == 0


def test_a_server_without_tls_is_said(local_ca):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main():
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        uri = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/auth/sa/oauth/token"
        async with server, client(local_ca) as service:
            with pytest.raises(
                TokenServiceUnreachableError, match="TLS failed: wrong version number"
            ):
                await ask(service, uri)

    asyncio.run(main())


def test_the_default_context_reads_ssl_cert_file(local_ca, tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    local_ca.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    async def main():
        async with serving(give_token, server_context(local_ca)) as server:
            service = HttpTokenService(ConnectionPool(environ={}))
            answer = await ask(service, server.uri)
            await service.aclose()
            return answer.token_type

    assert asyncio.run(main()) == "Bearer"
    context = default_context()
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_the_context_is_made_once_and_only_when_needed(local_ca):
    made = []

    def make():
        made.append(1)
        return client_context(local_ca)

    async def main():
        service = HttpTokenService(ConnectionPool(environ={}, context=make))
        assert not made
        async with serving(
            lambda call: call.token(connection="close"), server_context(local_ca)
        ) as server:
            for _ in range(3):
                await ask(service, server.uri)
        await service.aclose()

    asyncio.run(main())
    assert made == [1]


def test_a_handshake_that_hangs_ends_at_the_deadline_without_a_leak(local_ca):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async def main():
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        uri = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/auth/sa/oauth/token"
        async with server, client(local_ca) as service:
            asking = [ask(service, uri, deadline=0.3) for _ in range(10)]
            results = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(result, TokenServiceUnreachableError) for result in results)
            assert service.open_connections == 0
            async with asyncio.timeout(5):
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0.005)

    descriptors = open_descriptors()
    asyncio.run(main())
    assert open_descriptors() <= descriptors


# --- proxies


def through_proxy(ca, environ_of, answer=None):
    async def main():
        options = {} if answer is None else {"answer": answer}
        async with (
            serving(give_token, server_context(ca)) as server,
            proxying(**options) as proxy,
            client(ca, environ_of(proxy)) as service,
        ):
            try:
                for _ in range(3):
                    await ask(service, server.uri)
                outcome = "token"
            except TokenServiceUnreachableError as error:
                outcome = error.reason
            await service.aclose()
            return outcome, proxy.heads, server

    return asyncio.run(main())


def test_an_exchange_goes_through_the_proxy_with_its_login(local_ca):
    outcome, heads, server = through_proxy(
        local_ca, lambda proxy: {"HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{proxy.port}"}
    )
    assert outcome == "token"
    assert len(heads) == 1
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in heads[0]
    assert len(server.calls) == 3
    assert "proxy-auth" not in server.calls[0].head.lower()


def test_no_proxy_goes_past_it(local_ca):
    outcome, heads, _ = through_proxy(
        local_ca,
        lambda proxy: {
            "https_proxy": f"127.0.0.1:{proxy.port}",
            "NO_PROXY": "x.example, 127.0.0.0/8",
        },
    )
    assert (outcome, heads) == ("token", [])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered 407 to CONNECT"),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "answered 403 to CONNECT"),
        (b"220 mail.example ESMTP\r\n\r\n", "nothing that is HTTP"),
        (b"", "connection closed while connecting"),
    ],
)
def test_a_proxy_that_says_no_is_named(local_ca, answer, said):
    outcome, _, server = through_proxy(
        local_ca,
        lambda proxy: {"HTTPS_PROXY": f"http://me:secretword@127.0.0.1:{proxy.port}"},
        answer,
    )
    assert said in outcome
    assert outcome.startswith("proxy 127.0.0.1:")
    assert "secretword" not in outcome
    assert server.calls == []


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1080", "http://[::1", "https://proxy:1"])
def test_a_proxy_variable_that_cannot_be_used_is_said_and_not_repeated(local_ca, url):
    reason = connect_failure(
        "https://127.0.0.1:1/v1/auth/sa/oauth/token", local_ca, {"HTTPS_PROXY": url}
    )
    assert reason.startswith("HTTPS_PROXY")
    assert url not in reason


def test_a_proxy_that_hangs_is_left_at_the_deadline(local_ca):
    async def main():
        left = asyncio.Event()

        async def silent(reader, writer):
            await reader.read()
            left.set()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        async with server, client(local_ca, environ) as service:
            with pytest.raises(TokenServiceUnreachableError, match=r"within 0\.2 s"):
                await ask(service, "https://127.0.0.1:1/v1/auth/sa/oauth/token", deadline=0.2)
            await asyncio.wait_for(left.wait(), 5)

    asyncio.run(main())


def test_two_services_share_the_default_context_unless_the_roots_change(monkeypatch, tmp_path):
    first = default_context()
    assert default_context() is first
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "others.pem"))
    assert default_context() is not first
