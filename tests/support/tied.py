"""Servers that end with the test run that started them, also when it is killed.

A killed run tears no fixture down. Children are tied by the kernel's parent-death signal
where it exists (Linux); a stack that detaches itself is ended by a watcher, which sees the
run's end of a pipe close.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _tie() -> None:
    assert _LIBC
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


# For Popen's preexec_fn: it makes one system call and allocates nothing.
die_with_parent: Callable[[], None] | None = _tie if _LIBC else None


@contextlib.contextmanager
def ended_with_us(command: list[str], *, environ: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Have a command run, and the folder deleted, if this process ends inside the block."""
    script = 'read -r line || { "$@"; rm -rf "$PWD"; }'
    with subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        cwd=cwd,
        start_new_session=True,
    ) as watcher:
        assert watcher.stdin
        try:
            yield
        finally:
            watcher.stdin.write(b"done\n")
            watcher.stdin.flush()
