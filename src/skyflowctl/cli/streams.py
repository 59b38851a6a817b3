"""Handles a standard stream that is closed, full, or without a reader."""

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from skyflowctl.errors import SkyflowctlError

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Open /dev/null for every closed standard stream.

    Python replaces it by None, and the next opened file or socket would get its number: output to
    stdout could then go into a connection.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            # The lowest free number, which is the closed stream's own.
            number = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def drop_stdout() -> None:
    """Redirect stdout to /dev/null, so that Python's flush at exit does not fail."""
    drop(sys.stdout)


def drop(stream: TextIO) -> None:
    """Redirect a stream to /dev/null; its buffered text is lost."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, stream.fileno())
    except (OSError, ValueError):
        # Not a real file (a test's buffer): there is no flush to a pipe at exit.
        return
    finally:
        os.close(sink)


def output_failed(error: OSError, done: str = "") -> "SkyflowctlError":
    """Return the error for a stdout that cannot be written.

    Args:
        error: the error of the write.
        done: how to see the result, if the work should not be repeated.
    """
    from skyflowctl.errors import SkyflowctlError, os_reason

    return SkyflowctlError(
        "the output could not be written",
        why=f"writing to stdout failed: {os_reason(error)}",
        fix=done or "make room where the output goes, or send it elsewhere, and run it again",
        code="output-failed",
    )
