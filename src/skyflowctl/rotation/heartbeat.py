"""Renews an open rotation in the engine while its run waits.

Other machines use the age of the config's last write to decide whether a rotation is in progress
(:mod:`skyflowctl.rotation.recovery`). So this run rewrites its intent at intervals, from within its
own waits: a run that hangs does not renew, as intended.
"""

import math
import threading
from collections.abc import Callable

from skyflowctl.clock import Clock
from skyflowctl.vault.errors import VaultError

EVERY = 3.0
"""Seconds between renewals; well below the time after which a rotation is taken over."""
_SHORTEST = 0.05


class Heartbeat:
    """Waits for a run and renews its rotation meanwhile. Thread-safe.

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
        """Renew with this function from now on; the rotation was written a moment ago.

        Args:
            renew: raises a ``VaultError`` when there is no answer, which is ignored, and any other
                error when the rotation no longer belongs to this run.
        """
        self._renew, self._lost, self._last = renew, None, self._clock.monotonic()

    def stop(self) -> None:
        """Stop renewing: the rotation is over, or another write is about to change it."""
        self._renew = None

    def sleep(self, seconds: float) -> None:
        """Wait, and renew meanwhile.

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
        """Wait in the same way before a request that checks itself whose rotation it is."""
        try:
            self.sleep(seconds)
        except Exception:  # noqa: BLE001 - that request will tell it, by its check-and-set
            self.stop()

    def beat(self) -> None:
        """Renew now; do nothing while another thread renews.

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
            # There was no answer. Check-and-set keeps two runs apart even without a renewal.
            return
        except Exception as error:
            self._lost = error
            raise
        finally:
            self._lock.release()
