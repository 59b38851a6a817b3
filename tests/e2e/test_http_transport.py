"""The transport to a real server, against scripted bad servers and a real good one."""

from __future__ import annotations

import base64
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.bao import BaoServer
from support.client_libraries import client_library  # noqa: F401 - runs all tests twice
from support.gateways import target_of
from support.scripted import Answer, ScriptedServer, Seen, scripted

from skyflowctl.secret import Secret
from skyflowctl.vault.errors import (
    BusyError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    RedirectRefusedError,
    SealedError,
    ServerUnreachableError,
    SilentlyIgnoredError,
    TokenServiceFailedError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.guards import guard_probe
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Request

OK = Answer(200, {"data": {"x": 1}, "request_id": "id-1"})
HEALTH = Answer(200, {"cluster_id": "c1", "initialized": True, "sealed": False})
SEALED = Answer(503, {"errors": ["Vault is sealed"]})
NO_LEADER = Answer(500, {"errors": ["local node not active but active cluster node not found"]})
LEADERSHIP_LOST = Answer(
    500, {"errors": ["1 error occurred:\n\t* leadership lost while committing log"]}
)


# 2.7 sends its index with every answer, errors included.
LAGS = Answer(429, {"errors": []}, {"X-Vault-Index": "eyJ9"})
DROPPED = Answer(drop=True)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted(OK) as running:
        yield running


@pytest.fixture
def clock() -> Time:
    return Time()


class Probed(HttpTransport):
    """A transport that knows already that no path is guarded, so that it sends no probe."""

    def refuse_guarded(self, method: str, path: str, names: object = ()) -> None:
        """No path is guarded."""


def transport_to(
    *servers: ScriptedServer, clock: Time | None = None, **options: object
) -> HttpTransport:
    first, *others = [server.address for server in servers]
    target = Target(first, "team", Secret("t-hidden"), "flags", nodes=tuple(others))
    if clock:
        options |= {"monotonic": clock.monotonic, "sleep": clock.sleep}
    return Probed(target, run_id="run-1", **options)


def read(transport: HttpTransport, **options: object):
    return transport.send(Request("GET", "a/b", **options))


def write(transport: HttpTransport, *, idempotent: bool):
    return transport.send(
        Request("POST", "a/b", body={"v": Secret("s-hidden")}, idempotent=idempotent)
    )


def test_every_request_says_who_and_which_run(server, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login u password p")
    for name, value in {
        "HOME": str(tmp_path),
        "VAULT_TOKEN": "env",
        "VAULT_ADDR": "http://x",
    }.items():
        monkeypatch.setenv(name, value)
    transport = transport_to(server)
    reply = transport.send(Request("GET", "a b/c", params={"ctx": "o:1&x"}, wrap_ttl="5m"))
    seen = server.seen[0]
    assert seen.path == "/v1/a%20b/c?ctx=o%3A1%26x"
    assert seen.headers["x-vault-token"] == "t-hidden"
    assert seen.headers["x-vault-namespace"] == "team"
    assert seen.headers["x-vault-request"] == "true"
    assert seen.headers["x-skyflowctl-run"] == "run-1"
    assert seen.headers["application-source"] == "skyflowctl"
    assert seen.headers["x-vault-wrap-ttl"] == "5m"
    assert "authorization" not in seen.headers
    assert (reply.data, reply.request_id, transport.requests_made) == ({"x": 1}, "id-1", 1)


def test_no_token_sends_none_also_when_the_environment_has_one(server, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "env-token")
    target = Target(server.address, "", None, "flags")
    HttpTransport(target, run_id="r").send(Request("GET", "a"))
    assert "x-vault-token" not in server.seen[0].headers


def test_a_body_with_a_secret_is_sent_after_a_probe_of_its_path(server):
    write(HttpTransport(Target(server.address, "", None, "flags"), run_id="r"), idempotent=True)
    bodies = [json.loads(one.body) for one in server.seen]
    assert bodies == [guard_probe("a/b", ["v"]), {"v": "s-hidden"}]


def test_a_body_is_json_with_its_secret(server):
    write(transport_to(server), idempotent=True)
    assert json.loads(server.seen[0].body) == {"v": "s-hidden"}
    assert server.seen[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "answer",
    [NO_LEADER, LEADERSHIP_LOST, Answer(502), Answer(503, b"<html>"), Answer(504), DROPPED],
)
def test_a_read_outlives_an_election(server, clock, answer):
    """A6: also behind a proxy, once the server itself has answered in this run."""
    transport = transport_to(server, clock=clock)
    read(transport)
    server.script = [answer] * 7 + [OK]
    assert read(transport).data == {"x": 1}
    assert len(server.seen) == 9


@pytest.mark.parametrize("answer", [NO_LEADER, LAGS])
def test_what_was_not_applied_is_sent_again_even_if_it_is_not_idempotent(server, clock, answer):
    server.script = [answer, OK]
    write(transport_to(server, clock=clock), idempotent=False)
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "answer",
    [LEADERSHIP_LOST, Answer(drop=True), Answer(504), Answer(500, {"errors": ["internal error"]})],
)
def test_what_may_have_been_applied_is_sent_once_if_it_is_not_idempotent(server, clock, answer):
    server.script = [answer, OK]
    with pytest.raises(OutcomeUnknownError) as caught:
        write(transport_to(server, clock=clock), idempotent=False)
    assert len(server.seen) == 1
    assert "s-hidden" not in str(caught.value.problems)


def test_an_unexplained_500_is_tried_three_times(server, clock):
    server.script = [Answer(500, {"errors": ["internal error"]})]
    with pytest.raises(VaultError) as caught:
        read(transport_to(server, clock=clock))
    assert caught.value.status == 500
    assert len(server.seen) == 3


def test_retry_after_is_honoured_until_the_deadline(server, clock):
    server.script = [replace(LAGS, headers={**LAGS.headers, "Retry-After": "7"})]
    with pytest.raises(BusyError):
        read(transport_to(server, clock=clock, timeout=30))
    assert clock.pauses == [7.0, 7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, {"errors": ["permission denied"]}), ForbiddenError),
        (Answer(502, {"errors": ["token service refused: 401 no"]}), TokenServiceFailedError),
        (Answer(503, {"errors": ["skyflow: timed out"]}), TokenServiceFailedError),
        (SEALED, SealedError),
        (Answer(404, {"errors": []}, LAGS.headers), NotFoundError),
    ],
)
def test_a_final_answer_is_asked_for_once(server, clock, answer, kind):
    server.script = [answer]
    with pytest.raises(kind) as caught:
        read(transport_to(server, clock=clock))
    assert len(server.seen) == 1
    assert caught.value.status == answer.status


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>login</html>"),
        (404, b"<html>login</html>"),
        (404, b'{"message": "not found"}'),
        (200, b"[]"),
        (404, b""),
    ],
)
def test_something_else_that_answers_is_no_empty_server(server, status, body):
    server.script = [Answer(status, body)]
    with pytest.raises(VaultError) as caught:
        read(transport_to(server))
    assert caught.value.says("not that of an OpenBao or Vault server")


