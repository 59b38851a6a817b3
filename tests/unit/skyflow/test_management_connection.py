"""The Management API's client on the wire: proxies, certificates, answers that are none."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
import trustme
from support.https import client_context, proxying, server_context, serving

from skyflowctl.errors import NotPermittedError, SkyflowctlError, UnreachableError
from skyflowctl.secret import Secret
from skyflowctl.skyflow.management.api import ManagementApi

OPERATOR = Secret("opaque-0123456789abcdef")


async def no_keys(call):
    await call.answer(200, b'{"keys":[]}')


def list_keys(api):
    return api.list_keys("c1")


def create_key(api):
    return api.create_key("c1")


def asked(ca, script, use=list_keys, *, trusted=None, **options):
    """What the client returns (or raises, as a value), and the server that it asked."""

    async def main():
        async with serving(script, server_context(ca)) as server:
            defaults = {"environ": {}, "context": lambda: client_context(trusted or ca)}
            api = ManagementApi(
                f"127.0.0.1:{server.port}", OPERATOR, "acc", **{**defaults, **options}
            )
            return await asyncio.to_thread(caught, use, api), server

    return asyncio.run(main())


def caught(use, api):
    try:
        return use(api)
    except SkyflowctlError as error:
        return error


def problem(error, kind=UnreachableError):
    assert isinstance(error, kind)
    (found,) = error.problems
    assert found.summary
    assert found.why
    assert found.fix
    assert OPERATOR.reveal() not in f"{found} {error!r} {error.__context__!r}"
    return found


def test_the_request_is_what_the_document_says(local_ca):
    answer, server = asked(local_ca, no_keys)
    assert answer == ()
    head = server.calls[0].head.splitlines()
    assert head[0] == "GET /v1/serviceAccounts/c1/keys?keyTypes=USER_MANAGED HTTP/1.1"
    assert f"authorization: Bearer {OPERATOR.reveal()}" in head
    assert "x-skyflow-account-id: acc" in head
    assert f"host: 127.0.0.1:{server.port}" in head


def test_a_creation_has_no_body(local_ca):
    _, server = asked(local_ca, no_keys, create_key)
    assert server.calls[0].head.startswith("POST /v1/serviceAccounts/c1/keys HTTP/1.1")
    assert "content-length: 0" in server.calls[0].head
    assert not server.calls[0].body


def test_a_proxy_is_asked_and_sees_no_token(local_ca):
    async def main():
        async with proxying() as proxy, serving(no_keys, server_context(local_ca)) as server:
            api = ManagementApi(
                f"127.0.0.1:{server.port}",
                OPERATOR,
                "acc",
                environ={"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"},
                context=lambda: client_context(local_ca),
            )
            return await asyncio.to_thread(list_keys, api), proxy.heads, server.port

    answer, heads, port = asyncio.run(main())
    assert answer == ()
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{port} ")
    assert OPERATOR.reveal() not in heads[0]


def test_a_proxy_that_is_none_is_said(local_ca):
    environ = {"HTTPS_PROXY": "socks5://u:opaque-word@h:1"}
    error, server = asked(local_ca, no_keys, environ=environ)
    assert "HTTPS_PROXY" in problem(error).why
    assert "opaque-word" not in problem(error).why
    assert server.calls == []


def test_ssl_cert_file_is_honoured(local_ca, monkeypatch, tmp_path):
    local_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def main():
        async with serving(no_keys, server_context(local_ca)) as server:
            api = ManagementApi(f"127.0.0.1:{server.port}", OPERATOR, "acc", environ={})
            return await asyncio.to_thread(list_keys, api)

    assert asyncio.run(main()) == ()


def test_an_untrusted_server_sees_no_token(local_ca):
    error, server = asked(local_ca, no_keys, create_key, trusted=trustme.CA())
    assert "certificate is not trusted" in problem(error).why
    assert problem(error).code == "management-unreachable"
    assert server.calls == []


def test_a_creation_that_never_left_leaves_no_doubt(local_ca):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    api = ManagementApi(
        f"127.0.0.1:{port}", OPERATOR, "acc", environ={}, context=lambda: client_context(local_ca)
    )
    error = caught(create_key, api)
    assert problem(error).code == "management-unreachable"
    assert "connection refused" in problem(error).why


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/html"])
def test_a_new_key_that_is_cut_short_is_not_shown(local_ca, kind):
    async def half(call):
        await call.answer(200, b'{"keyID":"k","privateKey":"-----BEGIN PRIV', kind=kind)

    error, _ = asked(local_ca, half, create_key)
    assert problem(error).code == "key-may-exist"
    assert "BEGIN" not in str(error.problems)


@pytest.mark.parametrize("missing", ["clientID", "keyID", "tokenURI", "privateKey"])
def test_a_credential_that_is_not_whole_is_none(local_ca, missing):
    fields = dict.fromkeys(("clientID", "keyID", "tokenURI", "privateKey"), "x")
    body = json.dumps({name: value for name, value in fields.items() if name != missing}).encode()

    async def partly(call):
        await call.answer(200, body)

    error, server = asked(local_ca, partly, create_key)
    assert problem(error).code == "key-may-exist"
    assert len(server.calls) == 1


def test_a_creation_that_timed_out_on_the_way_ends_in_doubt(local_ca):
    async def late(call):
        await call.answer(408, b"{}")

    error, server = asked(local_ca, late, create_key)
    assert problem(error).code == "key-may-exist"
    assert len(server.calls) == 1


def test_an_answer_that_repeats_the_token_is_masked(local_ca):
    async def echo(call):
        said = {"error": {"message": f"no right for {OPERATOR.reveal()}"}}
        await call.answer(403, json.dumps(said).encode())

    error, _ = asked(local_ca, echo)
    assert "no right for ***" in problem(error, NotPermittedError).why


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"keys":[{}]}', b'{"keys":[1]}', b'{"a":[],"b":[]}', b'{"keys":{}}'],
)
def test_what_is_no_list_of_keys_is_none(local_ca, body):
    async def say(call):
        await call.answer(200, body)

    error, _ = asked(local_ca, say)
    assert "no list of keys" in problem(error).why


def test_an_empty_list_may_be_left_out(local_ca):
    async def say(call):
        await call.answer(200, b"{}")

    assert asked(local_ca, say)[0] == ()


def test_an_answer_without_end_is_cut(local_ca):
    async def flood(call):
        await call.answer(200, b'{"keys":[' + b" " * 200_000 + b"]}")

    error, _ = asked(local_ca, flood)
    assert "no list of keys" in problem(error).why
