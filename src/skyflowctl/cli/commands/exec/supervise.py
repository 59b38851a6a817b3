"""Runs a program, passes signals on to it, and gives it new tokens.

The signals are blocked and waited for in one place, so that none is lost between two steps. The
program shares the terminal: what a key sends to the whole foreground group is not sent twice.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import NoReturn

from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass

_PASSED_ON = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
_INTERRUPTS = frozenset({signal.SIGINT, signal.SIGQUIT})
_NEW_TOKEN = signal.SIGALRM
_WAITED_FOR = _PASSED_ON | {signal.SIGCHLD, _NEW_TOKEN}
# Python ignores these two, and a program would inherit that.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# Linux: the kernel sent the signal, for example because of a key of the terminal.
_SI_KERNEL = 0x80
_STOP_SECONDS = 10.0
_SIGNALLED = 128


def find_program(command: Sequence[str]) -> str:
    """Return the path of a program, before a token is read for it.

    Raises:
        UsageError: it does not exist, or cannot be executed.
    """
    found = shutil.which(command[0])
    if found is None:
        raise UsageError(
            f"the program '{command[0]}' cannot be run",
            why="it is not in PATH, or not executable",
            fix="give its path, and its arguments after --",
            code="no-such-program",
        )
    return found


def become(program: str, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by a program: its signals and its exit code are its own.

    Raises:
        UsageError: the system refuses to run it.
    """
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(program, list(command), dict(environ))  # noqa: S606 - the user's own program
    except OSError as error:
        raise _not_run(program, error) from None


@dataclass(frozen=True, slots=True)
class Supervised:
    """A program that runs while its token is kept fresh.

    Args:
        program: its path.
        command: its name and arguments.
        environ: returns its environment, with the newest token.
        signal_number: sent to it after a refresh; None: it is started again.
        tell: shows one line to a person.
    """

    program: str
    command: Sequence[str]
    environ: Callable[[], Mapping[str, str]]
    signal_number: int | None
    tell: Callable[[str], None]


class Supervisor:
    """Runs one program at a time. :meth:`refreshed` may be called from any thread."""

    def __init__(self, job: Supervised, *, restarts: bool) -> None:
        self._job = job
        self._restarts = restarts
        self._main = threading.get_ident()
        self._pid = 0
        self._kill_at: float | None = None  # while the program is stopped to be started again
        self._ending = False
        self._interrupted_at = -inf

    def refreshed(self) -> None:
        """Let the program have the new token."""
        if self._restarts:
            signal.pthread_kill(self._main, _NEW_TOKEN)

    def run(self, background: Sequence[Callable[[], None]]) -> int:
        """Run the program to its end, and the other calls in threads; return its exit code.

        A program that a signal ended has 128 plus the signal's number, as in a shell.

        Raises:
            UsageError: the system refuses to run the program.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        try:
            for work in background:  # the threads inherit the mask: no signal ends up in them
                threading.Thread(target=work, daemon=True).start()
            self._spawn()
            while (code := self._next()) is None:
                pass
            return code
        finally:
            signal.signal(_NEW_TOKEN, signal.SIG_IGN)
            while signal.sigtimedwait(_WAITED_FOR, 0) is not None:
                pass  # for a program that has ended
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _spawn(self) -> None:
        job = self._job
        try:
            self._pid = os.posix_spawn(
                job.program,
                list(job.command),
                dict(job.environ()),
                setsigmask=(),
                setsigdef=_IGNORED_BY_PYTHON,
            )
        except OSError as error:
            raise _not_run(job.program, error) from None

    def _next(self) -> int | None:
        """Wait for a signal and act on it; return the exit code once the program has ended."""
        if self._kill_at is None:
            found: signal.struct_siginfo | None = signal.sigwaitinfo(_WAITED_FOR)
        else:
            left = max(0.0, self._kill_at - time.monotonic())
            found = signal.sigtimedwait(_WAITED_FOR, left)
        if found is None:
            self._kill_at = None if self._ending else time.monotonic() + _STOP_SECONDS
            self._send(signal.SIGKILL)
        elif found.si_signo == signal.SIGCHLD:
            return self._ended()
        elif found.si_signo == _NEW_TOKEN:
            self._hand_over()
        else:
            self._signalled(found.si_signo)
            if found.si_code != _SI_KERNEL:
                self._send(found.si_signo)
        return None

    def _signalled(self, number: int) -> None:
        """Remember who wants the program to end; after the other signals it gets new tokens."""
        if number in _INTERRUPTS:
            self._interrupted_at = time.monotonic()
        self._ending |= number == signal.SIGTERM

    def _hand_over(self) -> None:
        if self._job.signal_number is not None:
            self._send(self._job.signal_number)
        elif self._kill_at is None and not self._ending:
            self._job.tell("the token was refreshed: the program is started again")
            self._kill_at = time.monotonic() + _STOP_SECONDS
            self._send(signal.SIGTERM)

    def _ended(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        # It may end because of a key that was pressed just before it was to be started again.
        interrupted = time.monotonic() - self._interrupted_at < _STOP_SECONDS
        if self._kill_at is not None and not (self._ending or interrupted):
            self._kill_at = None
            self._spawn()
            return None
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else _SIGNALLED - code

    def _send(self, number: int) -> None:
        os.kill(self._pid, number)  # not reaped yet, so the number is still its own


def _not_run(program: str, error: OSError) -> UsageError:
    return UsageError(
        f"the program {program} cannot be run",
        why=str(error.strerror),
        fix="check that it is a program for this machine",
        code="no-such-program",
    )
