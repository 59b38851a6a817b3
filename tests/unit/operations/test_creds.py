"""``creds``: what a ctx argument means, and ``--direct`` against servers that misbehave."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from support.bao import free_port_pair
from support.https import server_context
from support.keys import credential, unsigned_token

from skyflowctl.engine.ctx import CtxRule
from skyflowctl.errors import InvalidInputError, UnhealthyError, UsageError
from skyflowctl.operations.creds import parse_ctx
from skyflowctl.operations.creds_direct import mint_direct
from skyflowctl.skyflow.service_account import load_trusted

PATH = "/v1/auth/sa/oauth/token"


class Service(ThreadingHTTPServer):
    """A token service that answers as it is told, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self, ca: trustme.CA) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = server_context(ca).wrap_socket(self.socket, server_side=True)
        self.seen: list[dict] = []
        self.status = 200
        self.headers: dict[str, str] = {"x-request-id": "req-1"}
        self.body: object = {"accessToken": unsigned_token(), "tokenType": "Bearer"}

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(json.loads(sent))
        body = json.dumps(self.server.body).encode()
        self.send_response(self.server.status)
        for name, value in {**self.server.headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(tmp_path, monkeypatch):
    ca = trustme.CA()
    bundle = Path(tmp_path) / "ca.pem"
    ca.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = []

    def start() -> Service:
        service = Service(ca)
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        running.append((service, thread))
        return service

    yield start
    for service, thread in running:
        service.shutdown()
        thread.join()
        service.server_close()


def account(host: str):
    return load_trusted(json.dumps(credential(token_uri=f"https://{host}{PATH}")))


def mint(service: Service, ctx=None, rule=None, hosts=None):
    allowed = frozenset(hosts if hosts is not None else {service.host})
    return mint_direct(account(service.host), "r1", ctx, rule or CtxRule(), allowed_hosts=allowed)


def test_the_sdk_gets_a_token_in_silence(serve, capfd, caplog):
    service = serve()
    with caplog.at_level(logging.DEBUG, "skyflow-python"):
        token = mint(service, "order:x")
    assert token.access_token.reveal() == service.body["accessToken"]
    assert token.expires_at.tzinfo is not None
    assert service.seen[0]["scope"] == "role:r1"
    out, err = capfd.readouterr()
    assert out + err == ""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(serve, status):
    elsewhere, service = serve(), serve()
    service.status = status
    service.headers = {"location": f"https://{elsewhere.host}{PATH}"}
    with pytest.raises(UnhealthyError) as refused:
        mint(service)
    assert refused.value.problems[0].code == "redirect-refused"
    assert len(service.seen) == 1
    assert elsewhere.seen == []


def test_the_services_own_words_come_out_without_the_ctx(serve):
    service = serve()
    service.status = 400
    service.body = {"error": {"message": "ctx order:jane@example.com is not allowed"}}
    with pytest.raises(UnhealthyError) as refused:
        mint(service, "order:jane@example.com")
    problem = refused.value.problems[0]
    assert "status 400" in problem.summary
    assert problem.why == "ctx *** is not allowed (request id req-1)"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_every_refusal_has_its_status(serve, status):
    service = serve()
    service.status = status
    service.body = {"error": {"message": "no"}}
    with pytest.raises(UnhealthyError, match=f"status {status}"):
        mint(service)


def test_what_is_no_token_is_no_token(serve):
    service = serve()
    service.body = {"accessToken": "not-a-jwt", "tokenType": "Bearer"}
    with pytest.raises(UnhealthyError, match="did not return a token"):
        mint(service)


def test_a_host_that_was_not_named_gets_nothing(serve):
    service = serve()
    with pytest.raises(InvalidInputError) as refused:
        mint(service, hosts=())
    assert refused.value.problems[0].code == "token-uri"
    assert service.seen == []


def test_the_roles_own_rule_is_applied(serve):
    service = serve()
    rule = CtxRule.of(None, "order:*")
    for ctx in (None, "ticket:x", {"a": "b"}):
        with pytest.raises(UsageError) as refused:
            mint(service, ctx, rule)
        assert refused.value.problems[0].code == "bad-ctx"
    assert service.seen == []
    assert mint(service, "order:x", rule).token_type == "Bearer"


def test_nobody_there_is_said():
    nowhere = f"127.0.0.1:{free_port_pair()}"
    with pytest.raises(UnhealthyError) as refused:
        mint_direct(account(nowhere), "r1", None, CtxRule(), allowed_hosts={nowhere})
    assert refused.value.problems[0].code == "token-service-unreachable"


def test_a_ctx_is_text_or_an_object():
    assert parse_ctx(None) is None
    assert parse_ctx("order:ORD-42") == "order:ORD-42"
    assert parse_ctx('{"purpose": "x", "n": 1}') == {"purpose": "x", "n": 1}


@pytest.mark.parametrize("text", ["", "  ", "{", "{}", '{"a": [1]}', "a\nb", "x" * 513])
def test_a_bad_ctx_is_refused_and_not_repeated(text):
    with pytest.raises(UsageError) as refused:
        parse_ctx(text)
    problem = refused.value.problems[0]
    assert problem.code == "bad-ctx"
    assert len(text.strip()) < 3 or text not in f"{problem.summary}{problem.why}{problem.fix}"
