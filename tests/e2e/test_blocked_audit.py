"""``health`` on a server whose audit devices stop every request: real devices, really blocked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.stack import Stack, clean_environ, running_stack

pytestmark = pytest.mark.real_server

HEAD = "version: 1\nmanifest: audited\nmounts: {}\naudit_devices:\n"
MAIN = """audit "file" "main" {{
  options {{
    file_path = "{folder}/audit.log"
  }}
}}
"""


def site(server: BaoServer, folder: Path, *lines: str) -> Stack:
    (folder / "mounts.yaml").write_text(HEAD + "".join(f"  {line}\n" for line in lines))
    return Stack(folder, {**clean_environ(), **server.env(), "HOME": str(folder)}, {})


def reloaded(server: BaoServer, added: str, names: set[str]) -> None:
    """Replace the server's own audit device by others."""
    config = server.folder / "bao.hcl"
    own = MAIN.format(folder=server.folder)
    assert own in config.read_text()
    config.write_text(config.read_text().replace(own, added))
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while set(server.api("GET", "sys/audit")[1]["data"]) != names:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def blocked(stack: Stack, *args: str) -> dict[str, Any]:
    """The one problem of ``health``, which takes less than 10 s."""
    started = time.monotonic()
    answer = stack.json("health", *args, check=6)
    assert time.monotonic() - started < 10
    (problem,) = answer["errors"]
    assert problem["code"] == "audit-blocked"
    assert {one["state"] for one in answer["data"]["mounts"]} == {"audit_blocked"}
    assert "SIGHUP" in problem["fix"]
    return dict(problem)


def diagnosed(stack: Stack) -> dict[str, Any]:
    """What ``doctor`` says of the one node; it asks for nothing that would hang."""
    started = time.monotonic()
    found = stack.json("doctor", check=6)["data"]["findings"]
    assert time.monotonic() - started < 20, "the probe takes 7 s; the rest is a loaded machine"
    (node,) = [one for one in found if one["check"] == "nodes"]
    assert (node["grade"], "audit blocked" in node["summary"]) == ("bad", True)
    assert [one["grade"] for one in found if one["check"] == "server"] == ["unknown"]
    return dict(node)


