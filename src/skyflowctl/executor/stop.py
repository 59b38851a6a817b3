"""Stopping in order: the first signal lets what has begun finish, the second does not."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a run should begin nothing new, and which signal said so (0: none did)."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal = 0

    def ask(self, number: int = 0) -> None:
        """Ask the run to stop; the first asking signal is remembered."""
        self.signal = self.signal or number
        self._event.set()

    @property
    def asked(self) -> bool:
        """True as soon as anybody asked."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Let time pass: all of it where somebody asked before, else until somebody asks."""
        if self.asked:
            time.sleep(seconds)
        else:
            self._event.wait(seconds)


@contextmanager
def stop_on_signals(on_first: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request to stop, as long as the block runs.

    A second signal ends the process as if nobody had caught it: an exception would
    still have to wait for worker threads that a hanging server holds. What they leave is
    finished by the same command. Works in the main thread only, as Python's signal handling does.

    Args:
        on_first: called once, at the first signal, to tell the person what happens now.
    """
    stop = Stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.ask(number)
        if on_first:
            on_first()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
