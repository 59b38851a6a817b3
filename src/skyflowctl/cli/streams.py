"""What happens to the standard streams when their reader goes away."""

import os
import sys


def drop_stdout() -> None:
    """Point stdout at nowhere, so that Python's own flush at exit stays quiet."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, sys.stdout.fileno())
    except (OSError, ValueError):
        # Not a real file (a test's buffer): nothing is flushed to a pipe at exit.
        return
    finally:
        os.close(sink)
