"""``audit tail``: the newest requests, then those to come, over rotation and half lines."""

from __future__ import annotations

import contextlib
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.audit_logs import Story, approle, three_apps, userpass, written
from support.cli import invoke
from support.processes import running

from skyflowctl.audit import tail as audit_tail
from skyflowctl.audit.query import Query
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.tail import Tail
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.runner import CommandRun, Terminated, _result_of
from skyflowctl.clock import SystemClock
from skyflowctl.errors import UsageError


def newest(paths, rows=20, query=None):
    found = []
    tail = Tail(open_sources(paths), query or Query(), ("skyflow",), rows=rows, following=False)
    tail.run(found.append)
    return [one.ctx for one in found]


def numbered(first, count, *, plain=True):
    story = Story(plain_ctx=plain, first_id=first * 10)
    story.wait(minutes=first)
    for number in range(first, first + count):
        story.creds(approle("orders"), f"order:{number}")
    return story


@pytest.mark.parametrize("rows", [0, 1, 3, 100])
def test_the_newest_rows_of_several_nodes_by_time(tmp_path, rows):
    one = written(tmp_path, "a/audit.log", numbered(1, 4).device())
    two = written(tmp_path, "b/audit.log", numbered(100, 2).device())
    every = ["order:1", "order:2", "order:3", "order:4", "order:100", "order:101"]
    assert newest([two, one], rows) == every[len(every) - rows if rows < 6 else 0 :]


def test_rotated_files_are_read_back_as_far_as_the_window(tmp_path, monkeypatch):
    for name, first in (("audit.log.2", 1), ("audit.log.1", 10), ("audit.log", 20)):
        written(tmp_path, name, numbered(first, 3).device())
    pattern = str(tmp_path / "audit.log*")
    assert len(newest([pattern])) == 9
    monkeypatch.setattr(audit_tail, "NEWEST_BYTES", 3000)
    assert newest([pattern])[-1] == "order:22"
    assert 0 < len(newest([pattern])) < 3


def test_a_second_device_tells_nothing_twice(tmp_path):
    story = three_apps()
    logs = [written(tmp_path, f"{salt}.log", story.device(salt)) for salt in "ab"]
    assert len(newest(logs)) == 6


def test_packed_logs_are_read_and_not_followed(tmp_path):
    log = written(tmp_path, "audit.log.gz", gzip.compress(numbered(1, 3).device()))
    assert newest([log], 2) == ["order:2", "order:3"]
    with pytest.raises(UsageError, match="cannot be followed"):
        Tail(open_sources([log]), Query(), ("skyflow",), rows=1, following=True)


class Following:
    """A tail in a thread; ``until(n)`` waits for so many rows in all."""

    def __init__(self, path):
        self.found = []
        tail = Tail(open_sources([path]), Query(), ("skyflow",), rows=2, following=True)
        self.thread = threading.Thread(target=self._run, args=(tail,), daemon=True)
        self.ended = False
        self.thread.start()

    def _run(self, tail):
        with contextlib.suppress(KeyboardInterrupt):
            tail.run(self._take)

    def _take(self, request):
        if self.ended:
            raise KeyboardInterrupt
        self.found.append(request.ctx)

    def until(self, count):
        deadline = time.monotonic() + 20
        while len(self.found) < count:
            assert time.monotonic() < deadline, self.found
            time.sleep(0.02)
        return self.found


def test_following_survives_rotation_and_half_lines(tmp_path):
    path = tmp_path / "audit.log"
    path.write_bytes(numbered(1, 3).device())
    tail = Following(str(path))
    assert tail.until(2) == ["order:2", "order:3"]
    whole = numbered(10, 1).device()
    with path.open("ab") as file:
        file.write(whole[:-40])
        file.flush()
        time.sleep(0.4)
        assert len(tail.found) == 2
        file.write(whole[-40:])
    assert tail.until(3)[-1] == "order:10"
    path.rename(tmp_path / "audit.log.1")
    with (tmp_path / "audit.log.1").open("ab") as file:
        file.write(numbered(20, 1).device())
    path.write_bytes(numbered(30, 1).device())
    assert tail.until(5)[3:] == ["order:20", "order:30"]
    tail.ended = True
    with path.open("ab") as file:
        file.write(numbered(40, 1).device())
    tail.thread.join(20)
    assert not tail.thread.is_alive()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_following_with_its_own_code_and_a_result(tmp_path, stop, code):
    log = written(tmp_path, "audit.log", numbered(1, 2).device())
    command = [sys.executable, "-m", "skyflowctl", "audit", "tail", "-f", log, "-o", "json"]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        lines = [run.stdout.readline() for _ in range(3)]
        with Path(log).open("ab") as file:
            file.write(numbered(5, 1).device())
        lines.append(run.stdout.readline())
        run.send_signal(stop)
        rest, errors = run.communicate(timeout=20)
    assert run.returncode == code
    types = [json.loads(line)["type"] for line in [*lines, *rest.splitlines()]]
    assert types == ["version", "request", "request", "request", "result"]
    assert json.loads(rest.splitlines()[-1])["data"]["summary"]["shown"] == 3
    assert errors == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated()])
def test_what_only_reads_does_not_go_on_where_it_stopped(error):
    def stopped(_):
        raise error

    for command, words in (("audit who", "starts over"), ("apply", "resumes where")):
        run = CommandRun("x", command, Terminal(), SystemClock(), json=False)
        result, failed = _result_of(run, stopped)
        assert failed
        assert words in result.problems[0].fix


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    log = written(tmp_path, "audit.log", numbered(1, 1500).device())
    command = [sys.executable, "-m", "skyflowctl", "audit", "who", log]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        run.stdout.readline()
        run.stdout.close()
        errors = run.stderr.read()
        assert run.wait(20) == 0
    assert errors == ""


def test_the_filters_and_forms_of_who(tmp_path):
    story = numbered(1, 3)
    story.creds(userpass("bob"), "\x1b[2J")
    log = written(tmp_path, "audit.log", story.device())
    done = invoke("audit", "tail", log, "--app", "bob")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 2
    assert "\x1b" not in done.stdout
    assert "no such request" in invoke("audit", "tail", log, "--app", "nobody").stderr
    assert len(invoke("audit", "tail", log, "-o", "csv", "-n", "2").stdout.splitlines()) == 3


def test_a_failing_tail_test_leaves_no_process(tmp_path):
    log = written(tmp_path, "audit.log", numbered(1, 2).device())
    command = [sys.executable, "-m", "skyflowctl", "audit", "tail", "-f", log, "-o", "ndjson"]
    started = []

    def failing() -> None:
        with running(command, stdout=subprocess.PIPE, text=True) as run:
            started.append(run)
            assert run.stdout.readline() == "as if it failed"

    with pytest.raises(AssertionError, match="as if it failed"):
        failing()
    assert started[0].returncode == -signal.SIGKILL
