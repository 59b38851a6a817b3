"""A6, cases 06, 08 and 30: answers that no OpenBao or Vault gives, seen from the command line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bao import BaoServer
from support.cli import checked_data, checked_envelope, invoke
from support.client_libraries import client_library  # noqa: F401 - runs all tests twice
from support.scripted import Answer, Seen, scripted

HTML = {"Content-Type": "text/html"}
LOGIN = Answer(200, b"<html>SSO login</html>", HTML)
COMMANDS = ["plan", "apply -y", "health", "status", "creds order order-producer --ctx order:1"]
MANIFEST = """version: 1
manifest: shop
mounts:
  order: {roles: {order-producer: {role_ids: [skyflow-role-order]}}, credentials: {env: ORDER_KEY}}
"""
CREDS = "/v1/skyflow/order/creds/order-producer?ctx=order%3A1"
# What case 08's fake_server.py answers in its mode "health".
HEALTH = {
    "initialized": True,
    "sealed": False,
    "standby": True,
    "replication_performance_mode": "disabled",
    "version": "1.21.4+ent",
    "cluster_id": "id-1",
}


def page(status: int) -> Answer:
    return Answer(status, b"<html><body>502 Bad Gateway</body></html>", HTML)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [one for one in os.environ if one.startswith(("BAO_", "VAULT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    return tmp_path


def failed(address: str, words: str, **environ: str) -> tuple[int, dict[str, str], float]:
    """The exit code, the first problem and the seconds of a command against this address."""
    started = time.monotonic()
    env = {"BAO_ADDR": address, "BAO_TOKEN": "x", **environ}
    done = invoke(*words.split(), "-o", "json", env=env)
    problem = checked_envelope(done.stdout)["errors"][0]
    return done.exit_code, problem, time.monotonic() - started


FOREIGN = {
    "login page": (LOGIN, "a login page"),
    "proxy's login": (page(407), "a proxy that wants a login"),
    "bad gateway": (page(502), "a proxy or load balancer"),
    "unavailable": (page(503), "a proxy or load balancer"),
    "gateway time-out": (page(504), "a proxy or load balancer"),
    "too many requests": (page(429), "a proxy or load balancer"),
    "another server": (page(404), "does not know /v1"),
    "another JSON API": (Answer(404, {"errors": []}), "does not know /v1"),
    "JSON API's error": (Answer(502, {"message": "Internal"}), "a proxy or load balancer"),
    "firewall": (page(403), "does not let it pass"),
    "basic login": (page(401), "wants a login"),
    "JSON that is none of ours": (Answer(200, {"status": "up"}), "neither of them"),
    "empty": (Answer(200), "neither of them"),
    "captive portal": (Answer(204), "neither of them"),
    "to a login page": (
        Answer(302, headers={"Location": "https://sso.example.com/login?rd=x"}),
        "a redirect to a login page",
    ),
    "moved for good": (
        Answer(307, headers={"Location": "https://sso.example.com/login"}),
        "a redirect to a login page",
    ),
}


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("name", FOREIGN)
def test_a6_an_answer_that_is_not_the_servers_is_69_within_5_seconds(name: str, words: str):
    answer, cause = FOREIGN[name]
    with scripted(answer) as server:
        code, problem, seconds = failed(server.address, words)
    assert code == (6 if words == "health" else 69)
    assert seconds < 5
    said = problem["why"]
    assert cause in said
    if words != "health":
        assert problem["summary"] == f"this is no OpenBao or Vault: {server.address}"
        assert problem["code"] == "not-a-server"
        assert problem["fix"]


def test_a6_the_token_goes_to_nobody_else(folder: Path):
    """Whoever is asked who it is, is asked without the token."""
    with scripted(Answer(404, {"errors": []})) as server:
        failed(server.address, COMMANDS[-1])
    asked = [one.headers.get("x-vault-token") for one in server.seen]
    assert [one.path.partition("?")[0] for one in server.seen][-1] == "/v1/sys/health"
    assert asked[-1] is None


def test_a6_health_takes_no_foreign_404_for_a_missing_mount():
    with scripted(Answer(404, {"errors": []})) as server:
        done = invoke("health", "-o", "json", env={"BAO_ADDR": server.address, "BAO_TOKEN": "x"})
    (row,) = checked_data(done.stdout)["mounts"]
    assert (done.exit_code, row["state"]) == (6, "unreachable")
    assert "skyflowctl apply" not in done.stdout


def test_case_08_http_on_a_tls_port_names_https(bao: BaoServer):
    plain = bao.address.replace("https:", "http:")
    for words in ("plan", COMMANDS[-1]):
        code, problem, seconds = failed(plain, words)
        assert (code, problem["code"]) == (69, "not-a-server")
        assert seconds < 5
        assert "speaks TLS" in problem["why"]
        assert problem["fix"] == f"use {bao.address} as the address"
    code, _, _ = failed(problem["fix"].split()[1], "plan", BAO_CACERT=str(bao.ca))
    assert code != 69


def test_case_08_https_on_a_port_without_tls_names_http():
    with scripted(LOGIN) as server:
        code, problem, _ = failed(server.address.replace("http:", "https:"), "plan")
    assert code == 69
    assert "does not speak TLS" in problem["why"]
    assert "http://" in problem["fix"]


def test_a_redirect_to_https_of_the_same_host_names_that_address():
    with scripted(Answer(301)) as server:
        secure = server.address.replace("http:", "https:")
        server.script = [Answer(301, headers={"Location": f"{secure}/v1/sys/health"})]
        code, problem, _ = failed(server.address, "plan")
    assert (code, problem["fix"]) == (69, f"use {secure} as the address")


@pytest.fixture
def babbling() -> Iterator[str]:
    """A port that answers in another protocol than HTTP; its address."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                client.sendall(b"\x15\x03\x01\x00\x02\x02\x16")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a6_another_protocol_is_no_server(babbling: str):
    code, problem, seconds = failed(babbling, "plan")
    assert (code, problem["code"]) == (69, "not-a-server")
    assert seconds < 5
    assert "does not speak HTTP" in problem["why"]


