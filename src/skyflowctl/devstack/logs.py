"""Reading the stack's logs."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.errors import Unhealthy

_PAUSE_SECONDS = 0.2


def path_of(layout: DevLayout, part: str) -> Path:
    """Return the log file of ``openbao``, ``emulator`` or ``audit``.

    Raises:
        Unhealthy: there is none, because the stack was never started.
    """
    paths = {
        "openbao": layout.server_log,
        "emulator": layout.emulator_log,
        "audit": layout.audit_log,
    }
    if not paths[part].exists():
        raise Unhealthy(
            f"there is no log of {part}",
            why="the dev stack was never started in this folder",
            fix="start it with 'skyflowctl dev up'",
            code="dev-stack-down",
        )
    return paths[part]


def tail(path: Path, count: int) -> list[str]:
    """Return the last ``count`` lines."""
    with path.open(errors="replace") as stream:
        return [line.rstrip("\n") for line in deque(stream, maxlen=count)]


def follow(path: Path) -> Iterator[str]:
    """Yield lines as they are added, for ever."""
    with path.open(errors="replace") as stream:
        stream.seek(0, 2)
        partial = ""
        while True:
            partial += stream.readline()
            if partial.endswith("\n"):
                yield partial.rstrip("\n")
                partial = ""
            elif not stream.readable() or not path.exists():
                return
            else:
                time.sleep(_PAUSE_SECONDS)
