"""``python -m support.rotation_kills N FILE -- ARGS``: skyflowctl, killed at its Nth moment.

A moment is the begin of a step, or of something that others could see of the process: a
request to the server, a call of Skyflow's Management API. A real SIGKILL of a real process;
only the moment is chosen. The moments that were reached are written to FILE, a line each;
with N 0 it is not killed.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.session import RotationSession
from skyflowctl.skyflow.management.api import ManagementApi
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.transport import Request

_MANAGEMENT = ("list_keys", "create_key", "delete_key")


class Moments:
    """Counts moments, writes them down, and ends the process at the chosen one.

    Args:
        fatal: its number, from 1; 0: none.
        note: takes one line a moment.
    """

    def __init__(self, fatal: int, note: Callable[[str], None]) -> None:
        self._fatal = fatal
        self._note = note
        self._made = 0
        self._lock = threading.Lock()

    def begin(self, what: str) -> None:
        """Count one, or die instead."""
        with self._lock:
            self._made += 1
            if self._made == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            self._note(what)


def watch(moments: Moments) -> None:
    """Have every moment of this process counted."""
    send = HttpTransport.send

    @functools.wraps(send)
    def counted(self: Any, request: Request) -> Any:
        fields = ",".join(sorted(request.body or ()))
        moments.begin(f"{request.method} {request.path} {fields}".rstrip())
        return send(self, request)

    HttpTransport.send = counted
    step = RotationSession.step

    @functools.wraps(step)
    def begun(self: Any, name: StepName) -> Any:
        moments.begin(f"step {name}")
        return step(self, name)

    RotationSession.step = begun
    for name in _MANAGEMENT:
        setattr(ManagementApi, name, _counted(getattr(ManagementApi, name), moments))


def _counted(call: Callable[..., Any], moments: Moments) -> Callable[..., Any]:
    @functools.wraps(call)
    def counted(*args: Any) -> Any:
        moments.begin(call.__name__)
        return call(*args)

    return counted


def settles(line: str) -> bool:
    """Tell whether a moment's line is of something that changes the server or Skyflow."""
    word, _, rest = line.partition(" ")
    if word in {"create_key", "delete_key", "DELETE"}:
        return True
    return word == "POST" and not rest.split(" ")[0].endswith(("/verify", "capabilities-self"))


def boundaries(lines: list[str]) -> list[int]:
    """The moments that a kill can tell apart: each step's begin, and right after each change."""
    return [
        number
        for number, line in enumerate(lines, 1)
        if line.startswith("step ") or (number > 1 and settles(lines[number - 2]))
    ]


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a", buffering=1, encoding="utf-8") as log:
        watch(Moments(int(sys.argv[1]), lambda line: print(line, file=log)))
        sys.argv = ["skyflowctl", *sys.argv[4:]]
        from skyflowctl.cli.main import main

        main()
