"""A bounded cache whose values are read once for all callers, and renewed before they end."""

import logging
import random
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple

from .errors import ServerUnavailableError, TokenSourceError, closed_error
from .values import Moment, SystemTime

_logger = logging.getLogger(__name__.rpartition(".")[0])
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
_LOOK_AGAIN = 15.0
"""The longest sleep of a worker: a machine that was suspended looks at its clock this soon."""
_WORKERS = 8
_SHORT_WAIT = 2.0
"""How long a caller waits for a newer value if the one that is there can still be used."""


class Held(NamedTuple):
    """A value that was read, and how long it is good for, in seconds since it was asked for.

    Args:
        value: what callers get.
        asked: when it was asked for.
        refresh: after this, a worker reads a newer one, if this one was used.
        fresh: until then it is handed out as it is.
        usable: until then it is handed out if no newer one can be read.
    """

    value: Any
    asked: Moment
    refresh: float
    fresh: float
    usable: float

    def __repr__(self) -> str:
        return "Held(***)"


Fetch = Callable[[], Held]


class _Kept:
    """One key of the cache."""

    __slots__ = ("failures", "fetch", "flight", "held", "pauses_until", "used", "wanted")

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.held: Held | None = None
        self.flight: Future[Held] | None = None
        self.failures = 0
        self.pauses_until = 0.0
        self.used = False
        self.wanted = False  # somebody waits for a worker to read it

    def usable(self) -> bool:
        return self.held is not None and self.held.asked.age() < self.held.usable

    def seconds_to_refresh(self, now: float) -> float | None:
        """Return when a worker should read it; None: not before it is used again."""
        if self.flight is not None:
            return 0.0 if self.wanted else None
        if self.held is None or not self.used or not self.usable():
            return None
        return max(self.held.refresh - self.held.asked.age(), self.pauses_until - now)


