"""The queue for a mount's exchanges, held to a model of it: arrivals, ends, cancellations and
time in any order, several of them also within one turn of the event loop."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.engine import scenario

from skyflowctl.engine.mint_limiter import MintLimiter, NoPlaceError

WAIT = 10.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only by hand."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Caller:
    """One who wants a place; ``state`` is what became of it."""

    def __init__(self, limiter: MintLimiter, loop: asyncio.AbstractEventLoop) -> None:
        self.state = "new"
        self.end = loop.create_future()
        self.since = loop.time()
        self.task = loop.create_task(self._run(limiter))

    async def _run(self, limiter: MintLimiter) -> None:
        self.state = "waiting"
        try:
            async with limiter.place():
                self.state = "holds"
                await self.end
            self.state = "done"
        except NoPlaceError:
            self.state = "refused"
        except asyncio.CancelledError:
            self.state = "cancelled"


class Queueing(RuleBasedStateMachine):
    """The model: who holds a place, and who waits, in order."""

    @initialize(places=st.integers(1, 3), longest=st.integers(0, 4))
    def start(self, places: int, longest: int) -> None:
        self.loop = VirtualLoop()
        self.places, self.longest = places, longest
        self.limiter = MintLimiter(places, longest, WAIT)
        self.holding: list[Caller] = []
        self.waiting: list[Caller] = []
        self.gone: list[tuple[Caller, str]] = []

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def arrives(self) -> None:
        caller = Caller(self.limiter, self.loop)
        if len(self.holding) < self.places:
            self.holding.append(caller)
        elif len(self.waiting) < self.longest:
            self.waiting.append(caller)
        else:
            self.gone.append((caller, "refused"))
        self.settle()

    def leaves(self, caller: Caller, state: str) -> None:
        """What the model makes of a caller who is gone: the first who waits moves up."""
        self.gone.append((caller, state))
        if caller in self.waiting:
            self.waiting.remove(caller)
            return
        self.holding.remove(caller)
        if self.waiting:
            self.holding.append(self.waiting.pop(0))

    @rule(count=st.integers(1, 4))
    def some_arrive(self, count: int) -> None:
        for _ in range(count):
            self.arrives()

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), count=st.integers(1, 3))
    def some_end_in_one_turn(self, data, count: int) -> None:
        ending = data.draw(st.permutations(self.holding))[:count]
        for caller in ending:
            caller.end.set_result(None)
            self.leaves(caller, "done")
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def one_who_waits_is_cancelled(self, data) -> None:
        caller = data.draw(st.sampled_from(self.waiting))
        caller.task.cancel()
        self.leaves(caller, "cancelled")
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.holding)
    def one_who_holds_is_cancelled(self, data) -> None:
        caller = data.draw(st.sampled_from(self.holding))
        caller.task.cancel()
        self.leaves(caller, "cancelled")
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(turns=st.integers(0, 3), data=st.data())
    def the_next_is_cancelled_while_it_gets_its_place(self, turns: int, data) -> None:
        """The wake-up that would be lost: the place goes to one who is gone."""
        ending, next_one = data.draw(st.sampled_from(self.holding)), self.waiting[0]
        ending.end.set_result(None)

        async def cancel_after_some_turns() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            next_one.task.cancel()

        self.loop.run_until_complete(cancel_after_some_turns())
        self.leaves(ending, "done")
        self.leaves(next_one, "cancelled")
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), count=st.integers(1, 2))
    def a_place_is_freed_while_the_first_in_line_are_being_cancelled(self, data, count) -> None:
        """They have not run since, and still stand in the queue."""
        ending, gone = data.draw(st.sampled_from(self.holding)), self.waiting[:count]
        # The holder runs first in this turn, then those who are cancelled.
        ending.end.set_result(None)
        for caller in gone:
            caller.task.cancel()
            self.leaves(caller, "cancelled")
        self.leaves(ending, "done")
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 4.0, WAIT, 3 * WAIT]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        late = [one for one in self.waiting if self.loop.now - one.since >= WAIT]
        for caller in late:
            self.leaves(caller, "refused")
        self.settle()

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        if not hasattr(self, "limiter"):
            return
        assert [one.state for one in self.holding] == ["holds"] * len(self.holding)
        assert [one.state for one in self.waiting] == ["waiting"] * len(self.waiting)
        assert [one.state for one, _ in self.gone] == [state for _, state in self.gone]
        assert self.limiter.taken == len(self.holding) <= self.places
        assert self.limiter.waiting == len(self.waiting) <= self.longest
        assert not self.waiting or len(self.holding) == self.places

    def teardown(self) -> None:
        if not hasattr(self, "limiter"):
            return
        self.limiter.close()
        self.settle()
        assert [one.state for one in self.waiting] == ["refused"] * len(self.waiting)
        for caller in self.holding:
            caller.end.set_result(None)
        self.settle()
        assert (self.limiter.taken, self.limiter.waiting) == (0, 0)
        self.loop.close()


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, report_multiple_bugs=False
)


@scenario
async def test_a_thousand_callers_are_served_in_the_order_of_their_arrival():
    limiter, served = MintLimiter(64, 1024, WAIT), []

    async def call(number: int) -> None:
        async with limiter.place():
            served.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(number) for number in range(1024 + 64)))
    assert served == list(range(1024 + 64))


@scenario
async def test_one_more_than_the_queue_holds_is_refused_with_the_figures():
    limiter, done = MintLimiter(2, 3, WAIT), asyncio.Event()

    async def call() -> None:
        async with limiter.place():
            await done.wait()

    inside = [asyncio.create_task(call()) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(NoPlaceError, match=r"2 exchanges .* in flight and 3 requests wait"):
        await call()
    done.set()
    await asyncio.gather(*inside)


@scenario
async def test_nobody_waits_longer_than_the_limit():
    limiter = MintLimiter(1, 3, 0.05)
    async with limiter.place():
        with pytest.raises(NoPlaceError, match=r"in flight for 0\.05 s"):
            async with limiter.place():
                raise AssertionError("the place is taken")
    async with limiter.place():
        assert limiter.taken == 1


@scenario
async def test_a_closed_limiter_lets_nobody_in():
    limiter = MintLimiter(1, 3, WAIT)
    limiter.close()
    with pytest.raises(NoPlaceError, match="closed"):
        async with limiter.place():
            raise AssertionError("it is closed")
