"""Processes that outlive the command that started them, identified by pid and start time.

A pid alone may be reused by another process; with its start time it is unique. This module never
signals a process that the dev stack did not start.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from skyflowctl.devstack.state import ProcessRecord
from skyflowctl.private_files import open_private
from skyflowctl.retry import retry

# psutil derives start times from boot time and clock ticks (10 ms).
_SAME_START_SECONDS = 0.05


def find_process(record: ProcessRecord) -> psutil.Process | None:
    """Return the running process of a record, or None if it has ended."""
    try:
        found = psutil.Process(record.pid)
        if abs(found.create_time() - record.started) > _SAME_START_SECONDS:
            return None
        return None if found.status() == psutil.STATUS_ZOMBIE else found
    except psutil.NoSuchProcess:
        return None


def alive(record: ProcessRecord) -> bool:
    """Return whether exactly this process runs."""
    return find_process(record) is not None


def start_detached(
    command: Sequence[str], *, log: Path, environ: Mapping[str, str], cwd: Path
) -> ProcessRecord:
    """Start a process in a session of its own, its output appended to ``log``."""
    descriptor = open_private(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(descriptor, "ab") as stream:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
        )
    record = ProcessRecord(child.pid, psutil.Process(child.pid).create_time())
    # The child must outlive this interpreter, which must not warn about it.
    child.returncode = 0
    return record


def stop(records: Iterable[ProcessRecord], *, seconds: float = 10.0) -> None:
    """End these processes: SIGTERM, then SIGKILL after ``seconds`` seconds."""
    ended_later = [found for record in records if (found := find_process(record))]
    for process in ended_later:
        _signal(process.terminate)
    for process in psutil.wait_procs(ended_later, timeout=seconds)[1]:
        _signal(process.kill)
        process.wait(seconds)


def running(command_matches: Callable[[Sequence[str]], bool]) -> list[ProcessRecord]:
    """Return this user's other running processes whose command line matches."""
    own, user = os.getpid(), os.getuid()
    return [
        ProcessRecord(process.pid, process.info["create_time"])
        for process in psutil.process_iter(["cmdline", "create_time", "uids"])
        if process.pid != own
        and process.info["uids"]
        and process.info["uids"].real == user
        and command_matches(process.info["cmdline"] or ())
    ]


def wait_until(
    ready: Callable[[], bool], *, alive: Callable[[], bool], seconds: float, pause: float = 0.02
) -> bool:
    """Poll ``ready`` until it is true; False if the time is over or ``alive`` is false."""
    deadline = time.monotonic() + seconds

    def on_wait(_ready: bool, _tries: int) -> bool:
        if not alive() or time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        return True

    return retry(ready, bool, on_wait)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def server_port(preferred: int | None) -> int:
    """Return a free port P with P+1 free too, for the server's cluster listener."""
    if preferred and _free(preferred) and _free(preferred + 1):
        return preferred
    for _ in range(200):
        port = any_port(None)
        if port < 65535 and _free(port + 1):
            return port
    raise OSError("no two free loopback ports side by side")


def any_port(preferred: int | None) -> int:
    """Return the preferred port if it is free, else any free one."""
    if preferred and _free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # A listener that has just ended leaves connections in TIME_WAIT, which are harmless.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
