"""What happens when a standard stream is closed, full, or its reader goes away."""

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from skyflowctl.errors import SkyflowctlError

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Point every standard stream that was closed at nowhere.

    Python leaves None in its place, and the first file or socket that is opened would get
    its number: what is written to stdout could then end up in a connection.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            # The lowest free number, which is the closed stream's own.
            number = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def drop_stdout() -> None:
    """Point stdout at nowhere, so that Python's own flush at exit stays quiet."""
    drop(sys.stdout)


def drop(stream: TextIO) -> None:
    """Point a stream at nowhere; what it still holds is lost."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, stream.fileno())
    except (OSError, ValueError):
        # Not a real file (a test's buffer): nothing is flushed to a pipe at exit.
        return
    finally:
        os.close(sink)


def output_failed(error: OSError, done: str = "") -> "SkyflowctlError":
    """Return the error for a stdout that takes no more.

    Args:
        error: of the write.
        done: how to see what was done, where it should not be done again.
    """
    from skyflowctl.errors import SkyflowctlError, os_reason

    return SkyflowctlError(
        "the output could not be written",
        why=f"writing to stdout failed: {os_reason(error)}",
        fix=done or "make room where the output goes, or send it elsewhere, and run it again",
        code="output-failed",
    )
