"""The emulator's HTTPS server: the token endpoint, faults, restarts, its files."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import subprocess
import sys
import time

import jwt as pyjwt
import pytest
from support.emulator import Caller, sign, start_emulator, write_certificate
from support.faulty_emulator import Fault, FaultKind

from skyflowctl.skyflow.emulator.rules import JWT_BEARER
from skyflowctl.skyflow.emulator.server import ServerSettings, token_uris

TOKEN_PATH = "/v1/auth/sa/oauth/token"


@pytest.fixture(scope="module")
def credentials(emulator):
    """An account that no test changes."""
    return emulator.new_account("role-read", "role-write")


@pytest.fixture
def caller(emulator):
    with Caller(emulator) as one:
        yield one


def client_id(credentials: str) -> str:
    return json.loads(credentials)["clientID"]


def test_an_exchange_answers_as_documented(caller, credentials):
    status, headers, body = caller.mint(credentials, "role:role-read", ctx="order:42")
    assert status == 200
    assert set(body) == {"accessToken", "tokenType"}
    assert body["tokenType"] == "Bearer"
    claims = pyjwt.decode(body["accessToken"], options={"verify_signature": False})
    assert claims["sub"] == client_id(credentials)
    assert claims["roles"] == ["role-read"]
    assert claims["ctx"] == "order:42"
    assert 3590 < claims["exp"] - time.time() <= 3600
    assert headers["content-type"] == "application/json"
    assert len(headers["x-request-id"]) == 32
    assert headers["date"].endswith(" GMT")


def test_a_refusal_answers_as_documented(caller, credentials):
    status, headers, body = caller.mint(credentials, "role:other")
    assert status == 401
    assert set(body) == {"error"}
    assert body["error"].pop("message")
    assert body["error"] == {
        "grpc_code": 16,
        "http_code": 401,
        "http_status": "Unauthorized",
        "details": [],
    }
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]


def test_a_bogus_authorization_header_does_not_matter(caller, credentials):
    body = {"grant_type": JWT_BEARER, "assertion": sign(credentials)}
    assert caller.call("POST", TOKEN_PATH, body, authorization="Bearer token")[0] == 200
    assert caller.call("POST", TOKEN_PATH, body, authorization="Bearer")[0] == 200


def test_both_names_of_the_server_are_its_own_audience(emulator, caller, credentials):
    assert caller.mint(credentials, aud=f"https://localhost:{emulator.port}{TOKEN_PATH}")[0] == 200
    other = f"https://localhost:{emulator.port + 1}{TOKEN_PATH}"
    assert caller.mint(credentials, aud=other)[0] == 401


def test_on_port_443_the_audience_may_leave_the_port_out(tmp_path):
    settings = ServerSettings(tmp_path, tmp_path, tmp_path, name="sky.test")
    uris = token_uris(settings, 443)
    assert uris[0] == f"https://sky.test{TOKEN_PATH}"
    assert f"https://sky.test:443{TOKEN_PATH}" in uris
    assert token_uris(settings, 8443)[0] == f"https://sky.test:8443{TOKEN_PATH}"


@pytest.mark.parametrize("body", ["", "x", "[]", "7", "\xff", "{}", '{"grant_type": 7}'])
def test_a_body_that_is_no_request_is_a_400_and_the_connection_lives(caller, credentials, body):
    status, _, answer = caller.call("POST", TOKEN_PATH, body.encode("latin-1"))
    assert status == 400
    assert answer["error"]["grpc_code"] == 3
    assert caller.mint(credentials)[0] == 200


def test_a_form_body_is_refused(caller, credentials):
    form = f"grant_type={JWT_BEARER}&assertion={sign(credentials)}"
    assert caller.call("POST", TOKEN_PATH, form)[0] == 400


def test_other_methods_and_paths(caller):
    assert caller.call("GET", TOKEN_PATH)[0] == 405
    status, _, body = caller.call("GET", "/v1/nowhere")
    assert (status, body) == (404, {})


def test_one_connection_serves_many_exchanges(emulator, credentials):
    before = emulator.control.counters()
    with Caller(emulator) as caller:
        for _ in range(20):
            caller.token(credentials)
    after = emulator.control.counters()
    assert after["token_connections"] - before["token_connections"] == 1
    assert after["exchanges"] - before["exchanges"] == 20
    assert after["granted"] - before["granted"] == 20


def test_a_reply_is_one_segment(emulator, credentials):
    body = json.dumps({"grant_type": JWT_BEARER, "assertion": sign(credentials)})
    head = f"POST {TOKEN_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", emulator.port), 10) as raw,
        emulator.tls().wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall((head + body).encode())
        # One TLS record is one read: head and body were written together.
        reply = tls.recv(65_536)
    head, _, content = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(content)["accessToken"]


def test_a_client_that_waits_for_100_continue_is_served(emulator, credentials):
    body = json.dumps({"grant_type": JWT_BEARER, "assertion": sign(credentials)})
    head = f"POST {TOKEN_PATH} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
    with (
        socket.create_connection(("127.0.0.1", emulator.port), 10) as raw,
        emulator.tls().wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        assert tls.recv(65_536).startswith(b"HTTP/1.1 100")
        tls.sendall(body.encode())
        assert tls.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n"])
def test_garbage_ends_its_connection_only(emulator, caller, credentials, garbage):
    with (
        socket.create_connection(("127.0.0.1", emulator.port), 10) as raw,
        emulator.tls().wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(garbage)
        assert tls.recv(65_536) == b""
    assert caller.mint(credentials)[0] == 200


def test_a_giant_body_ends_its_connection(emulator):
    with Caller(emulator) as caller, pytest.raises((http.client.HTTPException, OSError)):
        caller.call("POST", TOKEN_PATH, b"x" * 3_000_000)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503])
def test_a_status_fault_hits_as_often_as_told(emulator, caller, status):
    mine = emulator.new_account("role-read")
    emulator.control.add_fault(
        Fault(
            FaultKind.STATUS,
            count=2,
            status=status,
            message="as told",
            headers={"Retry-After": "7"},
            client_id=client_id(mine),
        )
    )
    for _ in range(2):
        got, headers, body = caller.mint(mine)
        assert (got, headers["retry-after"]) == (status, "7")
        assert body["error"]["message"] == "as told"
        assert body["error"]["http_code"] == status
    assert caller.mint(mine)[0] == 200


def test_a_redirect_can_be_injected(emulator, caller):
    mine = emulator.new_account()
    location = "https://elsewhere.test/"
    emulator.control.add_fault(
        Fault(
            FaultKind.STATUS,
            status=307,
            headers={"location": location},
            client_id=client_id(mine),
        )
    )
    status, headers, _ = caller.mint(mine)
    assert (status, headers["location"]) == (307, location)


def test_html_and_empty_faults(emulator, caller):
    mine = emulator.new_account()
    for kind in (FaultKind.HTML, FaultKind.EMPTY):
        emulator.control.add_fault(Fault(kind, client_id=client_id(mine)))
    status, headers, page = caller.mint(mine)
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert page.startswith("<!DOCTYPE html>")
    assert caller.mint(mine)[::2] == (200, {})


def test_a_hanging_exchange_leaves_others_alone(emulator, caller, credentials):
    mine = emulator.new_account()
    emulator.control.add_fault(Fault(FaultKind.HANG, client_id=client_id(mine)))
    with Caller(emulator, timeout=0.3) as waiting, pytest.raises(TimeoutError):
        waiting.mint(mine)
    assert caller.mint(credentials)[0] == 200
    assert caller.mint(mine)[0] == 200


def test_a_reset_exchange(emulator, caller):
    mine = emulator.new_account()
    emulator.control.add_fault(Fault(FaultKind.RESET, client_id=client_id(mine)))
    with Caller(emulator) as cut, pytest.raises(OSError):
        cut.mint(mine)
    assert caller.mint(mine)[0] == 200


def test_a_dripping_answer_is_complete_but_late(emulator, caller):
    mine = emulator.new_account()
    emulator.control.add_fault(Fault(FaultKind.DRIP, seconds=0.0005, client_id=client_id(mine)))
    started = time.monotonic()
    assert caller.token(mine)
    assert time.monotonic() - started > 0.4
    assert caller.token(mine)


def test_a_delayed_answer(emulator, caller):
    mine = emulator.new_account()
    emulator.control.add_fault(Fault(FaultKind.DELAY, seconds=0.2, client_id=client_id(mine)))
    started = time.monotonic()
    assert caller.token(mine)
    assert time.monotonic() - started >= 0.2


def test_a_restarted_emulator_knows_its_accounts_and_its_tokens(tmp_path):
    write_certificate(tmp_path)
    first = start_emulator(tmp_path)
    try:
        credentials = first.new_account("vault-1", enforce_ctx=True)
        first.control.set_token_lifetime(900)
        with Caller(first) as caller:
            token = caller.token(credentials, ctx="a")
    finally:
        assert first.stop() == 0
    second = start_emulator(tmp_path, port=first.port)
    try:
        assert second.control.state()["token_lifetime"] == 900
        with Caller(second) as caller:
            assert caller.mint(credentials)[0] == 400
            assert caller.token(credentials, ctx="a")
            path = "/v1/vaults/vault-1/persons?skyflow_ids=1"
            assert caller.call("GET", path, authorization=f"Bearer {token}")[0] == 200
    finally:
        assert second.stop() == 0


def test_its_files_are_closed_to_others_and_hold_no_account_key(emulator, credentials):
    assert stat.S_IMODE(emulator.state_dir.stat().st_mode) == 0o700
    files = {path.name: path for path in emulator.state_dir.iterdir()}
    assert set(files) == {"accounts.json", "control-token", "ready.json", "signing-key.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    saved = files["accounts.json"].read_text()
    assert client_id(credentials) in saved
    assert "PRIVATE" not in saved
    assert json.loads(files["ready.json"].read_text())["port"] == emulator.port


def test_sigterm_ends_it_at_once_even_with_a_hanging_exchange(tmp_path):
    write_certificate(tmp_path)
    one = start_emulator(tmp_path)
    try:
        mine = one.new_account()
        one.control.add_fault(Fault(FaultKind.HANG))
        with Caller(one, timeout=0.2) as caller:
            with pytest.raises(TimeoutError):
                caller.mint(mine)
            started = time.monotonic()
            assert one.stop() == 0
            assert time.monotonic() - started < 5
    finally:
        one.stop()


@pytest.mark.parametrize("damage", ["{", "[]", '{"accounts": {"a": 7}}', '{"more": 1}'])
def test_a_damaged_file_is_named(tmp_path, damage):
    write_certificate(tmp_path)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "accounts.json").write_text(damage)
    done = run_emulator(tmp_path)
    assert done.returncode == 1
    assert "accounts.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_certificate_is_an_error_in_one_line(tmp_path):
    done = run_emulator(tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def run_emulator(folder) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skyflowctl.skyflow.emulator", "--state-dir"]
    command += [str(folder / "state"), "--cert", str(folder / "cert.pem")]
    command += ["--key", str(folder / "key.pem")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)
