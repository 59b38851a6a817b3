"""The JSON envelope of every command's output, for success and failure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TextIO

from skyflowctl.errors import ExitCode, Problem
from skyflowctl.frozen import dataclass

FORMAT_VERSION = "1.0"
"""The second number grows with added keys, the first with a changed meaning."""

Status = Literal["ok", "changes", "partial", "pending", "refused", "unhealthy", "error"]

_STATUS_OF_CODE: Mapping[int, Status] = {
    ExitCode.OK: "ok",
    ExitCode.CHANGES: "changes",
    ExitCode.PARTIAL: "partial",
    ExitCode.REFUSED: "refused",
    ExitCode.UNHEALTHY: "unhealthy",
    ExitCode.PENDING: "pending",
}


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command.

    Args:
        data: the command's own data, ready for JSON; the view reads the same.
        status: the envelope's status.
        exit_code: the process's exit code.
        problems: failures in spite of data (an apply's failed steps).
        warnings: shown on stderr, and not in ``errors``.
    """

    data: Mapping[str, Any]
    status: Status = "ok"
    exit_code: int = ExitCode.OK
    problems: Sequence[Problem] = ()
    warnings: Sequence[Problem] = field(default=())


def status_of(exit_code: int) -> Status:
    """Return the envelope's status for a failure with this exit code."""
    return _STATUS_OF_CODE.get(exit_code, "error")


def envelope(
    command: str,
    run_id: str,
    status: Status,
    data: Mapping[str, Any],
    problems: Sequence[Problem],
) -> dict[str, Any]:
    """Return the envelope as a JSON object, keys in their published order."""
    return {
        "format_version": FORMAT_VERSION,
        "command": command,
        "run_id": run_id,
        "status": status,
        "data": dict(data),
        "errors": [problem_json(problem) for problem in problems],
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as a JSON object; ``where`` is null if it has no place."""
    where = problem.where and {
        "file": problem.where.file,
        "line": problem.where.line,
        "column": problem.where.column,
        "pointer": problem.where.pointer,
    }
    return {
        "code": problem.code,
        "summary": problem.summary,
        "why": problem.why,
        "fix": problem.fix,
        "where": where,
    }


def safe_json(value: Any, *, indent: int | None = 2) -> str:
    """Return JSON text without terminal control characters.

    A type unknown to JSON raises TypeError, above all a :class:`skyflowctl.secret.Secret`: callers
    must reveal a value on purpose.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


class EventStream:
    """NDJSON: a version line, events, and the envelope as the last line."""

    def __init__(self, out: TextIO, command: str, run_id: str) -> None:
        self._out = out
        self.event("version", format_version=FORMAT_VERSION, command=command, run_id=run_id)

    def event(self, type_: str, **fields: Any) -> None:
        """Write one event at once."""
        self._out.write(safe_json({"type": type_, **fields}, indent=None) + "\n")
        self._out.flush()

    def result(self, whole: Mapping[str, Any]) -> None:
        """Write the last line: the envelope."""
        self.event("result", **whole)
