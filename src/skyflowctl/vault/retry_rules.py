"""Decides what an answer means for the request, and when to send it again: pure rules.

Measured on a three-node OpenBao 2.7.2 whose leader was killed, stopped, sealed and
stepped down; a redirect, a closed connection and ``leadership lost`` were each seen for
writes that had been applied.
"""

import threading
from dataclasses import dataclass
from enum import Enum

from skyflowctl.retry import TOO_MANY_REQUESTS, Backoff

_BACKOFF = Backoff(first=0.05, longest=1.0)
_PRECONDITION_FAILED = 412
_DEFAULT_RETRIES = 2
_REDIRECT_SECONDS = 10.0
_QUIET_SECONDS = 10.0
"""After this long without a failure, the next one begins another outage."""


class Disposition(Enum):
    """What is known about a request that was sent."""

    DONE = "done"
    PENDING = "pending"  # parked until another person approves it
    FINAL = "final"  # the server refused it, and would refuse it again
    NOT_APPLIED = "not applied"  # certainly not executed; sending again is safe
    UNKNOWN = "unknown"  # maybe executed
    REDIRECT = "redirect"  # another node should be asked; maybe executed


_NOT_YET = (
    "local node not active but active cluster node not found",
    "no active Vault instance found",
    "Upgrading from non-versioned to versioned data",  # a kv engine, just after it was enabled
)
_NO_LONGER_LEADER = (
    "leadership lost",
    "node is not the leader",
    "leadership transfer in progress",
    "raft is already shutdown",
)
"""What raft says to a write. The server passes it on with any status: a policy's with 400
(measured on OpenBao 2.7.2), which would look like a refusal."""


def classify(status: int, texts: tuple[str, ...]) -> Disposition:
    """Return what an answer's status and texts mean for the request."""
    text = "\n".join(texts)
    if status < 300:
        return Disposition.DONE
    if status < 400:
        return Disposition.REDIRECT
    if status in {_PRECONDITION_FAILED, TOO_MANY_REQUESTS} or any(
        known in text for known in _NOT_YET
    ):
        return Disposition.NOT_APPLIED
    final = status < 500 or status == 501 or _engine_or_namespace(status, text)
    if final and not _from_raft(text):
        return Disposition.FINAL
    if status == 503 and "sealed" in text:
        return Disposition.NOT_APPLIED
    return Disposition.UNKNOWN


def _engine_or_namespace(status: int, text: str) -> bool:
    """Whether this is the engine's own 502 or 503, a locked namespace, or the 500 of a pki engine
    without that issuer: a retry is useless."""
    engine = (status == 502 and "token service" in text) or "skyflow:" in text
    if status == 500 and ("find PKI issuer" in text or "no default issuer" in text):
        return True
    return engine or "this namespace has been locked" in text


def may_be_election(status: int, texts: tuple[str, ...]) -> bool:
    """Whether a leader's election explains a failure; 502 and 504 come from a proxy."""
    return status in {502, 504} or any(map(_from_raft, texts))


def _from_raft(text: str) -> bool:
    return any(known in text for known in _NO_LONGER_LEADER)


@dataclass(slots=True)
class RetryBudget:
    """How often and how long one request is sent again.

    Args:
        deadline: when to give up, on the clock's monotonic scale.
        started: when the request was first sent.
        max_retries: the most retries for any reason, from BAO_MAX_RETRIES. None: until the
            deadline if an election explains the failure, else twice.
        tries: how often it was sent so far.
    """

    deadline: float
    started: float
    max_retries: int | None = None
    tries: int = 0

    def pause(self, asked: float | None) -> float:
        """Return the seconds to wait: what the server asked for, else a growing backoff.

        If the number of retries is set, they are a second apart, as in the stock client.
        """
        if asked is not None:
            return asked
        if self.max_retries is not None:
            return _BACKOFF.longest
        return _BACKOFF.pause(self.tries)

    def allows(self, now: float, pause: float) -> bool:
        """Whether there is time for one more try after this pause."""
        return now + pause < self.deadline

    def tries_left(self, *, limited: bool) -> bool:
        """Whether one more try is allowed; ``limited``: no election explains the failure."""
        if self.max_retries is not None:
            return self.tries <= self.max_retries
        return not limited or self.tries <= _DEFAULT_RETRIES

    def redirect_allowed(self, now: float) -> bool:
        """Whether a redirect to an unnamed host may still be due to a leader's election.

        Standbys forward writes themselves. They redirect only while there is no leader to
        forward to, which took 8 s at most (measured).
        """
        return now - self.started < _REDIRECT_SECONDS


class Outage:
    """The time in which no request of a transport was answered, for all its requests together.

    A failover that takes too long must end the command, not each of its 1,000 requests in turn:
    all of them share the deadline of the first that failed. Safe for threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._last = 0.0

    def budget(self, now: float, seconds: float, max_retries: int | None) -> RetryBudget:
        """Return the budget of a request: so many seconds from now, or from the outage's start."""
        with self._lock:
            began = self._began if now - self._last < _QUIET_SECONDS else None
        ends = now + seconds if began is None else min(now, began) + seconds
        return RetryBudget(ends, now, max_retries)

    def observe(self, verdict: Disposition, now: float, *, limited: bool) -> None:
        """Record how a try ended.

        Args:
            verdict: what is known about the request.
            now: the time, on the clock's monotonic scale.
            limited: no election explains the failure.
        """
        away = {Disposition.NOT_APPLIED, Disposition.UNKNOWN, Disposition.REDIRECT}
        with self._lock:
            if verdict not in away or limited:
                self._began = None
                return
            if self._began is None or now - self._last >= _QUIET_SECONDS:
                self._began = now
            self._last = now
