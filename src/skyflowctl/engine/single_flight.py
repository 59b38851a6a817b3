"""One run for all who ask at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Run(Generic[T]):
    key: object
    task: asyncio.Task[T]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Shares a running task; the task is cancelled when its last waiter leaves."""

    def __init__(self) -> None:
        self._current: _Run[T] | None = None

    async def run(self, key: object, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the run in progress for this key, or of a new one.

        The cancellation of one who waits leaves the run to the others; the last one to
        leave cancels it.

        Args:
            key: a run that was started for another key is not joined.
            start: makes the run's coroutine.
        """
        run = self._current
        if run is None or run.task.done() or run.key != key:
            run = self._current = _Run(key, asyncio.create_task(start()))
            run.task.add_done_callback(_retrieved)
        run.waiting += 1
        try:
            await asyncio.wait([run.task])
        finally:
            run.waiting -= 1
            if run.waiting == 0:
                self._leave(run)
        return run.task.result()

    def _leave(self, run: _Run[T]) -> None:
        run.task.cancel()
        if self._current is run:
            self._current = None

    async def aclose(self) -> None:
        """Cancel the current run and wait for its end."""
        run, self._current = self._current, None
        if run is not None:
            run.task.cancel()
            await asyncio.wait([run.task])


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Retrieve the failure; otherwise asyncio logs it, with its text."""
    if not task.cancelled():
        task.exception()
