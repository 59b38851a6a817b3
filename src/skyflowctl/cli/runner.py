"""Turns a command's work into output and an exit code; the only place that does.

A command passes its work and its view to :func:`run_command`. Any error of the work is caught here,
once, and reported in the requested format: three lines of text, or the JSON envelope.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from skyflowctl.cli.console import Terminal, clipped, mask_tokens
from skyflowctl.cli.context.tracing import command_trace, record_result
from skyflowctl.cli.envelope import CommandResult, EventStream, envelope, safe_json, status_of
from skyflowctl.cli.problems import show_problems, show_warnings
from skyflowctl.cli.streams import drop_stdout, output_failed
from skyflowctl.clock import Clock, SystemClock
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError, os_reason

if TYPE_CHECKING:
    from skyflowctl.cli.options import OutputOptions
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.vault.gateway import Gateway

_OF_A_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES,
     errno.EPERM, errno.EROFS, errno.EEXIST, errno.EINVAL, errno.ENXIO}
)  # fmt: skip
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Terminated(BaseException):
    """SIGTERM arrived. A BaseException, like KeyboardInterrupt, so no handler swallows it."""


STOPS = (KeyboardInterrupt, Terminated)
"""What the signals raise that end a command."""


def stop_code(stop: BaseException) -> ExitCode:
    """Return the exit code of a command that goes on until a signal ends it: it names the signal,
    and is no failure."""
    return ExitCode.TERMINATED if isinstance(stop, Terminated) else ExitCode.INTERRUPTED


@dataclass(slots=True)
class CommandRun:
    """One command's run, for its work.

    Args:
        id: sent with every request, and recorded in the server's audit log.
        command: its full name, such as ``mount list``.
        terminal: for notices and progress; the data itself is returned, not printed.
        json: the output is JSON; ``streaming`` then writes it as events.
        done: the fix if the result cannot be shown and running the command again would repeat its
            work.
        manifest: the manifest that the command read; ``gateway``: its connection to the server.
            ``cli.context.bound_manifests`` holds one to the other.
        trace: its ``close`` ends and sends the command's span, for work that never returns.
    """

    id: str
    command: str
    terminal: Terminal
    clock: Clock
    json: bool
    stream: EventStream | None = None
    done: str = ""
    manifest: "Manifest | None" = None
    gateway: "Gateway | None" = None
    trace: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def notice(self, text: str) -> None:
        """Write a notice to stderr."""
        self.terminal.notice(text)

    def warn(self, problem: Problem) -> None:
        """Show a warning on stderr in three lines."""
        show_warnings([problem], self.terminal)

    @property
    def may_ask(self) -> bool:
        """Whether there is a terminal that can answer."""
        return not self.json and sys.stdin.isatty()

    def confirm(self, question: str, *, yes: bool, no_input: bool) -> None:
        """Ask y/N on stderr; return only if the answer is yes.

        Raises:
            RefusedError: the answer is no, or there is no terminal, or ``--no-input`` is given.
        """
        if yes:
            return
        if no_input or not self.may_ask:
            raise RefusedError(
                "this needs a confirmation",
                why="this run cannot ask",
                fix="give --yes to confirm it on the command line",
                code="needs-confirmation",
            )
        sys.stdout.flush()
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        try:
            answer = sys.stdin.readline()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            raise
        if not answer.endswith("\n"):  # Ctrl-D leaves the cursor after the question
            sys.stderr.write("\n")
        if answer.strip().lower() not in {"y", "yes"}:
            raise RefusedError(
                "not confirmed",
                why="the answer was not yes",
                fix="run it again and answer y, or give --yes",
                code="not-confirmed",
            )

    def events(self) -> EventStream | None:
        """Open the stream of NDJSON events; return None for text output.

        The work's result then becomes the stream's last line.
        """
        if self.json and self.stream is None:
            self.stream = EventStream(self.terminal.out, self.command, self.id)
        return self.stream


CommandWork = Callable[[CommandRun], CommandResult]
View = Callable[[CommandResult, Terminal], None]


def run_command(
    name: str,
    output: "OutputOptions",
    work: CommandWork,
    view: View,
    *,
    failure_view: View | None = None,
) -> NoReturn:
    """Do a command's work, show its result, and exit with its exit code.

    Args:
        name: the command's name in the output and the audit log.
        output: the output options.
        work: the command's work.
        view: shows the result as text.
        failure_view: shows a failure on stdout too, such as :func:`fail_in_eval`; None: only the
            messages on stderr show it.

    Raises:
        SystemExit: always, with the code of DESIGN's table.
    """
    run = CommandRun(
        new_run_id(),
        name,
        output.terminal(),
        SystemClock(),
        output.json,
    )
    with run.trace:
        span = run.trace.enter_context(command_trace(name, run.id, run.notice))
        result, failed = _result_of(run, work)
        record_result(span, result)
        code = _write_out(run, result, failure_view if failed else view)
    sys.exit(code)


def fail_in_eval(result: CommandResult, terminal: Terminal) -> None:
    """Write a shell line that fails with the exit code, which ``eval "$(…)"`` otherwise loses."""
    terminal.raw(f"(exit {int(result.exit_code)})\n")


def _write_out(run: CommandRun, result: CommandResult, view: View | None) -> int:
    """Show a result and return the process's exit code: the work's own, if it is not 0."""
    try:
        _show(run, result, view)
        run.terminal.out.flush()
    except BrokenPipeError:
        # The reader has closed the output; the work's own exit code is kept.
        drop_stdout()
    except KeyboardInterrupt as error:
        drop_stdout()  # half a result is there already: a second one would follow it
        stopped = _stopped(error, run.done or _anew(run))
        show_problems(stopped.problems, run.terminal)
        return int(stopped.exit_code)
    except OSError as error:
        drop_stdout()
        show_problems(output_failed(error, run.done).problems, run.terminal)
        return int(result.exit_code) or int(ExitCode.UNEXPECTED)
    return int(result.exit_code)


def _result_of(run: CommandRun, work: CommandWork) -> tuple[CommandResult, bool]:
    """Return the work's result, or its failure as a result, and whether it failed."""
    try:
        with _sigterm_raises():
            return work(run), False
    except BaseException as error:  # noqa: BLE001 - the one catch site
        return describe_failure(error, run.terminal, run.done or _anew(run)), True