@pytest.mark.parametrize(("status", "why"), [(407, "requires a login"), (502, "did not connect")])
def test_a6_a_proxy_that_does_not_connect_is_named(status: int, why: str):
    """Also where it is asked for a tunnel, so that no answer can come from a server."""
    with scripted(page(status)) as proxy:
        environ = {"BAO_PROXY_ADDR": proxy.address.replace("//", "//user:hidden@")}
        code, problem, seconds = failed("https://bao.invalid:8200", "plan", **environ)
    assert (code, problem["code"]) == (69, "not-a-server")
    assert why in problem["why"]
    assert str(status) in problem["why"]
    assert "PROXY" in problem["fix"]
    assert "hidden" not in str(problem)
    assert seconds < 5


# Case 06: BAO_MAX_RETRIES.


@pytest.mark.parametrize(("retries", "sent"), [("0", 1), (None, 3), ("1", 2)])
def test_case_06_the_number_of_retries_is_obeyed(retries: str | None, sent: int):
    environ = {} if retries is None else {"BAO_MAX_RETRIES": retries}
    with scripted(page(502)) as server:
        assert failed(server.address, COMMANDS[-1], **environ)[0] == 69
    assert len(server.seen) == sent


def test_case_06_the_number_holds_for_an_election_too():
    said = {"errors": ["local node not active but active cluster node not found"]}

    def answer(seen: Seen) -> Answer:
        return Answer(200, HEALTH) if "sys/health" in seen.path else Answer(500, said)

    with scripted(LOGIN) as server:
        server.script = answer
        _, _, seconds = failed(server.address, COMMANDS[-1], VAULT_MAX_RETRIES="1")
    assert [one.path for one in server.seen if "sys/health" not in one.path] == [CREDS] * 2
    assert seconds < 5


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "9" * 20, "٣"])
def test_case_06_what_is_no_number_is_a_usage_error(text: str):
    code, problem, _ = failed("http://127.0.0.1:1", "plan", BAO_MAX_RETRIES=text)
    assert (code, problem["code"]) == (64, "bad-environment")


# The states of sys/health.


def health_script(status: int, **more: object) -> object:
    def answer(seen: Seen) -> Answer:
        if seen.path.startswith("/v1/sys/health"):
            return Answer(status, {**HEALTH, **more})
        return Answer(400, {"errors": ["path disabled in replication DR secondary mode"]})

    return answer


STATES = {
    472: ("dr_secondary", "dr-secondary"),
    474: ("standby_without_leader", "standby-without-leader"),
    501: ("uninitialized", "not-initialized"),
    503: ("sealed", "sealed"),
    530: ("removed", "removed-from-cluster"),
}


@pytest.mark.parametrize("status", STATES)
def test_a6_each_status_of_sys_health_is_a_state_of_its_own(status: int):
    state, code = STATES[status]
    with scripted(LOGIN) as server:
        server.script = health_script(status)
        done = invoke("health", "-o", "json", env={"BAO_ADDR": server.address, "BAO_TOKEN": "x"})
        assert done.exit_code == 6
        assert {row["state"] for row in checked_data(done.stdout)["mounts"]} == {state}
        exit_code, problem, _ = failed(server.address, "plan")
    assert (exit_code, problem["code"]) == (69, code)
    assert problem["why"]
    assert problem["fix"]


