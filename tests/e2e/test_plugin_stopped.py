"""H5: a plugin process that is stopped, on a real server."""

from __future__ import annotations

import contextlib
import json
import signal
import time

import psutil
import pytest
from support.stack import EXAMPLE, Stack, running_stack

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_f_one_stopped_plugin_leaves_plan_apply_and_revoke_of_the_others_their_work():
    with running_stack(EXAMPLE, apply=True) as stack:
        manifest = stack.folder / "mounts.yaml"
        stopped = plugin_of(stack)[-1]
        stopped.send_signal(signal.SIGSTOP)
        try:
            told = stack.json("plan", check=3)
            (problem,) = told["errors"]
            assert "no answer from" in problem["summary"]
            silent = problem["summary"].split(" are left alone")[0].rpartition("skyflow/")[2]
            others = sorted({"order", "payment", "purchase"} - {silent})
            assert told["data"]["summary"]["not_compared"]

            text = manifest.read_text()
            assert text.count(f"  {others[0]}:\n    description: ") == 1
            manifest.write_text(
                text.replace(
                    f"  {others[0]}:\n    description: ", f"  {others[0]}:\n    description: New "
                )
            )
            done = stack.json("apply", "-y", check=3)
            assert {one["mount"] for one in done["data"]["actions"]} == {others[0]}
            assert {one["result"] for one in done["data"]["actions"]} == {"done"}

            path = f"skyflow/{others[1]}"
            words = ("config", "revoke", others[1], "--reason", "a test", "-y")
            cut = stack.json(*words, f"--allow-destroy={path}")
            (row,) = [one for one in cut["data"]["others"] if one["path"] == f"skyflow/{silent}"]
            assert (row["before"], row["after"]) == ("unreachable", "unreachable")
        finally:
            stopped.kill()
