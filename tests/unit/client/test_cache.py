"""Reads by workers: as many at once as are asked for, also after the workers had rested."""

from __future__ import annotations

import threading
import time

from skyflowctl.client.cache import Held, RefreshingCache
from skyflowctl.client.values import Moment, SystemTime

AT_ONCE = 8


def burst(cache: RefreshingCache, clock: SystemTime, name: str) -> list[bool]:
    """Whether all of these reads were under way at the same time, as each of them saw it."""
    together = threading.Barrier(AT_ONCE)

    def fetch() -> Held:
        try:
            together.wait(10)
        except threading.BrokenBarrierError:
            return Held(False, Moment(clock), 1e3, 1e3, 1e3)
        return Held(True, Moment(clock), 1e3, 1e3, 1e3)

    flights = [cache.look_up((name, number), fetch, workers=True)[1] for number in range(AT_ONCE)]
    return [one.result(30).value for one in flights if one]


def test_reads_after_a_rest_do_not_queue_behind_one_another() -> None:
    clock = SystemTime()
    cache = RefreshingCache(100, 30.0, clock)
    assert burst(cache, clock, "first") == [True] * AT_ONCE
    deadline = time.monotonic() + 10
    while cache._workers != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert burst(cache, clock, "second") == [True] * AT_ONCE
    cache.close()
