"""Processes that outlive the command that started them, known by pid and start time.

A pid alone can be another process's by now; with its start time it cannot. Nothing
here ever signals a process that the dev stack did not start.
"""

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# psutil derives start times from boot time and clock ticks (10 ms).
_SAME_START_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A started process: its pid, and its start in seconds since the epoch."""

    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """Return the running process, or None when it has ended."""
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.started) > _SAME_START_SECONDS:
                return None
            return None if found.status() == psutil.STATUS_ZOMBIE else found
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """True while that very process runs."""
        return self.process() is not None


def start_detached(
    command: Sequence[str], *, log: Path, environ: Mapping[str, str], cwd: Path
) -> ProcessRecord:
    """Start a process in a session of its own, its output appended to ``log``."""
    log.touch(mode=0o600, exist_ok=True)
    with log.open("ab") as stream:
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
    # The child is meant to outlive this interpreter, which must not complain about it.
    child.returncode = 0
    return record


def stop(records: Iterable[ProcessRecord], *, patience: float = 10.0) -> None:
    """End these processes: SIGTERM, then SIGKILL after ``patience`` seconds."""
    running = [found for record in records if (found := record.process())]
    for process in running:
        _signal(process.terminate)
    for process in psutil.wait_procs(running, timeout=patience)[1]:
        _signal(process.kill)
        process.wait(patience)


def running(command_matches: Callable[[Sequence[str]], bool]) -> list[ProcessRecord]:
    """Return the running processes, this one excepted, whose command line matches."""
    own = psutil.Process().pid
    return [
        ProcessRecord(process.pid, process.info["create_time"])
        for process in psutil.process_iter(["cmdline", "create_time"])
        if process.pid != own and command_matches(process.info["cmdline"] or ())
    ]


def wait_until(
    ready: Callable[[], bool], *, alive: Callable[[], bool], seconds: float, pause: float = 0.02
) -> bool:
    """Poll ``ready`` until it is true; False when the time is up or ``alive`` is not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        if not alive():
            return False
        time.sleep(pause)
    return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
