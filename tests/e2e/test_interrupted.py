"""Ctrl-C while a mount hangs: reads end at once, whatever the request's own limit is."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.cli import checked_envelope
from support.stack import BIN, clean_environ

MANIFEST = """version: 1
manifest: shop
mounts:
  order:
    credentials: {env: ORDER_KEY}
    roles:
      writer: {role_ids: [skyflow-writer]}
"""
MOUNT = {"type": "skyflow", "description": "", "options": {}, "config": {}}
ANSWERS = {
    "sys/health": {"initialized": True, "sealed": False, "cluster_id": "c"},
    "sys/mounts": {"data": {"skyflow/order/": MOUNT}},
    "sys/config/auditing/request-headers": {"data": {"headers": {}}},
    "sys/audit": {"data": {}},
    "sys/internal/ui/mounts": {"data": {}},
    "sys/ha-status": {"data": {"nodes": []}},
    "skyflow/order/config": {"data": {"credentials_configured": False}},
    "skyflow/order/roles": {"data": {"keys": []}},
    "skyflow/order/health": {"data": {"healthy": False, "configuration_status": "unconfigured"}},
    "sys/plugins/catalog": {"data": {"detailed": []}},
}


class HangingServer(ThreadingHTTPServer):
    """Answers what a command asks first, and then no longer."""

    daemon_threads = True

    def __init__(self, *hang: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hang = hang
        self.reached, self.free = threading.Event(), threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: HangingServer

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v1/").partition("?")[0]
        if path in self.server.hang:
            self.server.reached.set()
            self.server.free.wait(60)
            return
        body = json.dumps({"request_id": "r1", **ANSWERS[path]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_LIST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hanging(request: pytest.FixtureRequest) -> Iterator[HangingServer]:
    with HangingServer(*request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.free.set()
        server.shutdown()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("line", "hanging"),
    [
        ("health", ["skyflow/order/health"]),
        ("status", ["skyflow/order/health"]),
        ("status", ["skyflow/order/config"]),
        ("plan", ["skyflow/order/roles"]),
    ],
    indirect=["hanging"],
)
def test_a_mount_that_hangs_holds_nobody_back(line, hanging, number, code, tmp_path):
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    address = f"http://127.0.0.1:{hanging.server_address[1]}"
    process = subprocess.Popen(
        [str(BIN / "skyflowctl"), line, "-o", "json"],
        env={**clean_environ(), "HOME": str(tmp_path), "BAO_ADDR": address, "BAO_TOKEN": "t"},
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert hanging.reached.wait(30)
        started = time.monotonic()
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        spent = time.monotonic() - started
    finally:
        process.kill()
    assert process.returncode == code
    assert checked_envelope(out.decode())["status"] == "error"
    # The request itself may take 60 s.
    assert spent < 5


def health(server: HangingServer, folder: Path) -> subprocess.Popen[str]:
    (folder / "mounts.yaml").write_text(MANIFEST)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    return subprocess.Popen(
        [str(BIN / "skyflowctl"), "health", "--deadline", "3s", "-o", "json"],
        env={**clean_environ(), "HOME": str(folder), "BAO_ADDR": address, "BAO_TOKEN": "t"},
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def unreachable(process: subprocess.Popen[str]) -> dict[str, str]:
    """The one problem of a ``health`` that blames neither audit devices nor plugins alone."""
    out, _ = process.communicate(timeout=30)
    answer = checked_envelope(out)
    assert process.returncode == 6
    assert [one["state"] for one in answer["data"]["mounts"]] == ["unreachable"]
    (problem,) = answer["errors"]
    assert "the server hangs, or one of its audit devices blocks" in problem["why"]
    assert "SIGHUP" in problem["fix"]
    assert "whether the server's process runs" in problem["fix"]
    assert "kill" not in problem["fix"]
    return dict(problem)


@pytest.mark.parametrize("hanging", [["sys/internal/ui/mounts"]], indirect=True)
def test_a_server_that_hangs_is_not_said_to_have_a_blocked_audit_device(hanging, tmp_path):
    problem = unreachable(health(hanging, tmp_path))
    assert "no audited request within 3 s" in problem["why"]


@pytest.mark.parametrize("hanging", [["skyflow/order/health"]], indirect=True)
def test_no_plugin_is_ended_if_the_whole_server_hangs_meanwhile(hanging, tmp_path):
    process = health(hanging, tmp_path)
    assert hanging.reached.wait(30)
    hanging.hang = (*hanging.hang, "sys/internal/ui/mounts")
    unreachable(process)


@pytest.mark.parametrize("hanging", [["sys/ha-status"]], indirect=True)
def test_a_cluster_that_cannot_list_its_nodes_is_not_well(hanging, tmp_path):
    out, _ = health(hanging, tmp_path).communicate(timeout=30)
    answer = checked_envelope(out)
    assert [one["state"] for one in answer["data"]["mounts"]] == ["unconfigured", "unreachable"]
    assert "could not be listed" in answer["errors"][-1]["why"]