class RefreshingCache:
    """Keeps the values of the keys used last. Safe for threads.

    Args:
        size: the most keys.
        longest_wait: for a read, in seconds.
        clock: tells the time.
    """

    def __init__(self, size: int, longest_wait: float, clock: SystemTime) -> None:
        self._size, self._longest_wait, self._clock = size, longest_wait, clock
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._workers = 0
        self._sleeper: object | None = None  # the worker that rests and was not woken yet
        self._closed = False
        self.changed = threading.Condition()

    def close(self) -> None:
        """End the workers, drop every value, and end the waits for those that are being read."""
        with self.changed:
            self._closed = True
            flights = [kept.flight for kept in self._kept.values() if kept.flight is not None]
            for kept in self._kept.values():
                kept.held = None
            self._kept.clear()
            self.changed.notify_all()
        for flight in flights:
            _end(flight, None, closed_error())

    def forget_threads(self) -> None:
        """Begin anew in the child of a fork, which has the values but no other thread."""
        self.changed = threading.Condition()
        self._workers, self._sleeper = 0, None
        for kept in self._kept.values():
            kept.flight, kept.wanted = None, False

    def get(self, key: Hashable, fetch: Fetch) -> Any:
        """Return a key's value; read it if it is not there.

        Raises:
            TokenSourceError: what ``fetch`` raised, if no earlier value can be used.
        """
        while True:
            kept, flight, leads = self.look_up(key, fetch)
            if flight is None:
                return kept.held.value if kept.held else None
            if leads:
                self._fly(kept, flight)
            try:
                return flight.result(self.seconds_to_wait(kept)).value
            except FutureTimeoutError:
                error: TokenSourceError = ServerUnavailableError("the server does not answer")
            except TokenSourceError as failed:
                error = failed.again()
            except _AbandonedError:
                continue  # the thread that read it was interrupted
            return kept_value(kept, error)

    def seconds_to_wait(self, kept: "_Kept") -> float:
        """Return how long to wait for a read: a short time if there is a usable value."""
        return _SHORT_WAIT if kept.usable() else self._longest_wait

    def look_up(
        self, key: Hashable, fetch: Fetch, *, workers: bool = False
    ) -> tuple[_Kept, "Future[Held] | None", bool]:
        """Return what is kept for a key, the read to wait for, and whether the caller carries it
        out.

        Args:
            key: what is asked for.
            fetch: reads it.
            workers: a worker carries out every read.

        Raises:
            TokenSourceError: the cache is closed.
        """
        with self.changed:
            if self._closed:
                raise closed_error()
            kept = self._entry(key, fetch)
            kept.used = True
            held = kept.held
            if held is not None and kept.usable():
                age = held.asked.age()
                if kept.failures or age >= held.refresh:
                    self._wake()
                # After a failure the workers try again, and no caller waits for it.
                if age < held.fresh or kept.failures:
                    return kept, None, False
                workers = True  # a caller waits only for a short time
            leads = kept.flight is None
            flight = kept.flight or Future()
            if leads:
                flight.set_running_or_notify_cancel()
                kept.flight, kept.wanted = flight, workers
                if workers:
                    self._wake()
            return kept, flight, leads and not workers

    def _entry(self, key: Hashable, fetch: Fetch) -> _Kept:
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(fetch)
            self._evict(kept)
        self._kept.move_to_end(key)
        return kept

    def _evict(self, spared: _Kept) -> None:
        """Drop the keys used longest ago that are too many. A key that is being read, or waits for
        a worker, stays: workers find their work here."""
        excess = len(self._kept) - self._size
        if excess <= 0:
            return
        idle = [key for key, one in self._kept.items() if one.flight is None and one is not spared]
        for key in idle[:excess]:
            del self._kept[key]

    def _fly(self, kept: _Kept, flight: "Future[Held]") -> None:
        """Read a value and give it to all who wait for it."""
        held: Held | None = None
        error: Exception | None = None
        try:
            held = kept.fetch()
        except Exception as failed:  # noqa: BLE001 - whoever waits for it raises it
            error = failed
        except BaseException:
            self._land(kept, flight, None, _AbandonedError())
            raise
        self._land(kept, flight, held, error)

    def _land(
        self,
        kept: _Kept,
        flight: "Future[Held]",
        held: Held | None,
        error: Exception | None,
    ) -> None:
        with self.changed:
            kept.flight, kept.wanted = None, False
            if self._closed:
                held, error = None, closed_error()
            elif held is not None:
                kept.held, kept.failures, kept.used = held, 0, False
                self._wake()
            elif error is not None:
                if isinstance(error, TokenSourceError) and error.is_decision:
                    kept.held = None
                kept.failures += 1
                pause = min(_FIRST_PAUSE * 2.0 ** min(kept.failures - 1, 10), _LONGEST_PAUSE)
                pause *= random.uniform(0.75, 1.25)  # noqa: S311 - a spread, no secret
                kept.pauses_until = self._clock.monotonic() + pause
                if kept.usable():
                    _logger.warning("the value in use is not renewed yet: %s", error)
            self._evict(kept)
        _end(flight, held, error or _AbandonedError())

    # The workers.

    def _wake(self) -> None:
        """Let a worker look for work; there is always one, and more while all are busy."""
        if self._sleeper is not None:
            self._sleeper = None  # it has the lock only later: the next call needs another worker
            self.changed.notify()
        elif self._workers < _WORKERS and not self._closed:
            thread = threading.Thread(
                target=_work, args=(weakref.ref(self),), name="skyflow-token-refresh", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, or the system has no thread left
                return
            self._workers += 1

    def take(self) -> _Kept | None:
        """Return what a worker is to read now, marked as taken. The lock is held."""
        now = self._clock.monotonic()
        for kept in self._kept.values():
            seconds = kept.seconds_to_refresh(now)
            if seconds is not None and seconds <= 0:
                kept.wanted = False
                if kept.flight is None:
                    kept.flight = Future()
                    kept.flight.set_running_or_notify_cancel()
                return kept
        return None

    def work_once(self) -> bool:
        """Read one value that is due; return whether there was one."""
        with self.changed:
            kept = self.take()
            flight = kept.flight if kept else None
        if kept is None or flight is None:
            return False
        self._fly(kept, flight)
        return True

    def rest(self, worker: object) -> float | None:
        """Return how long a worker may sleep; None: it ends. The lock is held."""
        if self._closed or self._sleeper is not None:
            self._workers -= 1
            return None
        self._sleeper = worker
        now = self._clock.monotonic()
        waits = [kept.seconds_to_refresh(now) for kept in self._kept.values()]
        return max(0.01, min([_LOOK_AGAIN, *(one for one in waits if one is not None)]))

    def rested(self, worker: object) -> None:
        """A worker is back, woken or not. The lock is held."""
        if self._sleeper is worker:
            self._sleeper = None


class _AbandonedError(Exception):
    """The thread that read a value was interrupted."""


def _end(flight: "Future[Held]", held: Held | None, error: Exception) -> None:
    """Give the value, else the error, to all who wait; whoever is first decides."""
    try:
        if held is not None:
            flight.set_result(held)
        else:
            flight.set_exception(error)
    except InvalidStateError:  # it was closed meanwhile
        return


def kept_value(kept: _Kept, error: TokenSourceError) -> Any:
    """Return the value that is still usable although no newer one can be read.

    Raises:
        TokenSourceError: the given one, if there is no such value, or the server said no.
    """
    held = kept.held
    if not error.is_decision and held is not None and kept.usable():
        return held.value
    raise error


def _work(reference: "weakref.ref[RefreshingCache]") -> None:
    """Read what is due until the cache is closed or dropped; it holds no cache while it sleeps."""
    worker = object()
    while (cache := reference()) is not None:
        if cache.work_once():
            continue
        changed = cache.changed
        with changed:
            seconds = cache.rest(worker)
            if seconds is None:
                return
            del cache
            changed.wait(seconds)
            if (cache := reference()) is not None:
                cache.rested(worker)
        del cache
