"""Processes of a test that never outlive it, however it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running(command: Sequence[str], **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a command beside a test; it is killed if it still runs when the block is left.

    ``Popen`` alone waits for it instead: for ever, after a failed assertion.
    """
    with subprocess.Popen(command, **more) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def with_tests_importable() -> dict[str, str]:
    """The environment in which ``python -m support...`` is found."""
    path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
