"""A test run that is killed leaves no server behind: neither single ones, nor clusters, nor stacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from support.plugin import wait_for
from support.stack import REPO

pytestmark = pytest.mark.real_server

# What fixtures do, in a process of its own that is killed before any of them ends.
RUN = """
import contextlib, json, signal, sys, tempfile
from pathlib import Path
from support.bao import running_bao
from support.cluster import _prepare
from support.emulator import running_emulator
from support.stack import running_stack
with contextlib.ExitStack() as open_ones:
    bao = open_ones.enter_context(running_bao())
    emulator = open_ones.enter_context(running_emulator())
    stack = open_ones.enter_context(running_stack())
    cluster = _prepare(Path(sys.argv[1]), True, None)
    for node in cluster.nodes:
        cluster.start(node)
    dev = json.loads((stack.dev / "dev.json").read_text())
    pids = [dev["server"]["process"]["pid"], dev["emulator"]["process"]["pid"]]
    pids += [bao.process.pid, emulator.process.pid]
    pids += [node.process.pid for node in cluster.nodes]
    print(json.dumps(pids), flush=True)
    signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's parent-death signal")
def test_a_killed_run_leaves_no_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path_factory.mktemp("c"))],
        env={**os.environ, "PYTHONPATH": str(REPO / "tests")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout
    try:
        started = [psutil.Process(pid) for pid in json.loads(run.stdout.readline())]
        assert len(started) == 7
        assert all(process.is_running() for process in started)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait(10)
        run.stdout.close()
    wait_for(lambda: not any(_lives(process) for process in started), seconds=30)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
