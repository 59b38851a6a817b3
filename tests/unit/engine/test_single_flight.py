"""One run for all who ask at once; a cancelled waiter does not take the others along."""

import asyncio
import gc

import pytest
from support.engine import scenario

from skyflowctl.engine.single_flight import SingleFlight


class Work:
    def __init__(self):
        self.started = 0
        self.cancelled = 0
        self.gate = asyncio.Event()

    async def __call__(self):
        self.started += 1
        number = self.started
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@scenario
async def test_shared_and_then_run_again():
    flight, work = SingleFlight(), Work()
    waiters = [asyncio.create_task(flight.run("k", work)) for _ in range(5)]
    await settle()
    work.gate.set()
    assert await asyncio.gather(*waiters) == [1] * 5
    assert await flight.run("k", work) == 2


@scenario
async def test_another_key_is_another_run():
    flight, work = SingleFlight(), Work()
    first = asyncio.create_task(flight.run("a", work))
    await settle()
    second = asyncio.create_task(flight.run("b", work))
    await settle()
    work.gate.set()
    assert await asyncio.gather(first, second) == [1, 2]


@scenario
async def test_one_cancelled_waiter_leaves_the_run_to_the_others():
    flight, work = SingleFlight(), Work()
    waiters = [asyncio.create_task(flight.run("k", work)) for _ in range(2)]
    await settle()
    waiters[0].cancel()
    await settle()
    assert work.cancelled == 0
    work.gate.set()
    assert await waiters[1] == 1


@scenario
async def test_the_last_waiter_to_leave_cancels_it():
    flight, work = SingleFlight(), Work()
    waiters = [asyncio.create_task(flight.run("k", work)) for _ in range(2)]
    await settle()
    for waiter in waiters:
        waiter.cancel()
    await settle()
    assert work.cancelled == 1
    work.gate.set()
    assert await flight.run("k", work) == 2


@scenario
async def test_a_failure_reaches_everybody():
    flight = SingleFlight()

    async def fail():
        await asyncio.sleep(0)
        raise LookupError

    results = await asyncio.gather(
        *(flight.run("k", fail) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [LookupError] * 3


@scenario
async def test_a_failure_that_nobody_waits_for_is_not_logged(caplog):
    flight, gate = SingleFlight(), asyncio.Event()

    async def fail():
        try:
            await gate.wait()
        finally:
            raise LookupError("hunter2")

    waiter = asyncio.create_task(flight.run("k", fail))
    await settle()
    waiter.cancel()
    await settle()
    gc.collect()
    assert waiter.cancelled()
    assert caplog.text == ""


@scenario
async def test_close_twice():
    flight, work = SingleFlight(), Work()
    waiter = asyncio.create_task(flight.run("k", work))
    await settle()
    await flight.aclose()
    await flight.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert work.cancelled == 1
