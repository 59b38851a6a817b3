"""Stops a run on signals: the first one lets started actions finish, the second does not."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a run should start nothing new, and which signal asked for it (0 for none)."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal = 0

    def ask(self, number: int = 0) -> None:
        """Ask the run to stop; the first signal is remembered."""
        self.signal = self.signal or number
        self._event.set()

    @property
    def asked(self) -> bool:
        """True once the run was asked to stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until the run is asked to stop; if it already was, wait for the whole time."""
        if self.asked:
            time.sleep(seconds)
        else:
            self._event.wait(seconds)


@contextmanager
def stop_on_signals(on_first: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request to stop, within the block.

    A second signal ends the process with the signal's default action, because an exception would
    have to wait for worker threads that a hanging server blocks. The same command finishes what
    they leave. This works only in the main thread, like Python's signal handling.

    Args:
        on_first: called once, at the first signal, to tell the user what happens next.
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
