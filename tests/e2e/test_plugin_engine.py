"""The real engine under a real server, started by the built launcher, minting for real."""

from __future__ import annotations

import json
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator
from support.faulty_emulator import Fault, FaultKind
from support.loaded import private_mb
from support.plugin import mounted, processes_of, register_skyflow, send_only, wait_for

from skyflowctl.plugin.launcher import ALLOWED
from skyflowctl.version import semver

pytestmark = pytest.mark.real_server

CTX = "order:ORD-private-42"
CANARY = "SKYFLOWCTL_TEST_CANARY"


@pytest.fixture(scope="module")
def server(emulator: RunningEmulator):
    """A server whose own environment has a canary that no plugin may see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CANARY, "seal-key-or-so")
        with running_bao() as running:
            trust = f"SSL_CERT_FILE={emulator.ca}"
            register_skyflow(running, args=["--allow-host", emulator.host], env=[trust])
            yield running


@pytest.fixture(scope="module")
def order(server: BaoServer, emulator: RunningEmulator):
    """A mount at ``skyflow/order`` with a credential and the role ``producer``."""
    with mounted(server, "skyflow/order", "skyflow"):
        credentials = emulator.new_account("role-1", enforce_ctx=False)
        status, body = server.api("POST", "skyflow/order/config", {"credentials_json": credentials})
        assert status == 200, body
        role = {"role_ids": ["role-1"], "ctx_pattern": "order:*", "ctx_probe": "order:probe"}
        status, body = server.api("POST", "skyflow/order/roles/producer", role)
        assert status == 200, body
        yield server


def test_the_stock_client_reads_a_token(order: BaoServer):
    done = order.bao("read", "-format=json", "skyflow/order/creds/producer", f"ctx={CTX}")
    data = json.loads(done.stdout)["data"]
    assert data["access_token"].count(".") == 2
    assert 0 < data["ttl"] <= 3600


def test_the_process_of_an_idle_mount_keeps_at_most_16_mb(order: BaoServer):
    before = processes_of(order, "skyflow")
    order.api("PUT", "sys/plugins/reload/backend", {"mounts": ["skyflow/order/"]})
    # The engine is loaded when it has answered; a little later the start's memory is given back.
    assert order.api("GET", "skyflow/order/roles?list=true")[0] == 200
    wait_for(lambda: len(processes_of(order, "skyflow")) == 1)
    (now,) = processes_of(order, "skyflow")
    assert now not in before
    wait_for(lambda: private_mb(now.pid) <= 16)


def test_the_stock_client_writes_lists_and_deletes(order: BaoServer):
    order.bao("write", "skyflow/order/roles/second", "role_ids=role-1", "description=two")
    assert "second" in order.bao("list", "skyflow/order/roles").stdout
    assert "two" in order.bao("read", "skyflow/order/roles/second").stdout
    order.bao("delete", "skyflow/order/roles/second")
    assert "second" not in order.bao("list", "skyflow/order/roles").stdout


def test_path_help_and_openapi_describe_the_paths(order: BaoServer):
    assert "ctx" in order.bao("path-help", "skyflow/order/creds/producer").stdout
    document = order.api("GET", "sys/internal/specs/openapi")[1]
    creds = [path for path in document["paths"] if path.startswith("/skyflow/order/creds/")]
    assert creds
    assert "post" in document["paths"]["/skyflow/order/config"]


def test_health_is_read_through_the_server(order: BaoServer):
    data = order.api("GET", "skyflow/order/health")[1]["data"]
    assert data["healthy"] is True


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "creds/any?ctx=%ff%fe", None),
        ("GET", "creds/any?ctx=order:%e9", None),
        ("POST", "creds/any", b'{"ctx": "order:\xff"}'),
        ("POST", "creds/any", b'{"ctx": {"order": "\xff"}}'),
        ("POST", "creds/any", b'{"ctx": {"\xff": "1"}}'),
        ("POST", "creds/any", rb'{"ctx": "\ud800"}'),
        ("POST", "roles/any", b'{"description": "\xff"}'),
        ("POST", "roles/any", b'{"role_ids": ["role-1"], "ctx_pattern": "\xff*"}'),
        ("DELETE", "config?reason=%ff", None),
    ],
)
def test_what_is_no_utf8_is_400(order: BaoServer, method: str, path: str, body: bytes | None):
    """The server puts one character in the place of such bytes: no token for a ctx that
    nobody sent, and no ctx of a stranger for two."""
    order.api("POST", "skyflow/order/roles/any", {"role_ids": ["role-1"]})
    request = urllib.request.Request(
        f"{order.address}/v1/skyflow/order/{path}",
        method=method,
        data=body,
        headers={"X-Vault-Token": order.token},
    )
    context = ssl.create_default_context(cafile=str(order.ca)) if order.ca else None
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, context=context, timeout=30)
    with caught.value as answer:
        assert answer.code == 400, answer.read()
    assert order.api("GET", "skyflow/order/health")[1]["data"]["healthy"] is True


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "creds/producer?ctx=wrong", None, 400),
        ("GET", "creds/absent?ctx=order:1", None, 400),
        ("GET", "roles/absent", None, 404),
        ("POST", "roles/producer", {"role_ids": ["role-1"], "force": False}, 409),
        ("POST", "config", {"unknown_field": "x"}, 400),
    ],
)
def test_statuses_as_a_client_sees_them(
    order: BaoServer, method: str, path: str, body: dict | None, status: int
):
    assert order.api(method, f"skyflow/order/{path}", body)[0] == status


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (Fault(FaultKind.STATUS, status=403), 502, "token service refused"),
        (Fault(FaultKind.HTML), 502, "token service"),
    ],
)
def test_a_refusing_token_service_is_a_502(
    order: BaoServer, emulator: RunningEmulator, fault: Fault, status: int, text: str
):
    emulator.control.add_fault(fault)
    try:
        seen, body = order.api("GET", f"skyflow/order/creds/producer?ctx={CTX}")
    finally:
        emulator.control.reset_faults()
    assert seen == status
    assert text in body["errors"][0]
    assert CTX not in json.dumps(body)


def test_an_unreachable_token_service_is_a_503(server: BaoServer):
    register_skyflow(server, "nowhere", args=["--allow-host", "127.0.0.1:9"])
    from support.keys import credential_text

    text = credential_text(token_uri="https://127.0.0.1:9/v1/auth/sa/oauth/token")
    with mounted(server, "skyflow/nowhere", "nowhere"):
        config = {"credentials_json": text, "validate_credentials": False}
        status, body = server.api("POST", "skyflow/nowhere/config", config)
        assert status == 200, body
        server.api("POST", "skyflow/nowhere/roles/r", {"role_ids": ["role-1"]})
        status, body = server.api("GET", "skyflow/nowhere/creds/r")
        assert status == 503
        assert "skyflow:" in body["errors"][0]


def test_the_ctx_of_a_broken_rule_is_not_in_the_audit_log(order: BaoServer):
    wrong = "purchase:SECRET-CUSTOMER-77"
    status, body = order.api("GET", f"skyflow/order/creds/producer?ctx={wrong}")
    assert status == 400
    assert wrong not in json.dumps(body)
    log = order.audit_log.read_text()
    assert '"path":"skyflow/order/creds/producer"' in log
    assert wrong not in log
    assert wrong not in (order.folder / "server.log").read_text()


def test_the_plugin_reports_its_version(order: BaoServer):
    mount = order.api("GET", "sys/mounts/skyflow/order")[1]["data"]
    assert mount["running_plugin_version"] == semver()


def test_the_environment_is_an_allow_list(order: BaoServer):
    assert CANARY in _names(order.process.pid)
    running = processes_of(order, "skyflow")
    assert running
    for process in running:
        assert process.environment <= ALLOWED
        assert "BAO_UNSEAL_KEY" not in process.environment
        assert "SSL_CERT_FILE" in process.environment


def _names(pid: int) -> set[str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes()
    return {item.partition(b"=")[0].decode() for item in raw.split(b"\0") if item}


def test_clients_that_give_up_free_the_mounts_slots(order: BaoServer, emulator: RunningEmulator):
    path = f"skyflow/order/creds/producer?ctx={CTX}"
    emulator.control.add_fault(Fault(FaultKind.HANG, count=64))
    before = emulator.control.counters()["faults"]
    hanging = [send_only(order, "GET", path) for _ in range(64)]
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(order.api("GET", path)[0]))
    try:
        wait_for(lambda: emulator.control.counters()["faults"] - before == 64, seconds=8)
        # All slots of the mount are taken: one more waits for its turn.
        waiting.start()
        waiting.join(0.5)
        assert statuses == []
    finally:
        for connection in hanging:
            connection.close()
        emulator.control.reset_faults()
    # Well before their own deadline of ten seconds.
    waiting.join(4)
    assert statuses == [200]


def test_many_readers_at_once(order: BaoServer):
    statuses: list[int] = []

    def read() -> None:
        for _ in range(4):
            statuses.append(order.api("GET", f"skyflow/order/creds/producer?ctx={CTX}")[0])

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 64


def test_open_files_do_not_grow_with_reads(order: BaoServer):
    (process,) = processes_of(order, "skyflow")
    folder = Path(f"/proc/{process.pid}/fd")
    order.api("GET", f"skyflow/order/creds/producer?ctx={CTX}")
    before = _count(folder)
    for _ in range(30):
        order.api("GET", f"skyflow/order/creds/producer?ctx={CTX}")
    assert _count(folder) <= before + 1


def _count(folder: Path) -> int:
    return len(list(folder.iterdir()))
