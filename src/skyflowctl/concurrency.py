"""Threads for parallel requests. Ctrl-C does not wait for reads.

The standard pool joins its threads at the end of a block and again when Python exits, so a
single hanging mount would delay the whole command by up to a request's timeout.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")
_A = TypeVar("_A")


class Workers:
    """A limited pool of threads; used as a context manager.

    The end of the block drops calls that have not started, and waits for those that have. An
    interruption (Ctrl-C, SIGTERM) leaves the block without waiting, which is correct only for
    reads.

    Args:
        number: how many calls run at once; below 1 counts as 1.
        writes: wait for the started calls even after an interruption.
    """

    def __init__(self, number: int, *, writes: bool = False) -> None:
        self._number = max(1, number)
        self._writes = writes
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._futures: list[Future[object]] = []

    def submit(self, work: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Run a call in a thread; the future has its result or its error.

        The call has the context variables of its caller, such as the current span.
        """
        future: Future[_T] = Future()
        self._futures.append(future)  # type: ignore[arg-type]  # only ever cancelled there
        self._calls.put(partial(copy_context().run, _do, future, work, arguments))
        if len(self._threads) < self._number:
            thread = threading.Thread(target=self._serve, daemon=not self._writes)
            self._threads.append(thread)
            thread.start()
        return future

    def map(self, work: Callable[[_A], _T], items: Iterable[_A]) -> list[_T]:
        """Return the results for all items, in their order.

        Raises:
            Exception: the error of the first call that failed.
        """
        futures = [self.submit(work, item) for item in items]
        return [future.result() for future in futures]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for future in self._futures:
            future.cancel()
        for _ in self._threads:
            self._calls.put(None)
        if self._writes or kind is None or issubclass(kind, Exception):
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _do(future: Future[_T], work: Callable[..., _T], arguments: tuple[object, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work(*arguments))
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the result
        future.set_exception(error)
