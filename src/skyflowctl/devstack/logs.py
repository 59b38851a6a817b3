"""Reading the stack's logs."""

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.errors import RefusedError, UnhealthyError, os_reason
from skyflowctl.private_files import open_private

_PAUSE_SECONDS = 0.2


def path_of(layout: DevLayout, part: str) -> Path:
    """Return the log file of ``openbao``, ``emulator`` or ``audit``.

    Raises:
        UnhealthyError: there is none: the stack was never started.
    """
    paths = {
        "openbao": layout.server_log,
        "emulator": layout.emulator_log,
        "audit": layout.audit_log,
    }
    if not paths[part].exists():
        raise UnhealthyError(
            f"there is no log of {part}",
            why="the dev stack was never started in this folder",
            fix="start it with 'skyflowctl dev up'",
            code="dev-stack-down",
        )
    return paths[part]


def tail(path: Path, count: int) -> list[str]:
    """Return the last ``count`` lines."""
    with _opened(path) as stream:
        return [line.rstrip("\n") for line in deque(stream, maxlen=count)]


def follow_logs(path: Path) -> Iterator[str]:
    """Yield lines as they are added, without end."""
    with _opened(path) as stream:
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


def _opened(path: Path) -> TextIO:
    try:
        return os.fdopen(open_private(path, os.O_RDONLY), errors="replace")
    except OSError as error:
        raise RefusedError(
            f"{path} is not the dev stack's own log",
            why=os_reason(error),
            fix="remove it, and start the stack with 'skyflowctl dev up'",
            code="planted-path",
        ) from None