def test_a_redirect_to_an_unnamed_host_never_sees_the_token(server, clock):
    with scripted(OK) as stranger:
        location = f"{stranger.address}/v1/a/b"
        server.script = [Answer(307, headers={"Location": location})]
        with pytest.raises(RedirectRefusedError) as caught:
            read(transport_to(server, clock=clock))
        assert stranger.seen == []
    assert stranger.address in caught.value.problems[0].summary
    assert clock.now >= 9


def test_a_redirect_during_an_election_is_outlived(server, clock):
    server.script = [Answer(307, headers={"Location": "https://127.0.0.1:1/v1/a/b"})] * 5 + [OK]
    assert read(transport_to(server, clock=clock)).data == {"x": 1}


def test_a_redirect_is_never_success_for_a_write(server, clock):
    server.script = [Answer(307, headers={"Location": "https://127.0.0.1:1/v1/a/b"})]
    with pytest.raises(OutcomeUnknownError):
        write(transport_to(server, clock=clock), idempotent=False)
    assert len(server.seen) == 1


def test_a_redirect_to_a_named_node_is_followed_with_method_and_body(server):
    with scripted(OK) as node:
        server.script = [Answer(307, headers={"Location": f"{node.address}/v1/a/b"})]
        write(transport_to(server, node), idempotent=False)
        assert (node.seen[0].method, node.seen[0].path) == ("POST", "/v1/a/b")
        assert json.loads(node.seen[0].body) == {"v": "s-hidden"}
        assert node.seen[0].headers["x-vault-token"] == "t-hidden"


