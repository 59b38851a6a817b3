"""``dev up --persist``: what the server acknowledged outlives every way to end it."""

from __future__ import annotations

import json
import os
import signal
import socket

import psutil
import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]


def pid_of_server(stack: Stack) -> int:
    parts = stack.json("dev", "status")["data"]["parts"]
    return int(next(part["pid"] for part in parts if part["name"] == "openbao"))


def killed(stack: Stack) -> None:
    pid = pid_of_server(stack)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)


def mints(stack: Stack) -> str:
    read = stack.json("creds", "order", "order-producer", "--ctx", "order:ORD-1")
    return str(read["data"]["access_token"])


def test_every_acknowledged_write_is_there_after_kill_9() -> None:
    with running_stack() as stack:
        stack.cli("dev", "down")
        up = stack.json("dev", "up", "--persist")["data"]
        assert up["storage"] == "raft"
        stack.load_exports()
        stack.cli("apply", "-y", exported=True)
        stack.bao("secrets", "enable", "-path=notes", "kv")
        written = {f"n{number}": str(number) for number in range(50)}
        for name, value in written.items():
            stack.api("POST", f"notes/{name}", {"value": value})
        killed(stack)

        again = stack.json("dev", "up")["data"]
        assert (again["storage"], again["cluster_id"]) == ("raft", up["cluster_id"])
        assert again["started"] == ["openbao"]
        read = {name: stack.api("GET", f"notes/{name}")["data"]["value"] for name in written}
        assert read == written
        assert "No changes." in stack.cli("plan", exported=True).stdout
        assert mints(stack)


def test_a_rotated_key_outlives_a_restart_at_another_port() -> None:
    with running_stack() as stack:
        stack.cli("dev", "down")
        stack.cli("dev", "up", "--persist")
        stack.load_exports()
        stack.cli("apply", "-y", exported=True)
        stack.cli("rotate", "order", "--generate", "-y", exported=True)
        key = stack.json("config", "show", "order")["data"]["key_id"]
        port = int(stack.exports["BAO_ADDR"].rpartition(":")[2])
        stack.cli("dev", "down")
        with socket.create_server(("127.0.0.1", port)):
            moved = stack.cli("dev", "up")
            assert f"port {port} is in use, so OpenBao moved" in moved.stderr
            assert "starts empty" not in moved.stderr
            stack.load_exports()
            assert stack.json("config", "show", "order")["data"]["key_id"] == key
            assert mints(stack)


def test_a_first_start_that_was_killed_is_started_over() -> None:
    with running_stack() as stack:
        stack.cli("dev", "down")
        rest = stack.dev / "data" / "raft"
        rest.mkdir(mode=0o700, parents=True)
        (rest / "vault.db").write_bytes(b"the rest of an initialization")
        stack.cli("dev", "up", "--persist")
        stack.load_exports()
        stack.cli("apply", "-y", exported=True)
        assert mints(stack)


def test_a_server_that_keeps_its_data_in_memory_is_not_restarted() -> None:
    with running_stack(apply=True) as stack:
        pid = pid_of_server(stack)
        refused = json.loads(stack.cli("dev", "up", "--persist", "-o", "json", check=5).stdout)
        assert refused["errors"][0]["code"] == "dev-in-memory"
        assert pid_of_server(stack) == pid
        assert mints(stack)
        # The printed fix works as it stands.
        stack.cli("dev", "down")
        assert stack.json("dev", "up", "--persist")["data"]["storage"] == "raft"


def test_reset_deletes_the_data() -> None:
    with running_stack() as stack:
        stack.cli("dev", "down")
        before = stack.json("dev", "up", "--persist")["data"]
        stack.cli("dev", "reset", "-y")
        assert not stack.dev.exists()
        after = stack.json("dev", "up")["data"]
        assert after["storage"] == "inmem"
        assert after["cluster_id"] != before["cluster_id"]
