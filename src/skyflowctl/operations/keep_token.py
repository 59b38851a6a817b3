"""Keeps a token fresh: reads a new one well before the old one ends, as long as it is asked to."""

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from skyflowctl.clock import Clock, parse_rfc3339
from skyflowctl.errors import SkyflowctlError
from skyflowctl.retry import Backoff
from skyflowctl.vault.responses import Creds

# A new token is read after about this part of the old one's time: a third is left for an outage.
# The spread keeps processes that started together from asking together.
_PART, _SPREAD = 0.6, 0.1
_RETRIES = Backoff(first=2.0, longest=60.0)
# The longest sleep: a machine that was suspended looks at the clock this soon after.
_LOOK_AGAIN = 15.0


class TokenKeeper:
    """Holds the newest token of a role. Safe for threads.

    Args:
        read: reads a token; raises ``SkyflowctlError``.
        clock: tells the time.
        on_new: called after each refresh with the new token, by the thread of :meth:`run`; may
            raise ``SkyflowctlError``.
        tell: shows one line to a person.
    """

    def __init__(
        self,
        read: Callable[[], Creds],
        clock: Clock,
        *,
        on_new: Callable[[Creds], None] = lambda _token: None,
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._read, self._clock, self._on_new, self._tell = read, clock, on_new, tell
        self._stopped = threading.Event()
        self.token = read()

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopped.set()

    def run(self) -> None:
        """Refresh the token until stopped; a failure is told, and tried again."""
        failed = 0
        due = self._due()
        while not self._wait_until(due):
            before = self.token
            try:
                self.token = self._read()
                # With reuse at the role, the engine may answer the same token for a while.
                if self.token.access_token != before.access_token:
                    self._on_new(self.token)
            except SkyflowctlError as error:
                self.token = before
                failed += 1
                due = self._clock.now() + timedelta(seconds=_RETRIES.pause(failed))
                self._tell_failure(error)
                continue
            failed, due = 0, self._due()

    def seconds_left(self) -> float:
        """Return the seconds until the token ends; below 0 if it has ended."""
        return (self._ends() - self._clock.now()).total_seconds()

    def _due(self) -> datetime:
        part = _PART + random.uniform(-_SPREAD, _SPREAD)  # noqa: S311 - a spread, no secret
        return self._clock.now() + timedelta(seconds=max(1.0, self.seconds_left() * part))

    def _ends(self) -> datetime:
        return parse_rfc3339(self.token.expires_at)

    def _wait_until(self, due: datetime) -> bool:
        """Wait for a time of the clock; return whether it was stopped before."""
        while (left := (due - self._clock.now()).total_seconds()) > 0:
            if self._stopped.wait(min(left, _LOOK_AGAIN)):
                return True
        return self._stopped.is_set()

    def _tell_failure(self, error: SkyflowctlError) -> None:
        problem = error.problems[0]
        state = f"is valid until {self.token.expires_at}"
        if self.seconds_left() <= 0:
            state = f"has expired at {self.token.expires_at}"
        self._tell(f"the token was not refreshed: {problem.summary} ({problem.why}); it {state}")
