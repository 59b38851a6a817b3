"""Decides which failures are transient, and how long to wait before a retry.

What a server's answer means for a write is in :mod:`skyflowctl.vault.retry_rules`.
"""

from collections.abc import Callable
from typing import TypeVar

from skyflowctl.frozen import dataclass

T = TypeVar("T")
E = TypeVar("E", bound=Exception)
NO_ANSWER = 0
TOO_MANY_REQUESTS = 429
_GATEWAY_FAILURES = frozenset({502, 503, 504})
_MAX_DOUBLINGS = 64


def is_transient(status: int) -> bool:
    """Whether the same request may get another answer later: no answer, 429, or 5xx."""
    return status in {NO_ANSWER, TOO_MANY_REQUESTS} or status >= 500


def is_gateway_failure(status: int) -> bool:
    """Whether a proxy or load balancer reports that the service behind it does not answer."""
    return status in _GATEWAY_FAILURES


def retry_after(header: str) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None if it is no number."""
    text = header.strip()
    return float(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing pauses between tries, in seconds.

    Args:
        first: the pause after the first try.
        longest: the longest pause.
        factor: the ratio of each pause to the previous one.
    """

    first: float
    longest: float
    factor: float = 2.0

    def pause(self, tries: int) -> float:
        """Return the seconds to wait after so many tries."""
        return min(self.first * self.factor ** min(tries - 1, _MAX_DOUBLINGS), self.longest)


def retry(
    call: Callable[[], T], until: Callable[[T], bool], on_wait: Callable[[T, int], bool]
) -> T:
    """Call until a result is final or no more tries are allowed; return the last result.

    Args:
        call: may be called more than once.
        until: returns whether a result is final.
        on_wait: waits; takes the last result and the number of tries; returns False to stop.
    """
    tries = 1
    while not until(result := call()) and on_wait(result, tries):
        tries += 1
    return result


def retry_error(call: Callable[[], T], kind: type[E], on_wait: Callable[[E, int], bool]) -> T:
    """Call until it raises no error of this kind or no more tries are allowed; return the result.

    Args:
        call: may be called more than once.
        kind: the errors after which another try may help.
        on_wait: waits; takes the error and the number of tries; returns False to raise the error.
    """
    tries = 1
    while True:
        try:
            return call()
        except kind as error:
            if not on_wait(error, tries):
                raise
        tries += 1