def _anew(run: CommandRun) -> str:
    """Return the fix after a stop of a command that only reads; empty for the others."""
    reads = run.command.startswith("audit ")
    return "run the same command again: it only reads, and starts over" if reads else ""


def describe_failure(error: BaseException, terminal: Terminal, done: str = "") -> CommandResult:
    """Return an exception as a result for the user; ``done`` is the run's.

    Raises:
        BaseException: the error itself, if it asks Python to exit or stops a generator: these are
            not failures.
    """
    if isinstance(error, SkyflowctlError):
        if terminal.verbosity > 1:
            _show_traceback(error, terminal)
        failed = _failed(error.exit_code, *error.problems)
        waits = getattr(error, "to_json", None)
        return replace(failed, data={"pending": waits()}) if waits else failed
    if isinstance(error, (SystemExit, GeneratorExit)):
        raise error
    if stop := _stop_behind(error):
        return _stopped(stop, done)
    if bad_input := _bad_input(error):
        if terminal.verbosity > 0:
            _show_traceback(error, terminal)
        return _failed(ExitCode.USAGE, bad_input)
    return _unexpected(error, terminal)


def _bad_input(error: BaseException) -> Problem | None:
    """Return the problem of a name or text that the system refused; None: another error.

    Callers that open a file or send a text report it better; this is for the others.
    """
    if isinstance(error, OSError) and error.filename is not None and error.errno in _OF_A_NAME:
        name = clipped(os.fsdecode(error.filename))
        why = os_reason(error)
        fix = "correct the name, its folder or its permissions"
        return Problem("unusable-file", f"a file cannot be used: {name}", why, fix)
    if isinstance(error, UnicodeEncodeError) and _is_surrogate(error):
        summary = "an argument, a variable or a file's name is not UTF-8 text"
        why = "a server and a file take nothing else"
        return Problem("not-utf-8", summary, why, "type it again, or set it again")
    return None


def _is_surrogate(error: UnicodeEncodeError) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in error.object[error.start : error.end])


def _failed(code: int, *problems: Problem) -> CommandResult:
    return CommandResult({}, status_of(code), code, problems)


def _stop_behind(error: BaseException) -> BaseException | None:
    """Return the signal that led to an error, or the error if it is one; None: there was none.

    Python 3.11 reports one that arrives while a class is made as ``RuntimeError: Error calling
    __set_name__``.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, STOPS):
        found = found.__cause__ or found.__context__
    return found


def _stopped(stop: BaseException, done: str) -> CommandResult:
    code = stop_code(stop)
    terminated = code is ExitCode.TERMINATED
    word, cause = ("terminated", "SIGTERM") if terminated else ("interrupted", "SIGINT")
    fix = done or "run the same command again: it resumes where this run stopped"
    return _failed(code, Problem(word, f"the command was {word}", f"{cause} arrived", fix))


def _unexpected(error: BaseException, terminal: Terminal) -> CommandResult:
    debug = terminal.verbosity > 0 or os.environ.get("SKYFLOWCTL_DEBUG", "0") not in {"", "0"}
    if debug:
        _show_traceback(error, terminal)
    fix = "please report it, with the traceback above" if debug else "run it again with -v"
    why = f"{type(error).__name__}{_place(error)}"
    return _failed(
        ExitCode.UNEXPECTED,
        Problem("unexpected", "skyflowctl met an error it did not expect", why, fix),
    )


def _place(error: BaseException) -> str:
    """Return the last place in this package that an exception passed."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if name.startswith("skyflowctl."):
            place = f" in {name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _show_traceback(error: BaseException, terminal: Terminal) -> None:
    """Write the place of an error: without locals, and without long words of any message."""
    import traceback

    for line in "".join(traceback.format_tb(error.__traceback__)).splitlines():
        terminal.alert(line)
    terminal.alert(f"{type(error).__name__}: {mask_tokens(str(error))}")
    if error.__cause__ is not None:
        terminal.alert("caused by:")
        _show_traceback(error.__cause__, terminal)


def _show(run: CommandRun, result: CommandResult, view: View | None) -> None:
    complete = run.terminal.given.complete_data
    if run.json:
        whole = complete(envelope(run.command, run.id, result.status, result.data, result.problems))
        if run.stream is not None:
            run.stream.result(whole)
        else:
            run.terminal.raw(safe_json(whole) + "\n")
    elif view is not None:
        view(replace(result, data=complete(result.data)), run.terminal)
        # Print findings before problems, also where both go to one terminal.
        run.terminal.out.flush()
    shown = frozenset(result.problems)
    show_warnings([one for one in result.warnings if one not in shown], run.terminal)
    show_problems(result.problems, run.terminal)


def new_run_id(now_ms: int | None = None) -> str:
    """Return 16 characters: the time in milliseconds, sortable, and 30 random bits."""
    moment = int(time.time() * 1000) if now_ms is None else now_ms
    number = (moment << 30) | (int.from_bytes(os.urandom(4)) & 0x3FFFFFFF)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(75, -5, -5))


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the main thread during the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _raise_terminated(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
