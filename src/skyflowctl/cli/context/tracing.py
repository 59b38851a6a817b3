"""Traces a command, if the environment asks for it.

Without OTEL_* and TELEMETRY_ENABLED nothing is imported or started: a caller's TRACEPARENT is then
only passed on with each request.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
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


def command_trace(
    command: str, run_id: str, notice: Callable[[str], None]
) -> "AbstractContextManager[TraceSpan | None]":
    """Return what is the command's span while its block runs; it yields None without telemetry.

    Args:
        command: its full name.
        run_id: of its run.
        notice: shows that a collector takes nothing.
    """
    caller = os.environ.get("TRACEPARENT")
    if _is_asked_for() and not command.startswith(_FORKING):
        from skyflowctl.telemetry.start import start_telemetry
        from skyflowctl.version import __version__

        with _supported_names():
            telemetry = start_telemetry(_SERVICE, __version__)
        logger = logging.getLogger("skyflowctl.telemetry")
        logger.handlers[:] = [_Notices(notice)]
        if telemetry is not None:
            return _traced(telemetry, command, run_id, caller)
    if caller:
        from skyflowctl.telemetry.spans import pass_on

        pass_on(caller)
    return nullcontext()


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
    """Shows the warnings of telemetry as a command's notices, which ``-q`` silences."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._notice = notice

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        self._notice(record.getMessage())


def _is_asked_for() -> bool:
    """Whether the settings are worth reading; most names of OpenTelemetry turn nothing on."""
    return "TELEMETRY_ENABLED" in os.environ or any(
        name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ
    )


@contextmanager
def _traced(
    telemetry: "Telemetry", command: str, run_id: str, caller: str | None
) -> "Iterator[TraceSpan]":
    try:
        with telemetry.tracer.span(f"skyflowctl {command}", traceparent=caller) as span:
            span.set("skyflow.run", run_id)
            yield span
    finally:
        # The work is done and its result is shown: a signal now ends only the wait.
        with suppress(KeyboardInterrupt):
            telemetry.flush(FLUSH_SECONDS)


def record_result(span: "TraceSpan | None", result: "CommandResult") -> None:
    """Record how a command ended."""
    if span is None:
        return
    span.set("process.exit.code", int(result.exit_code))
    if result.problems:
        span.fail(result.problems[0].code)
