"""Runs work on parts of the logs in other processes, and yields its results in order.

The processes are forked: they start in milliseconds and share what this one has read. A result
is a value that ``marshal`` can write: numbers, texts, bytes, tuples, lists and dicts.
"""

import gc
import marshal
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NoReturn, TypeVar

from skyflowctl.errors import SkyflowctlError

_T = TypeVar("_T")
Work = Callable[[_T], Iterable[Any]]

_HEAD_BYTES = 5
_RESULT, _END, _ERROR = b"r", b"e", b"x"
_open_ends: set[int] = set()
"""Reading ends of this process's pipes. A child closes its copies, so that a sibling whose reader
is gone gets an error and ends."""


class ReadingProcessError(SkyflowctlError):
    """A process that read a part of the logs ended early."""

    default_code = "log-process-ended"


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def worked(
    tasks: Sequence[_T], work: Work[_T], processes: int
) -> Iterator[tuple[_T, Iterator[Any]]]:
    """Yield each task with the results of its work, in the order of the tasks.

    The caller must read all results of a task before the next one. Leaving the loop ends the
    processes.

    Args:
        tasks: distributed among the processes in turn, so which process does what never varies.
        work: called in a process for each of its tasks.
        processes: how many; 0: the work is done here, when its results are read.

    Raises:
        ReadingProcessError: a process was killed. Errors of ``work`` are raised here as well.
    """
    if processes < 1:
        yield from ((task, iter(work(task))) for task in tasks)
        return
    _keep_statuses()
    children: list[_Child] = []
    try:
        for number in range(min(processes, len(tasks))):
            child = _Child(tasks[number::processes], work)
            children.append(child)  # at once: the next fork may fail
        for number, task in enumerate(tasks):
            yield task, children[number % processes].results()
    finally:
        for child in children:
            child.end()


class _Child:
    """One process and the pipe on which it writes its results."""

    def __init__(self, tasks: Sequence[Any], work: Work[Any]) -> None:
        reading, writing = os.pipe()
        _open_ends.add(reading)
        parent = os.getpid()
        with _held_signals():
            self._pid = os.fork()
            if self._pid == 0:
                _serve(writing, tasks, work, parent)
        os.close(writing)
        self._pipe = os.fdopen(reading, "rb", 1 << 18)

    def results(self) -> Iterator[Any]:
        """Yield the results of the next task of this process."""
        while True:
            head = self._pipe.read(_HEAD_BYTES)
            content = self._pipe.read(int.from_bytes(head[1:], "big"))
            kind = head[:1]
            if len(head) < _HEAD_BYTES or len(content) != int.from_bytes(head[1:], "big"):
                raise self._gone()
            if kind == _END:
                return
            if kind == _ERROR:
                raise pickle.loads(content)  # noqa: S301 - written by our own child
            yield marshal.loads(content)  # noqa: S302 - written by our own child

    def _gone(self) -> ReadingProcessError:
        how = "how is not known"
        with suppress(ChildProcessError):  # something else in this process has asked
            _, status = os.waitpid(self._pid, 0)
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code} killed it" if code < 0 else f"it exited with {code}"
        self._pid = 0
        return ReadingProcessError(
            "a process that read a part of the logs ended early: there is no answer",
            why=f"{how}; a machine that runs out of memory kills processes",
            fix="run the command again",
        )

    def end(self) -> None:
        """Kill the process if it still runs, and close its pipe."""
        _open_ends.discard(self._pipe.fileno())
        self._pipe.close()
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0


def _keep_statuses() -> None:
    """Handle SIGCHLD by default: if it is ignored, as some programs that start others leave it,
    the system drops the statuses of children, and their process ids may be taken by others."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with suppress(ValueError):  # not in the main thread: the statuses stay unknown
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def _held_signals() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM, so that a child handles neither as this process would."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(writing: int, tasks: Sequence[Any], work: Work[Any], parent: int) -> NoReturn:
    """Do the work of a child; it ends with ``os._exit``, so nothing of the parent is cleaned up."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        for each in _open_ends:
            os.close(each)
        gc.disable()  # entries refer to no entry, so its search for cycles would find none
        with os.fdopen(writing, "wb", 1 << 18) as pipe:
            _write_results(pipe, tasks, work, parent)
        code = 0
    finally:
        os._exit(code)


def _write_results(pipe: BinaryIO, tasks: Sequence[Any], work: Work[Any], parent: int) -> None:
    try:
        for task in tasks:
            for result in work(task):
                _write(pipe, _RESULT, marshal.dumps(result))
                if os.getppid() != parent:
                    return
            _write(pipe, _END, b"")
            pipe.flush()
    except SkyflowctlError as error:
        _write(pipe, _ERROR, pickle.dumps(error))


def _write(pipe: BinaryIO, kind: bytes, content: bytes) -> None:
    pipe.write(kind + len(content).to_bytes(_HEAD_BYTES - 1, "big"))
    pipe.write(content)