def test_a_circle_of_redirects_ends(server, clock):
    server.script = [Answer(307, headers={"Location": "/v1/a/b"})]
    with pytest.raises(OutcomeUnknownError):
        read(transport_to(server, clock=clock, timeout=2))


def test_a_sealed_or_dead_node_gives_way_to_a_named_one(server, clock):
    server.script = [SEALED]
    with scripted(OK) as node:
        transport = transport_to(server, node, clock=clock)
        assert read(transport).data == {"x": 1}
        read(transport)
        assert len(server.seen) == 1
        gone = ScriptedServer(OK)
        gone.close()
        assert read(transport_to(gone, node, clock=clock)).data == {"x": 1}


def test_all_requests_of_a_command_share_one_deadline(server, clock):
    """A cluster that stays away ends an apply after a minute, not after one for each object."""
    with scripted(NO_LEADER) as other:
        transport = transport_to(server, other, clock=clock, timeout=60)
        read(transport)
        server.script = [NO_LEADER]
        for _ in range(50):
            with pytest.raises(VaultError):
                read(transport)
        assert 55 < clock.now <= 60
        server.script = [OK]
        other.script = [OK]
        assert read(transport).data == {"x": 1}
        # Whoever asks again later waits for a server that is away then.
        server.script = other.script = [*[NO_LEADER] * 8, OK]
        assert read(transport).data == {"x": 1}


def test_a_failure_long_after_another_has_a_deadline_of_its_own(server, clock):
    transport = transport_to(server, clock=clock, timeout=60)
    read(transport)
    server.script = [NO_LEADER]
    for _ in range(3):
        before = clock.now
        with pytest.raises(VaultError):
            read(transport)
        assert clock.now - before > 55
        clock.now += 30


def test_a_wrong_address_fails_at_once_and_a_lost_one_is_waited_for(server, clock):
    gone = ScriptedServer(OK)
    gone.close()
    with pytest.raises(ServerUnreachableError) as caught:
        read(transport_to(gone, clock=clock))
    assert clock.pauses == []
    assert "connection refused" in caught.value.problems[0].why
    with scripted(replace(OK, headers={"Connection": "close"})) as lost:
        transport = transport_to(lost, clock=clock, timeout=5)
        read(transport)
    with pytest.raises(VaultError):
        read(transport)
    assert clock.now >= 4


def test_a_server_that_hangs_is_given_up_at_the_deadline():
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as hanging:
        target = Target(f"http://127.0.0.1:{hanging.server_address[1]}", "", None, "flags")
        started = time.monotonic()
        with pytest.raises(OutcomeUnknownError) as caught:
            read(HttpTransport(target, run_id="r", timeout=0.5))
        assert time.monotonic() - started < 5
    assert "no answer in time" in caught.value.problems[0].why


def test_an_unknown_name_is_said_without_the_query():
    transport = HttpTransport(Target("http://host.invalid", "", None, "flags"), run_id="r")
    with pytest.raises(ServerUnreachableError) as caught:
        transport.send(Request("GET", "a", params={"ctx": "private-ctx"}))
    assert "private-ctx" not in str(caught.value.problems)
    assert caught.value.__cause__ is None


def index(value: int) -> str:
    text = json.dumps({"cluster": "c1", "value": str(value)})
    return base64.b64encode(text.encode()).decode()


