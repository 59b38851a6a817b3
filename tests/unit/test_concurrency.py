"""Threads for requests: order, limit, failures, and who is waited for."""

from __future__ import annotations

import threading

import pytest

from skyflowctl.concurrency import Workers


def test_results_come_in_the_order_of_the_items():
    gates = [threading.Event() for _ in range(3)]

    def work(number):
        if number < 2:
            assert gates[number + 1].wait(20)
        gates[number].set()
        return number * 10

    with Workers(3) as pool:
        assert pool.map(work, range(3)) == [0, 10, 20]


@pytest.mark.parametrize(("asked", "used"), [(0, 1), (1, 1), (3, 3)])
def test_so_many_run_at_once_and_no_more(asked, used):
    inside, most, lock = [0], [0], threading.Lock()
    meeting = threading.Barrier(used, timeout=20)

    def work(_):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        meeting.wait()
        with lock:
            inside[0] -= 1

    with Workers(asked) as pool:
        pool.map(work, range(used * 3))
    assert most[0] == used


def test_what_a_call_raises_comes_out_where_its_result_is_asked_for():
    with Workers(2) as pool:
        bad = pool.submit(lambda: 1 // 0)
        assert pool.submit(lambda: 7).result() == 7
        with pytest.raises(ZeroDivisionError):
            bad.result()


def test_a_failure_waits_for_what_has_begun_and_drops_the_rest():
    begun, finished, dropped = threading.Event(), threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert not finished.wait(0.05)
        finished.set()

    def fail_in_the_middle():
        with Workers(1) as pool:
            pool.submit(slow)
            pool.submit(dropped.set)
            assert begun.wait(20)
            raise LookupError

    with pytest.raises(LookupError):
        fail_in_the_middle()
    assert finished.is_set()
    assert not dropped.is_set()


def test_an_interruption_waits_for_nobody():
    begun, free = threading.Event(), threading.Event()

    def hang():
        begun.set()
        assert free.wait(60)

    calls = []

    def interrupted():
        with Workers(1) as pool:
            calls.append(pool.submit(hang))
            assert begun.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (hanging,) = calls
    assert not hanging.done()
    free.set()
    hanging.result(20)


def test_an_interruption_waits_for_writes_that_have_begun_and_drops_the_rest():
    begun, finished, dropped = threading.Event(), threading.Event(), threading.Event()

    def write():
        begun.set()
        assert not finished.wait(0.05)
        finished.set()

    def interrupted():
        with Workers(1, writes=True) as pool:
            pool.submit(write)
            pool.submit(dropped.set)
            assert begun.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert finished.is_set()
    assert not dropped.is_set()
