"""Where the server is: explicit values, then BAO_*, then VAULT_*; its own token for each."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from support.https import server_context
from support.raw_server import dripping, raw_server, saying
from support.token_server import MOUNT, ROLE, HandTime, token_server

from skyflowctl.client import (
    AgentLogin,
    AppRole,
    ClientLimits,
    ClientSettingsError,
    FixedToken,
    PermissionDeniedError,
    ServerEndpoint,
    ServerUnavailableError,
    TokenSource,
)
from skyflowctl.client.server import checked_address, resolve_endpoint

ONCE = ClientLimits(attempts=1, timeout=2.0)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    for name in ("ADDR", "AGENT_ADDR", "TOKEN", "NAMESPACE", "CACERT", "CAPATH", "TOKEN_PATH"):
        for prefix in ("BAO_", "VAULT_"):
            monkeypatch.delenv(prefix + name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("address", "checked"),
    [
        ("https://bao.example", "https://bao.example:443"),
        ("http://127.0.0.1:8200/", "http://127.0.0.1:8200"),
        ("https://[::1]:8200", "https://[::1]:8200"),
        ("unix:///run/agent.sock", "unix:///run/agent.sock"),
    ],
)
def test_addresses(address, checked):
    assert checked_address(address) == checked


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bao.example",
        "ftp://x",
        "https://u:hidden@x",
        "https://x/v1",
        "https://x?a=hidden",
        "https://x:y",
        "unix://x",
    ],
)
def test_addresses_that_are_refused(address):
    with pytest.raises(ClientSettingsError) as caught:
        checked_address(address)
    assert "hidden" not in str(caught.value)


def test_the_environment_is_one_bundle():
    environ = {
        "BAO_ADDR": "http://bao:8200",
        "VAULT_ADDR": "http://vault:8200",
        "BAO_NAMESPACE": "/shop/",
        "SKYFLOWCTL_NODES": "http://b2:8200, http://b3:8200",
    }
    found = resolve_endpoint(None, environ)
    assert found.addresses == ("http://bao:8200", "http://b2:8200", "http://b3:8200")
    assert found.namespace == "shop"
    assert (
        resolve_endpoint(None, {**environ, "BAO_AGENT_ADDR": "http://agent:1"}).address
        == "http://agent:1"
    )
    own = resolve_endpoint("http://own:8200", {**environ, "BAO_CACERT": "/ca.pem"})
    assert (own.namespace, own.nodes, own.ca_cert) == ("", (), "/ca.pem")
    with pytest.raises(ClientSettingsError, match="BAO_ADDR"):
        resolve_endpoint(None, {"BAO_ADDR": "", "VAULT_ADDR": "http://vault:8200"})


def test_the_environments_token_goes_to_the_environments_address_alone(monkeypatch):
    with token_server() as server:
        monkeypatch.setenv("BAO_ADDR", server.server.address)
        monkeypatch.setenv("BAO_TOKEN", "given")
        with TokenSource() as source:
            assert source.token(MOUNT, ROLE).access_token == "bearer-1-"
        with pytest.raises(ClientSettingsError, match="no login is named"):
            TokenSource(server=server.server.address)
        monkeypatch.delenv("BAO_TOKEN")
        with pytest.raises(ClientSettingsError, match="no login is named"):
            TokenSource()
        (Path.home() / ".vault-token").write_text("given")
        with TokenSource() as source:
            assert source.token(MOUNT, ROLE).access_token == "bearer-2-"


def test_an_agent_gets_no_token(monkeypatch):
    with token_server() as server:
        server.valid = {None}
        with TokenSource(AgentLogin(), server=server.server.address) as source:
            source.token(MOUNT, ROLE)
        monkeypatch.setenv("VAULT_AGENT_ADDR", server.server.address)
        with TokenSource() as source:
            source.token(MOUNT, ROLE)
            server.valid.clear()
            with pytest.raises(PermissionDeniedError):
                source.token(MOUNT, "other")
    assert {seen.headers.get("x-vault-request") for seen in server.server.seen} == {"true"}
    assert len(server.server.seen) == 3


def test_a_unix_socket_is_an_agents(tmp_path):
    import threading

    answer = b'{"data": {"access_token": "from-the-socket", "ttl": 3600}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
    path = tmp_path / "agent.sock"
    heads: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                heads.append(client.recv(65536))
                client.sendall(head + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with TokenSource(server=f"unix://{path}") as source:
            assert source.token(MOUNT, ROLE, ctx="a b&c").access_token == "from-the-socket"
        thread.join()
    assert heads[0].startswith(b"GET /v1/skyflow/order/creds/producer?ctx=a+b%26c HTTP/1.1")
    assert b"X-Vault-Token" not in heads[0]


def test_headers_namespace_and_consistency():
    from support.scripted import Answer

    with token_server() as server:
        index = {"X-Vault-Index": "eyJ9"}
        endpoint = ServerEndpoint(server.server.address, namespace="shop/")
        with TokenSource(
            FixedToken("given"), server=endpoint, application="order-service"
        ) as source:
            server.before = lambda _seen: Answer(
                200, {"data": {"access_token": "x", "ttl": 9}}, index
            )
            source.token(MOUNT, ROLE)
            source.token(MOUNT, "other")
    first, second = (seen.headers for seen in server.server.seen)
    assert (first["x-vault-namespace"], first["application-source"]) == ("shop", "order-service")
    assert "x-vault-index" not in first
    assert (second["x-vault-index"], second["x-vault-inconsistent"]) == (
        "eyJ9",
        "forward-active-node",
    )


def test_another_node_answers_when_one_is_down_or_redirects():
    from support.scripted import Answer

    with token_server() as down, token_server() as leader:
        nodes = (leader.server.address,)
        endpoint = ServerEndpoint(down.server.address, nodes=nodes)
        clock = HandTime()
        with TokenSource(FixedToken("given"), server=endpoint, clock=clock) as source:
            where = {"Location": f"{leader.server.address}/v1/skyflow/order/creds/producer"}
            down.before = lambda _seen: Answer(307, None, where)
            assert source.token(MOUNT, ROLE).access_token == "bearer-1-"
            source.token(MOUNT, "other")
            assert (len(down.server.seen), leader.creds) == (1, 2)  # it asks who answered
            leader.before = lambda _seen: Answer(503, {"errors": ["Vault is sealed"]})
            down.before = lambda _seen: None
            assert source.token(MOUNT, "third").access_token
        assert clock.slept == []


def test_a_redirect_elsewhere_sees_no_token():
    from support.scripted import Answer

    with token_server() as server, token_server() as elsewhere:
        where = {"Location": f"{elsewhere.server.address}/v1/x"}
        server.before = lambda _seen: Answer(307, None, where)
        with (
            TokenSource(
                FixedToken("given"), server=server.server.address, clock=HandTime()
            ) as source,
            pytest.raises(ServerUnavailableError, match="not named"),
        ):
            source.token(MOUNT, ROLE)
        assert elsewhere.server.seen == []
        assert len(server.server.seen) == 5


@pytest.mark.parametrize(
    ("serve", "text"),
    [
        (saying(b""), "not whole|closed"),
        (saying(b"SSH-2.0\r\n"), "not HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "not whole"),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b" "), "in time"),
    ],
)
def test_bad_answers(serve, text):
    with (
        raw_server(serve) as address,
        TokenSource(FixedToken("given"), server=address, limits=ONCE) as source,
        pytest.raises(ServerUnavailableError, match=text),
    ):
        source.token(MOUNT, ROLE)


def test_a_certificate_is_checked_and_a_folder_needs_no_hash_links(tmp_path):
    ca = trustme.CA()
    body = b'{"data": {"access_token": "secure", "ttl": 3600}}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    folder = tmp_path / "ca"
    folder.mkdir()
    (folder / "one.pem").write_bytes(ca.cert_pem.bytes())
    with raw_server(saying(answer), server_context(ca)) as plain:
        address = plain.replace("http:", "https:")

        def asked(**options: str) -> str:
            endpoint = ServerEndpoint(address, **options)
            with TokenSource(FixedToken("given"), server=endpoint, limits=ONCE) as source:
                return source.token(MOUNT, ROLE).access_token

        assert asked(ca_cert=str(folder / "one.pem")) == "secure"
        assert asked(ca_path=str(folder)) == "secure"
        assert asked(ca_bytes=ca.cert_pem.bytes().decode()) == "secure"
        with pytest.raises(ServerUnavailableError, match="certificate is not accepted"):
            asked(ca_bytes=trustme.CA().cert_pem.bytes().decode())
        with pytest.raises(ServerUnavailableError, match="certificate is not accepted"):
            asked(ca_path=str(folder), tls_server_name="other.example")
        with pytest.raises(ClientSettingsError, match="cannot be read"):
            asked(ca_cert="/no/such/file")
        with pytest.raises(ClientSettingsError, match="no CA certificate"):
            asked(ca_bytes="x")


def test_settings_that_cannot_be_sent():
    with pytest.raises(ClientSettingsError):
        FixedToken("a\nb")
    with TokenSource(AppRole("a", "b"), server="http://127.0.0.1:1", limits=ONCE) as source:
        for mount, role in (("", "r"), ("m/../n", "r"), ("m", "a\nb")):
            with pytest.raises(ClientSettingsError):
                source.token(mount, role)
        with pytest.raises(ClientSettingsError):
            source.token(MOUNT, ROLE, ctx={"a": object()})
        with pytest.raises(ServerUnavailableError, match="refused"):
            source.token(MOUNT, ROLE)
    with pytest.raises(ClientSettingsError):
        TokenSource(AgentLogin(), server="http://127.0.0.1:1", application="a\nb")


def test_its_import_is_quick_and_loads_nothing_else_of_ours():
    code = (
        "import sys, time\n"
        "before = time.process_time()\n"
        "from skyflowctl.client import TokenSource\n"
        "print(time.process_time() - before)\n"
        "ours = {name for name in sys.modules if name.startswith('skyflowctl')}\n"
        "print(sorted(one for one in ours if not one.startswith('skyflowctl.client')))\n"
        "print(sorted({'asyncio', 'hvac', 'requests', 'skyflow', 'typer'} & set(sys.modules)))\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    lines = [run.stdout.splitlines() for run in runs]
    assert lines[0][1:] == ["['skyflowctl', 'skyflowctl.version']", "[]"]
    assert min(float(one[0]) for one in lines) < 0.1