def test_fresh_reads_learn_the_cluster_once_and_without_the_token(server):
    def answer(seen: Seen) -> Answer:
        if seen.path.startswith("/v1/sys/health"):
            return HEALTH
        return Answer(200, {"data": {}}, {"X-Vault-Index": index(5)})

    server.script = answer
    transport = transport_to(server)
    read(transport, fresh=True)
    read(transport, fresh=True)
    read(transport)
    health, first, _, plain = server.seen
    assert "x-vault-token" not in health.headers
    assert "x-vault-namespace" not in health.headers
    assert json.loads(base64.b64decode(first.headers["x-vault-index"]))["cluster"] == "c1"
    assert (
        plain.headers["x-vault-index"]
        == base64.b64encode(b'{"cluster": "c1", "value": "5"}').decode()
    )
    assert (transport.requests_made, transport.cluster_id) == (3, "c1")


def test_a_server_without_a_cluster_id_is_asked_for_it_once(server):
    server.script = [Answer(200, {"initialized": True, "sealed": False}), OK]
    transport = transport_to(server)
    read(transport, fresh=True)
    read(transport, fresh=True)
    assert [seen.path for seen in server.seen] == [
        "/v1/sys/health?standbyok=true",
        "/v1/a/b",
        "/v1/a/b",
    ]


def test_one_node_alone_is_asked_without_forwarding(server):
    with scripted(OK) as node:
        transport = transport_to(server, node)
        local = transport.at_node(node.address)
        read(local, fresh=True)
        assert "x-vault-inconsistent" not in node.seen[0].headers
        assert node.seen[0].headers["x-skyflowctl-run"] == "run-1"
        assert server.seen == []
        with pytest.raises(RedirectRefusedError):
            transport.at_node("https://elsewhere:8200")


def test_a_lost_enable_is_compared_with_what_is_mounted(server, clock):
    entry = {"type": "skyflow", "description": "d", "options": {}, "config": {}}
    server.script = [HEALTH, Answer(drop=True), Answer(200, {"data": entry, "request_id": "id-2"})]
    gateway = Gateway(transport_to(server, clock=clock))
    wanted = {"type": "skyflow", "description": "d"}
    assert gateway.sys.enable_mount("a", wanted).description == "d"
    server.script = [Answer(drop=True), Answer(200, {"data": entry, "request_id": "id-2"})]
    with pytest.raises(SilentlyIgnoredError) as caught:
        gateway.sys.enable_mount("a", wanted | {"description": "other"})
    assert "description" in caught.value.problems[0].summary


def test_a_lost_enable_that_was_not_done_is_done(server, clock):
    missing = Answer(400, {"errors": ["No secret engine mount at a/"]})
    entry = Answer(200, {"data": {"type": "skyflow"}, "request_id": "id-2"})
    server.script = [HEALTH, Answer(drop=True), missing, Answer(204), entry]
    assert Gateway(transport_to(server, clock=clock)).sys.enable_mount("a", {"type": "skyflow"})
    assert [seen.method for seen in server.seen[1:]] == ["POST", "GET", "POST", "GET"]


