"""H5: a plugin process that is stopped, on a real server."""

from __future__ import annotations

import contextlib
import json
import signal
import time

import psutil
import pytest
from support.stack import Stack

pytestmark = pytest.mark.real_server


def plugin_of(stack: Stack) -> list[psutil.Process]:
    """Every plugin process of the stack's server."""
    servers = [one for one in stack.processes() if "server" in one.cmdline()]
    return [child for server in servers for child in server.children(recursive=True)]


def test_h5_a_stopped_plugin_is_unreachable_with_its_node_within_the_deadline(stack: Stack):
    stopped = plugin_of(stack)
    assert stopped
    try:
        for one in stopped:
            one.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        done = stack.cli("health", "--deadline", "4s", "-o", "json", check=6, exported=True)
        seconds = time.monotonic() - started
    finally:
        for one in stopped:
            one.send_signal(signal.SIGCONT)
    assert seconds < 12
    assert '"state": "unreachable"' in done.stdout
    assert stack.exports["BAO_ADDR"] in done.stdout
    assert "waiting for GET v1/skyflow/" in done.stderr
    assert stack.cli("health", "-q", exported=True).returncode == 0


def test_one_stopped_plugin_blinds_nobody_and_what_is_printed_mends_it(stack: Stack):
    (mounts,) = [stack.json("status")["data"]["mounts"]]
    stopped = plugin_of(stack)[-1]
    stopped.send_signal(signal.SIGSTOP)
    try:
        done = stack.cli("status", "--deadline", "4s", "-o", "json", check=3, exported=True)
        whole = json.loads(done.stdout)
        rows = {one["path"]: one for one in whole["data"]["mounts"]}
        silent = [path for path, one in rows.items() if one["health"] == "unreachable"]
        assert len(rows) == len(mounts)
        assert silent == [path for path, one in rows.items() if one["unread"]]
        assert 0 < len(silent) < len(rows)
        assert all(one["roles"] for path, one in rows.items() if path not in silent)
        (problem, *_) = whole["errors"]
        assert "kill -9" in problem["fix"]
        stopped.kill()
        assert stack.cli("health", "-q", exported=True).returncode == 0
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            stopped.send_signal(signal.SIGCONT)
