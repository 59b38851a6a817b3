"""One run for all who ask for the same at the same time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Run(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Shares running tasks by key; a task is cancelled when its last waiter leaves."""

    def __init__(self) -> None:
        self._runs: dict[Hashable, _Run[T]] = {}

    async def run(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the run in progress for this key, or of a new one.

        The cancellation of one who waits leaves the run to the others; the last one to
        leave cancels it.

        Args:
            key: a run that was started for another key is not joined.
            start: makes the run's coroutine.
        """
        run = self._runs.get(key)
        if run is None or run.task.done():
            run = self._runs[key] = _Run(asyncio.create_task(start()))
            run.task.add_done_callback(_retrieved)
        run.waiting += 1
        try:
            await asyncio.wait([run.task])
        finally:
            run.waiting -= 1
            if run.waiting == 0:
                self._leave(key, run)
        return run.task.result()

    def _leave(self, key: Hashable, run: _Run[T]) -> None:
        run.task.cancel()
        if self._runs.get(key) is run:
            del self._runs[key]

    async def aclose(self) -> None:
        """Cancel all runs and wait for their end."""
        tasks = [run.task for run in self._runs.values()]
        self._runs.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Retrieve the failure; otherwise asyncio logs it, with its text."""
    if not task.cancelled():
        task.exception()
