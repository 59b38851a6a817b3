"""A sign of life in the engine, from a run that holds an open rotation while it waits.

Other machines judge by the age of the config's last write whether a rotation is in progress
(:mod:`skyflowctl.rotation.recovery`). So this run writes its intent again now and then, from
within its own waiting: a run that hangs gives no sign, as it should.
"""

import math
import threading
from collections.abc import Callable

from skyflowctl.clock import Clock
from skyflowctl.vault.errors import VaultError

EVERY = 3.0
"""Seconds; well below the time after which a silent rotation is taken over."""
_SHORTEST = 0.05


class Heartbeat:
    """Waits for a run, and renews its rotation meanwhile. Safe for threads.

    Args:
        clock: the run's.
        sleep: waits so many seconds.
    """

    def __init__(self, clock: Clock, sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._renew: Callable[[], None] | None = None
        self._last = 0.0
        self._lost: Exception | None = None

    def keep(self, renew: Callable[[], None]) -> None:
        """Renew in this way from now on; the rotation was written a moment ago.

        Args:
            renew: raises a ``VaultError`` when there is no answer, which is ignored, and
                any other error when the rotation is this run's no more.
        """
        self._renew, self._lost, self._last = renew, None, self._clock.monotonic()

    def stop(self) -> None:
        """Renew no more: the rotation is over, or about to be written otherwise."""
        self._renew = None

    def sleep(self, seconds: float) -> None:
        """Wait, and renew in between.

        Raises:
            Exception: what ``renew`` raised, in every thread that waits.
        """
        left = seconds
        while True:
            if self._until_due() <= 0:
                self.beat()
            if self._lost is not None:
                raise self._lost
            if left <= 0:
                return
            pause = min(left, max(self._until_due(), _SHORTEST))
            self._sleep(pause)
            left -= pause

    def _until_due(self) -> float:
        """Seconds until the next renewal."""
        if self._renew is None:
            return math.inf
        return EVERY - (self._clock.monotonic() - self._last)

    def sleep_on(self, seconds: float) -> None:
        """Wait in the same way before a request that itself finds out whose rotation it is."""
        try:
            self.sleep(seconds)
        except Exception:  # noqa: BLE001 - that request will tell it, by its check-and-set
            self.stop()

    def beat(self) -> None:
        """Renew now; nothing while another thread is at it.

        Raises:
            Exception: what ``renew`` raised.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._renew is not None and self._lost is None:
                self._last = self._clock.monotonic()
                self._renew()
        except VaultError:
            # There was no answer. Check-and-set keeps two runs apart also without a sign of life.
            return
        except Exception as error:
            self._lost = error
            raise
        finally:
            self._lock.release()
