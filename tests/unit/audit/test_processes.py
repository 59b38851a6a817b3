"""Work that is done by other processes: its order, its errors, its end."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from skyflowctl.audit.processes import ReadingProcessError, worked
from skyflowctl.errors import InvalidInputError

NUMBERS = list(range(7))


def _squares(number: int) -> Iterator[tuple[int, int]]:
    for each in range(number):
        yield number, each * each


def _pid(_: int) -> Iterator[int]:
    yield os.getpid()


def _endless(_: int) -> Iterator[bytes]:
    yield str(os.getpid()).encode()
    while True:
        yield b"x" * 10_000


@pytest.mark.parametrize("processes", [0, 1, 2, 3, 20])
def test_results_are_the_same_and_in_order_for_any_number_of_processes(processes: int) -> None:
    found = [(task, list(results)) for task, results in worked(NUMBERS, _squares, processes)]
    assert found == [(number, list(_squares(number))) for number in NUMBERS]


def test_each_task_is_done_in_a_process_of_its_own_turn() -> None:
    pids = [pid for _, results in worked(NUMBERS[:4], _pid, 2) for pid in results]
    assert pids[0] != pids[1]
    assert pids[:2] == pids[2:]
    assert os.getpid() not in pids


def read_all(work: Callable[[int], Iterator[int]], processes: int) -> None:
    for _, results in worked([1, 2], work, processes):
        list(results)


def test_an_error_of_the_work_is_raised_here() -> None:
    def fails(task: int) -> Iterator[int]:
        yield task
        raise InvalidInputError("no log", why="it is gone", fix="look", code="gone")

    with pytest.raises(InvalidInputError) as raised:
        read_all(fails, 1)
    assert raised.value.problems[0].code == "gone"


def test_a_killed_process_is_an_error_and_never_an_end() -> None:
    def killed(task: int) -> Iterator[int]:
        yield task
        os.kill(os.getpid(), signal.SIGKILL)
        yield task

    with pytest.raises(ReadingProcessError) as raised:
        read_all(killed, 2)
    assert "signal 9" in raised.value.problems[0].why


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("thread", [False, True])
def test_a_caller_that_ignores_the_end_of_children_gets_the_same(
    *, killed: bool, thread: bool
) -> None:
    """Ignored signals are inherited; only the main thread can change that."""
    program = textwrap.dedent(f"""
        import os, signal, threading
        from skyflowctl.audit.processes import ReadingProcessError, worked
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        def work(task):
            yield task
            if {killed}:
                os.kill(os.getpid(), signal.SIGKILL)
            yield -task
        def main():
            try:
                print([list(results) for _, results in worked([1, 2, 3], work, 2)])
            except ReadingProcessError as error:
                print(error.problems[0].code, error.problems[0].why)
        if {thread}:
            thread = threading.Thread(target=main)
            thread.start()
            thread.join()
        else:
            main()
    """)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    how = "how is not known" if thread else "signal 9 killed it"
    expected = f"log-process-ended {how}" if killed else "[[1, -1], [2, -2], [3, -3]]"
    assert ran.stdout.startswith(expected)


def test_an_unexpected_error_is_no_end_either() -> None:
    def fails(_: int) -> Iterator[int]:
        yield 1
        raise RuntimeError

    with pytest.raises(ReadingProcessError):
        read_all(fails, 1)


def test_no_process_is_left_when_the_reader_stops_early() -> None:
    pids: list[int] = []
    for _, results in worked([1, 2, 3], _endless, 2):
        pids.append(int(next(results)))
        if len(pids) == 1:
            break
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_processes_end_with_a_killed_parent() -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from skyflowctl.audit.processes import worked
        def endless(_):
            yield os.getpid()
            while True:
                yield b"x" * 10_000
        for _, results in worked([1, 2], endless, 2):
            print(next(results), flush=True)
            for _ in range(100):
                next(results)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == -signal.SIGKILL
    pid = int(ran.stdout.split()[0])
    # Its pipe has no reader any more; an orphan is reaped by another process, perhaps later.
    for _ in range(2_000):
        state = _state(pid)
        if state in ("", "Z"):
            break
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    assert state in ("", "Z")


def _state(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return ""
