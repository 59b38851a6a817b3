"""Traces a command, if the environment asks for it.

Without OTEL_* and TELEMETRY_ENABLED nothing is imported or started: a caller's TRACEPARENT is then
only passed on with each request.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyflowctl.cli.envelope import CommandResult
    from skyflowctl.telemetry.spans import TraceSpan
    from skyflowctl.telemetry.start import Telemetry

_SERVICE = "skyflowctl"
# They read logs in forked processes, which must not be forked beside the threads of an exporter.
_FORKING = "audit "
FLUSH_SECONDS = 1.0
"""The longest that a command waits at its end for a collector that does not answer."""


@contextmanager
def command_trace(
    command: str, run_id: str, notice: Callable[[str], None]
) -> "Iterator[TraceSpan | None]":
    """Yield what is the command's span while the block runs; None without telemetry.

    Args:
        command: its full name.
        run_id: of its run.
        notice: shows that a collector takes nothing.
    """
    from skyflowctl.telemetry.switch import telemetry_is_on

    caller = os.environ.get("TRACEPARENT")
    telemetry = None
    if telemetry_is_on(os.environ) and not command.startswith(_FORKING):
        telemetry = _started(notice)
    if telemetry is None:
        if caller:
            from skyflowctl.telemetry.spans import pass_on

            pass_on(caller)
        yield None
        return
    try:
        with telemetry.tracer.span(f"skyflowctl {command}", traceparent=caller) as span:
            span.set("skyflow.run", run_id)
            yield span
    finally:
        # The work is done and its result is shown: a signal now ends only the wait.
        with suppress(KeyboardInterrupt):
            telemetry.flush(FLUSH_SECONDS)
        _NOTICES.notice = None


def _started(notice: Callable[[str], None]) -> "Telemetry | None":
    from skyflowctl.telemetry.start import start_telemetry
    from skyflowctl.version import __version__

    _NOTICES.notice = notice
    logging.getLogger("skyflowctl.telemetry").addHandler(_NOTICES)
    with _supported_names():
        return start_telemetry(_SERVICE, __version__)


@contextmanager
def _supported_names() -> Iterator[None]:
    """Leave out what would choose code of the SDK; a program that ``exec`` starts gets it."""
    from skyflowctl.telemetry.settings import TELEMETRY_NAMES

    others = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") and name not in TELEMETRY_NAMES
    }
    for name in others:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(others)


class _Notices(logging.Handler):
    """Shows the warnings of telemetry as the command's notices, which ``-q`` silences; what comes
    when the command is over is dropped."""

    notice: Callable[[str], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        if self.notice is not None:
            self.notice(record.getMessage())


_NOTICES = _Notices(logging.WARNING)


def record_result(span: "TraceSpan | None", result: "CommandResult") -> None:
    """Record how a command ended."""
    if span is None:
        return
    span.set("process.exit.code", int(result.exit_code))
    if result.problems:
        span.fail(result.problems[0].code)
