"""Reports the reasons for long waits, and limits their length."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

_FIRST_SECONDS = 2.0
_SECOND_SECONDS = 10.0
_TICK_SECONDS = 0.25
_NAMED = 2
_THREAD = "skyflowctl-waits"

_DEADLINE: ContextVar[float | None] = ContextVar("skyflowctl_deadline", default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Limit the total time of all requests that this thread sends in the block; None: no limit.

    An enclosing limit that ends earlier still applies.
    """
    outer = _DEADLINE.get()
    ends = None if seconds is None else time.monotonic() + seconds
    if ends is not None and outer is not None:
        ends = min(ends, outer)
    token = _DEADLINE.set(ends)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def seconds_left(longest: float) -> float:
    """Return the seconds that a request of this thread may take: at most ``longest``."""
    ends = _DEADLINE.get()
    return longest if ends is None else max(0.0, min(longest, ends - time.monotonic()))


@dataclass(slots=True)
class _Wait:
    what: str
    since: float
    tell_at: float = field(default=_FIRST_SECONDS)


class WaitMonitor:
    """Shows a line for every wait of more than 2 s, and again after 10, 20, 40 … s.

    Its thread runs only during a wait.

    Args:
        tell: shows a line; called from that thread.
        monotonic: the clock, replaceable in tests.
    """

    def __init__(
        self, tell: Callable[[str], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._waits: dict[int, _Wait] = {}
        self._lock = threading.Lock()
        self._runs = False

    @contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """Show the reason for the wait if the block takes long."""
        wait = _Wait(what, self._monotonic())
        with self._lock:
            self._waits[id(wait)] = wait
            starts, self._runs = not self._runs, True
        if starts:
            threading.Thread(target=self._watch, name=_THREAD, daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                del self._waits[id(wait)]

    def _watch(self) -> None:
        # Signals are the main thread's: exec waits for them, and one that ends up here is lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            time.sleep(_TICK_SECONDS)
            with self._lock:
                late = self._take_late()
                self._runs = runs = bool(self._waits)
            if late:
                self._tell(late)
            if not runs:
                return

    def _take_late(self) -> str:
        """Return the line for the waits that are due for a report; empty if there are none."""
        now = self._monotonic()
        late = [one for one in self._waits.values() if now - one.since >= one.tell_at]
        for one in late:
            one.tell_at = max(_SECOND_SECONDS, one.tell_at * 2)
        if not late:
            return ""
        seconds = int(max(now - one.since for one in late))
        named = ", ".join(one.what for one in late[:_NAMED])
        more = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
        return f"waiting for {named}{more}: no answer for {seconds} s"
