"""H5: long waits are said, and have an end."""

from __future__ import annotations

import threading
import time

from support.cli import checked_data, checked_envelope, invoke
from support.scripted import Answer, Seen, scripted

from skyflowctl.vault.waits import WaitMonitor, seconds_left, within

HEALTH = Answer(200, {"initialized": True, "sealed": False, "cluster_id": "c"})
GOOD = {"healthy": True, "token_service": {"reachable": True}}
MANIFEST = """version: 1
manifest: shop
mounts:
  order: {credentials: {env: KEY}, roles: {reader: {role_ids: [skyflow-reader]}}}
  pay: {credentials: {env: KEY}, roles: {reader: {role_ids: [skyflow-reader]}}}
"""


def test_h5_a_wait_is_said_once_after_2_s_then_after_10_20_and_40():
    now = [0.0]
    monitor = WaitMonitor(lambda _: None, monotonic=lambda: now[0])
    with monitor.watching("GET v1/a at https://x"):
        said = {}
        for second in range(60):
            now[0] = float(second)
            line = monitor._take_late()
            if line:
                said[second] = line
    assert list(said) == [2, 10, 20, 40]
    assert said[2] == "waiting for GET v1/a at https://x: no answer for 2 s"


def test_h5_many_waits_are_one_line():
    now = [0.0]
    monitor = WaitMonitor(lambda _: None, monotonic=lambda: now[0])
    with monitor.watching("a"), monitor.watching("b"), monitor.watching("c"):
        now[0] = 2.5
        assert monitor._take_late() == "waiting for a, b and 1 more: no answer for 2 s"
        assert monitor._take_late() == ""


def watchers() -> int:
    return sum(one.name == "skyflowctl-waits" for one in threading.enumerate())


def gone() -> bool:
    ends = time.monotonic() + 5
    while watchers() and time.monotonic() < ends:
        time.sleep(0.02)
    return not watchers()


def test_h5_its_thread_is_one_and_ends_with_the_waits():
    assert gone()
    monitor = WaitMonitor(lambda _: None)
    for _ in range(3):
        with monitor.watching("a"), monitor.watching("b"):
            assert watchers() == 1
    assert gone()


def test_h5_a_limit_holds_for_all_requests_of_the_block_together():
    assert seconds_left(30) == 30
    with within(5):
        assert 4 < seconds_left(30) <= 5
        assert seconds_left(1) == 1
        with within(None):
            assert seconds_left(30) == 30
    with within(0):
        assert seconds_left(30) == 0


def test_h5_health_says_what_it_waits_for_and_gives_up_at_the_deadline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    over = threading.Event()

    def answer(seen: Seen) -> Answer:
        path = seen.path.partition("?")[0]
        if path == "/v1/sys/health":
            return HEALTH
        if path == "/v1/skyflow/order/health":
            return Answer(200, {"request_id": "r", "data": GOOD})
        if path == "/v1/skyflow/pay/health":
            server._lock.release()  # only this one hangs
            try:
                over.wait(20)
            finally:
                server._lock.acquire()
        return Answer(404, {"errors": []})

    with scripted(HEALTH) as server:
        server.script = answer
        env = {"BAO_ADDR": server.address, "BAO_TOKEN": "x", "HOME": str(tmp_path)}
        started = time.monotonic()
        done = invoke("health", "--deadline", "3s", "-o", "json", env=env)
        seconds = time.monotonic() - started
        over.set()
    rows = {row["name"]: row for row in checked_data(done.stdout)["mounts"]}
    assert done.exit_code == 6
    assert 2.5 < seconds < 8
    assert rows["order"]["state"] == "ok"
    assert (rows["pay"]["state"], rows["pay"]["node"]) == ("unreachable", server.address)
    assert f"waiting for GET v1/skyflow/pay/health at {server.address}: no answer" in done.stderr
    assert "skyflow/order/health" not in done.stderr
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert "--deadline waits longer" in problem["fix"]
    assert server.address in problem["summary"]


def test_h5_the_deadline_is_a_span(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("health", "--deadline", "soon", env={"BAO_ADDR": "http://127.0.0.1:1"})
    assert done.exit_code == 64
