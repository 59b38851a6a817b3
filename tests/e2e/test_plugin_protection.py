"""A plugin process on a real server: nothing dumps it, and idle connections are bounded."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.bao import BaoServer
from support.plugin import mounted, processes_of, register_skyflow, wait_for

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def guarded(bao: BaoServer):
    register_skyflow(bao, "guarded")
    with mounted(bao, "guarded", "guarded"):
        yield bao


def test_h6_the_process_writes_no_core_and_config_read_says_so(guarded: BaoServer):
    process = guarded.api("GET", "guarded/config")[1]["data"]["process"]
    assert (process["core_dumps"], process["dumpable"]) == (False, False)
    (running,) = processes_of(guarded, "guarded")
    limits = Path(f"/proc/{running.pid}/limits").read_text().splitlines()
    (core,) = [line for line in limits if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    locked = Path(f"/proc/{running.pid}/status").read_text().partition("VmLck:")[2].split()[0]
    assert process["swappable"] is (locked == "0")


def test_h6_idle_connections_to_the_socket_are_bounded(guarded: BaoServer):
    (running,) = processes_of(guarded, "guarded")
    files = Path(f"/proc/{running.pid}/fd")
    sockets = list((guarded.folder / "s").glob(f"sky{running.pid}-*"))
    assert len(sockets) == 1
    before = len(list(files.iterdir()))
    idle = []
    try:
        for _ in range(200):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(sockets[0]))
            idle.append(one)
        assert guarded.api("GET", "guarded/roles?list=true")[0] in {200, 404}
        wait_for(lambda: len(list(files.iterdir())) <= before + 20)
        # Who does not finish the handshake is cut off.
        wait_for(lambda: len(list(files.iterdir())) <= before, seconds=15)
    finally:
        for one in idle:
            one.close()
    assert guarded.api("GET", "guarded/config")[0] == 200