def test_importing_the_transport_imports_neither_hvac_nor_requests():
    code = (
        "import sys, skyflowctl.vault.http_transport, skyflowctl.vault.gateway\n"
        "print([name for name in ('hvac', 'requests', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# A real server ---------------------------------------------------------------------


@pytest.mark.real_server
def test_the_run_is_in_the_audit_log(bao: BaoServer):
    gateway = Gateway(HttpTransport(target_of(bao), run_id="run-audited-1"))
    gateway.sys.put_audited_header("X-Skyflowctl-Run", hmac=False)
    gateway.sys.mounts()
    entries = [json.loads(line) for line in bao.audit_log.read_text().splitlines()]
    runs = [entry["request"].get("headers", {}).get("x-skyflowctl-run") for entry in entries]
    assert ["run-audited-1"] in runs


@pytest.mark.real_server
def test_the_audit_log_counts_the_reads_of_a_live_state(bao: BaoServer):
    gateway = Gateway(HttpTransport(target_of(bao), run_id="run-setup"))
    gateway.sys.put_audited_header("X-Skyflowctl-Run", hmac=False)
    paths = [f"counted/{number}" for number in range(5)]
    for path in paths:
        gateway.sys.enable_mount(path, {"type": "kv"})
    run = f"run-counted-{time.monotonic_ns()}"
    state = Gateway(HttpTransport(target_of(bao), run_id=run)).read_live_state(paths, "kv")
    assert set(state.engines) == set(paths)
    entries = [json.loads(line) for line in bao.audit_log.read_text().splitlines() if run in line]
    assert sum(entry["type"] == "request" for entry in entries) == 2 + 2 * len(paths)
    for path in paths:
        gateway.sys.disable_mount(path)


@pytest.mark.real_server
def test_the_certificate_is_checked_whatever_the_environment_says(bao: BaoServer, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bao.ca))
    monkeypatch.setenv("VAULT_CACERT", str(bao.ca))
    with pytest.raises(ServerUnreachableError) as caught:
        Gateway(HttpTransport(target_of(bao, ca_cert=""), run_id="r")).sys.health()
    assert "certificate" in caught.value.problems[0].why
    assert Gateway(HttpTransport(target_of(bao), run_id="r")).sys.health().initialized


@pytest.mark.real_server
def test_server_name_and_skip_verify_are_honoured(bao: BaoServer):
    def health(**changes: object):
        return Gateway(HttpTransport(target_of(bao, **changes), run_id="r")).sys.health()

    assert health(tls_server_name="localhost").initialized
    with pytest.raises(ServerUnreachableError):
        health(tls_server_name="other.example.com")
    assert health(ca_cert="", skip_verify=True).initialized


@pytest.mark.real_server
def test_a_dead_token_is_not_permitted(bao: BaoServer):
    transport = HttpTransport(target_of(bao, token=Secret("dead-token")), run_id="r")
    with pytest.raises(ForbiddenError) as caught:
        Gateway(transport).sys.mounts()
    assert "dead-token" not in str(caught.value.problems)


@pytest.mark.real_server
def test_headers_that_may_not_be_read_are_none(bao: BaoServer):
    policy = 'path "sys/mounts" { capabilities = ["read"] }'
    assert bao.api("PUT", "sys/policies/acl/only-mounts", {"policy": policy})[0] == 204
    _, body = bao.api("POST", "auth/token/create", {"policies": ["only-mounts"]})
    token = Secret(body["auth"]["client_token"])
    gateway = Gateway(HttpTransport(target_of(bao, token=token), run_id="r"))
    state = gateway.read_live_state(["identity"], "identity")
    assert state.audited_headers is None
    assert state.problems["identity"].code == "forbidden"


@pytest.mark.real_server
def test_many_threads_share_one_transport(bao: BaoServer):
    from concurrent.futures import ThreadPoolExecutor

    transport = HttpTransport(target_of(bao), run_id="r")
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(lambda _: transport.send(Request("GET", "sys/mounts")), range(128)))
    assert len({reply.request_id for reply in replies}) == 128
    assert transport.requests_made == 128
    transport.close()


def test_a_unix_socket_is_an_address(tmp_path):
    path = str(tmp_path / "s")
    lines: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            lines.append(connection.recv(65536).split(b"\r\n")[0])
            raw = b'{"data": {"x": 1}, "request_id": "id-1"}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        transport = HttpTransport(Target(f"unix://{path}", "", None, "flags"), run_id="r")
        assert read(transport).data == {"x": 1}
        thread.join()
        transport.close()
    assert lines == [b"GET /v1/a/b HTTP/1.1"]
    Path(path).unlink()
    with pytest.raises(ServerUnreachableError) as caught:
        read(HttpTransport(Target(f"unix://{path}", "", None, "flags"), run_id="r"))
    assert caught.value.problems[0].why == f"there is no such socket: {path}"