@contextlib.contextmanager
def full_pipe(path: Path) -> Iterator[int]:
    """A pipe that one page fills, with a reader that reads only when asked to."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reader
    finally:
        os.close(reader)


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_blocks_though_another_device_works(tmp_path):
    pipe = tmp_path / "pipe"
    with running_bao() as server, full_pipe(pipe) as reader:
        good = f'audit "file" "good" {{ options = {{ file_path = "{tmp_path}/good.log" }} }}\n'
        bad = f'audit "file" "bad" {{ options = {{ file_path = "{pipe}" }} }}\n'
        with read_by_somebody(reader):
            reloaded(server, good + bad, {"good/", "bad/"})
        stack = site(
            server,
            tmp_path,
            f"good: {{type: file, options: {{file_path: {tmp_path}/good.log}}}}",
            f"bad: {{type: file, options: {{file_path: {pipe}}}}}",
        )
        fill(server)
        problem = blocked(stack)
        assert f"bad ({pipe}): this pipe is full, and nobody reads it" in problem["why"]
        assert "good" not in problem["why"]
        node = diagnosed(stack)
        assert f"bad ({pipe}): this pipe is full, and nobody reads it" in node["detail"]
        assert node["fix"].endswith("kill -HUP $(pidof bao)")
        with read_by_somebody(reader):
            stack.cli("health")


@contextlib.contextmanager
def read_by_somebody(reader: int) -> Iterator[None]:
    """Take what comes through the pipe, in a thread."""
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.002):
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 65536)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def fill(server: BaoServer) -> None:
    """Send requests until one has no answer."""
    with contextlib.suppress(OSError):
        for _ in range(50):
            one_request(server)
        raise AssertionError("every request was answered")


def one_request(server: BaoServer) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    request = urllib.request.Request(f"{server.address}/v1/sys/audit")
    try:
        urllib.request.urlopen(request, context=context, timeout=1).read()
    except urllib.error.HTTPError:
        return


def test_the_only_device_fails_and_a_second_one_keeps_the_server_going(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    device = f'audit "socket" "siem" {{ options = {{ address = "{address}" }} }}\n'
    line = f'siem: {{type: socket, options: {{address: "{address}"}}}}'
    with running_bao() as server, listener:
        own = MAIN.format(folder=server.folder)
        reloaded(server, own + device, {"main/", "siem/"})
        listener.accept()[0].close()
        listener.close()
        stack = site(server, tmp_path, line)
        stack.cli("health")
        config = server.folder / "bao.hcl"
        config.write_text(config.read_text().replace(own, ""))
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while server.api("GET", "sys/audit")[0] != 500:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        problem = blocked(stack)
        assert f"the manifest's only audit device fails, siem ({address})" in problem["why"]
        (tmp_path / "mounts.yaml").unlink()
        assert "its name is in the server's configuration" in blocked(stack)["why"]


@pytest.mark.slow
def test_the_dev_stacks_log_names_the_device_that_fails(tmp_path):
    source = tmp_path / "mounts.yaml"
    source.write_text(f"{HEAD}  more: {{type: http, options: {{uri: 'https://x.example/'}}}}\n")
    with running_stack(source) as stack:
        stack.cli("dev", "up")
        stack.load_exports()
        stack.json("apply", "-y")
        logs = stack.dev / "logs"
        for name in ("audit.log", "audit-more.log"):
            (logs / name).rename(logs / f"{name}.1")
            (logs / name).symlink_to("/dev/full")
        (server,) = [one for one in stack.processes() if "server" in one.cmdline()]
        server.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while stack.cli("health", check=None, exported=True).returncode == 0:
            assert time.monotonic() < deadline
        answer = stack.json("health", check=6)
        (problem,) = answer["errors"]
        assert problem["code"] == "audit-blocked"
        assert "file fails: " in problem["why"]
        assert "more fails: " in problem["why"]


@pytest.mark.slow
def test_every_node_of_a_cluster_is_told_apart(tmp_path):
    with running_cluster(voting=False) as cluster:
        leader, (first, second) = cluster.leader(), cluster.standbys()
        stack = site_of(cluster, first, tmp_path)
        everyone = ["--node", leader.address, "--node", second.address]
        assert stack.json("health", *everyone, check=0)["data"]["mounts"] == []

        # The standby waits for a leader that hangs, and none can be elected; its devices work.
        with stopped(leader, second):
            (row,) = stack.json("health", "--deadline", "3s", check=6)["data"]["mounts"]
            assert row["state"] == "unreachable"
            assert "the nodes of the cluster could not be listed" in row["detail"]
            rows = stack.json("health", "--deadline", "3s", *everyone, check=6)["data"]["mounts"]
            assert {one["state"] for one in rows} == {"unreachable"}
            assert {one["node"] for one in rows} == {leader.address, second.address}
        wait_until(lambda: len(cluster.standbys()) == 2, "no leader")

        leader, (first, second) = cluster.leader(), cluster.standbys()
        stack = site_of(cluster, first, tmp_path)
        others = ["--node", leader.address, "--node", second.address]
        second.audit_log.unlink()
        second.audit_log.symlink_to("/dev/full")
        reopened(second, lambda: cluster.call(second, "GET", "sys/mounts")[0] == 500)
        assert node_of(blocked(stack, *others)) == second.address

        second.audit_log.unlink()
        with full_pipe(second.audit_log):
            reopened(second, lambda: not answers(cluster, second))
            line = f"main: {{type: file, options: {{file_path: {second.audit_log}}}}}"
            (tmp_path / "mounts.yaml").write_text(f"{HEAD}  {line}\n")
            problem = blocked(stack, *others)
            assert node_of(problem) == second.address
            assert "this pipe is full, and nobody reads it" in problem["why"]
            assert node_of(blocked(stack, "--deadline", "5s", *others)) == second.address

            # Unseen: neither the plugin nor the device is blamed.
            (tmp_path / "mounts.yaml").write_text(HEAD.replace("audit_devices:", ""))
            (problem,) = stack.json("health", *others, check=6)["errors"]
            assert problem["code"] == "unreachable"
            assert "hangs, or one of its audit devices blocks" in problem["why"]
            assert "kill" not in problem["fix"]


@contextlib.contextmanager
def stopped(*nodes: ServerNode) -> Iterator[None]:
    """Let these nodes hang."""
    processes = [node.process for node in nodes if node.process is not None]
    for one in processes:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in processes:
            one.send_signal(signal.SIGCONT)


def site_of(cluster: ServerCluster, node: ServerNode, folder: Path) -> Stack:
    (folder / "mounts.yaml").write_text(HEAD.replace("audit_devices:", ""))
    environ = {"BAO_ADDR": node.address, "BAO_TOKEN": cluster.token, "BAO_CACERT": str(cluster.ca)}
    return Stack(folder, {**clean_environ(), **environ, "HOME": str(folder)}, {})


def node_of(problem: dict[str, Any]) -> str:
    """The node that a problem names."""
    return str(problem["summary"]).partition(" on ")[2].partition(" ")[0]


def reopened(node: ServerNode, seen: Callable[[], bool]) -> None:
    """Make a node open its audit log anew, and wait for what that does."""
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    wait_until(seen, "the audit log was not opened anew")


def answers(cluster: ServerCluster, node: ServerNode) -> bool:
    """Whether a node answers a request that it records."""
    url = f"{node.address}/v1/sys/internal/ui/mounts"
    try:
        urllib.request.urlopen(url, context=cluster.context, timeout=2).read()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