@pytest.mark.parametrize(("status", "more"), [(429, {}), (473, {"performance_standby": True})])
def test_a6_a_standby_that_serves_is_no_failure(status: int, more: dict[str, object]):
    def answer(seen: Seen) -> Answer:
        if seen.path.startswith("/v1/sys/health"):
            return Answer(status, {**HEALTH, **more})
        return Answer(
            200,
            {"request_id": "r", "data": {"healthy": True, "token_service": {"reachable": True}}},
        )

    with scripted(LOGIN) as server:
        server.script = answer
        env = {"BAO_ADDR": server.address, "BAO_TOKEN": "x"}
        done = invoke("health", "-o", "json", env=env)
    assert {row["state"] for row in checked_data(done.stdout)["mounts"]} == {"ok"}
    assert done.exit_code == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"sealed": NaN}',
        b'{"initialized": true, "sealed": NaN}',
        b'{"initialized": true, "sealed": false, "x": Infinity}',
        b'{"initialized": true, "sealed": false, "x": 1e999}',
        b'{"initialized": 1, "sealed": 0}',
        b'{"initialized": null, "sealed": null}',
        b'{"sealed": "no"}',
        b'\xef\xbb\xbf{"initialized": true, "sealed": false}',
        '{"initialized": true, "sealed": false}'.encode("utf-16"),
        b'{"initialized": true, "sealed": false',
        b'[{"initialized": true, "sealed": false}]',
        b"{}",
        b"",
    ],
)
@pytest.mark.parametrize("status", [200, 503])
def test_a6_what_is_no_health_answer_is_a_foreign_one(body: bytes, status: int):
    with scripted(Answer(status, body, {"Content-Type": "application/json"})) as server:
        code, problem, _ = failed(server.address, "plan", BAO_MAX_RETRIES="0")
    assert (code, problem["code"]) == (69, "not-a-server")
    assert problem["summary"] == f"this is no OpenBao or Vault: {server.address}"


def test_a6_a_disaster_recovery_secondary_is_known_by_its_refusals_too():
    with scripted(LOGIN) as server:
        server.script = health_script(472)
        code, problem, _ = failed(server.address, COMMANDS[-1])
    assert (code, problem["code"]) == (69, "dr-secondary")


# Case 30: the socket file is not there.


def test_case_30_a_missing_socket_is_told_from_a_forbidden_one(tmp_path: Path):
    code, problem, _ = failed("unix:///tmp/none.sock", "plan")
    assert (code, problem["why"]) == (69, "there is no such socket: /tmp/none.sock")
    path = tmp_path / "closed.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        code, problem, _ = failed(f"unix://{path}", "plan")
    assert (code, problem["why"]) == (69, f"no process listens on the socket: {path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_case_30_a_socket_without_permission_says_so(tmp_path: Path, client_library: str):  # noqa: F811
    path = "/tmp/skyflowctl-case-30.sock"
    code = (
        "import os, encodings.idna, netrc\n"
        "from skyflowctl.vault import connection, http_connection, hvac_connection\n"
        "from skyflowctl.vault.connection import NotSentError, TargetPool\n"
        "from skyflowctl.vault.target import Target\n"
        f"if {client_library!r} == 'hvac': connection.READS = ()\n"
        "os.setuid(65534)\n"
        "try:\n"
        f"    TargetPool(Target('unix://{path}', '', None, 'flags')).send("
        f"'unix://{path}', 'GET', 'a', headers={{}}, seconds=2)\n"
        "except NotSentError as gone:\n    print(gone.reason)\n"
    )
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        Path(path).chmod(0o600)
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, timeout=30
            )
        finally:
            Path(path).unlink()
    assert done.stdout.strip() == f"permission denied on the socket: {path}", done.stderr


def test_a_server_that_runs_is_still_served(bao: BaoServer):
    """A dead token and an empty path are the real server's own answers."""
    env = {"BAO_CACERT": str(bao.ca)}
    code, problem, _ = failed(bao.address, COMMANDS[-1], **env)
    assert (code, problem["code"]) == (4, "forbidden")
    code, problem, _ = failed(bao.address, COMMANDS[-1], BAO_TOKEN=bao.token, **env)
    assert (code, problem["code"]) == (64, "not-mounted")
