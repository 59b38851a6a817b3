"""Limits how many exchanges of one mount run at once; later ones wait in order.

A released place passes directly to the first waiter. It is never free in between, so no
later request can overtake, and no wake-up can be lost. Each turn of the event loop passes on
one place, so that 64 exchanges that end at once do not block the other mounts of the process.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class NoPlaceError(Exception):
    """The caller got no place; the text says why, in one line."""


class MintLimiter:
    """Assigns places in order of arrival. Belongs to one event loop.

    Args:
        places: the number of places.
        max_waiting: how many callers may wait; a further one is refused at once.
        seconds: how long a caller waits at most.
    """

    def __init__(self, places: int, max_waiting: int, seconds: float) -> None:
        self._places = places
        self._max_waiting = max_waiting
        self._seconds = seconds
        self._taken = 0
        self._left = 0  # of the taken ones: left, and on their way to the next waiter
        self._closed = False
        # Ordered, and a caller that gives up is removed from its middle at once.
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def taken(self) -> int:
        """How many places are taken, including those being passed to the next waiter."""
        return self._taken

    @property
    def free(self) -> bool:
        """Whether the next caller gets a place at once."""
        return self._taken < self._places

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place around a block; a caller that is cancelled leaves the queue.

        Raises:
            NoPlaceError: too many wait already, none became free in time, or the mount
                was closed.
        """
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Refuse all waiting and later callers; current holders keep their places."""
        self._closed = True
        for turn in list(self._queue):
            self._refuse(turn, "this mount is being closed")

    async def _enter(self) -> None:
        if self._closed:
            raise NoPlaceError("this mount is being closed")
        if self.free:
            # There are no waiters while a place is free.
            self._taken += 1
            return
        if len(self._queue) >= self._max_waiting:
            raise NoPlaceError(
                f"{self._places} exchanges of this mount are in flight and "
                f"{self._max_waiting} requests wait already"
            )
        await self._wait()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue[turn] = None
        late = f"{self._places} exchanges of this mount were in flight for {self._seconds:g} s"
        timer = loop.call_later(self._seconds, self._refuse, turn, late)
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.pop(turn, None)
            if not turn.cancelled() and turn.exception() is None:
                # Cancelled at the moment when it got its place.
                self._leave()
            raise
        finally:
            timer.cancel()

    def _refuse(self, turn: asyncio.Future[None], reason: str) -> None:
        self._queue.pop(turn, None)
        if not turn.done():
            turn.set_exception(NoPlaceError(reason))

    def _leave(self) -> None:
        self._left += 1
        if not self._queue:
            self._free_all_left()
        elif self._left == 1:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        while self._left and self._queue:
            turn, _ = self._queue.popitem(last=False)
            # One that is done was cancelled, and has not run since.
            if not turn.done():
                self._left -= 1
                turn.set_result(None)
                break
        if not self._queue:
            self._free_all_left()
        if self._left:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _free_all_left(self) -> None:
        self._taken -= self._left
        self._left = 0
