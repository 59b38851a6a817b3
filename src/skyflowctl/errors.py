"""The errors that a user sees: every failure is a list of problems.

A problem says what happened, why, and how to fix it. An error's class determines the exit code;
only ``skyflowctl.cli`` converts errors to text or JSON.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar, Self

from skyflowctl.frozen import dataclass


class ExitCode(IntEnum):
    """The exit codes of all commands: documented and tested; their meaning never changes."""

    OK = 0
    UNEXPECTED = 1
    CHANGES = 2
    PARTIAL = 3
    NOT_PERMITTED = 4
    REFUSED = 5
    UNHEALTHY = 6
    PENDING = 7
    USAGE = 64
    INVALID = 65
    UNREACHABLE = 69
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Where:
    """A position in a file; ``pointer`` is the JSON pointer of the value there.

    Lines and columns count from 1; unknown parts are None.
    """

    file: str | None = None
    line: int | None = None
    column: int | None = None
    pointer: str | None = None

    def __str__(self) -> str:
        parts = [self.file or ""]
        parts += [str(number) for number in (self.line, self.column) if number is not None]
        return ":".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. No field ever contains a secret.

    Args:
        code: a stable kebab-case name for programs, such as ``unknown-key``.
        summary: what happened, in one line.
        why: the cause, in one line; empty if the summary is sufficient.
        fix: what the reader can do, in one line.
        where: the position in the user's file, if there is one.
    """

    code: str
    summary: str
    why: str = ""
    fix: str = ""
    where: Where | None = None


class SkyflowctlError(Exception):
    """Base of every error that is shown to a user; carries one or more problems."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    default_code: ClassVar[str] = "unexpected"

    def __init__(
        self,
        summary: str,
        *,
        why: str = "",
        fix: str = "",
        code: str = "",
        where: Where | None = None,
    ) -> None:
        super().__init__(summary)
        self.problems: tuple[Problem, ...] = (
            Problem(code or self.default_code, summary, why, fix, where),
        )

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """Return one error that carries all of these problems (at least one)."""
        listed = tuple(problems)
        error = cls(listed[0].summary)
        error.problems = listed
        return error


def os_reason(error: OSError) -> str:
    """Return the operating system's reason, such as ``Permission denied``."""
    return error.strerror or type(error).__name__


class PartlyDoneError(SkyflowctlError):
    """Some of the work is done; the same command finishes it."""

    exit_code = ExitCode.PARTIAL
    default_code = "partly-done"


class NotPermittedError(SkyflowctlError):
    """There is no login, or the login may not do this."""

    exit_code = ExitCode.NOT_PERMITTED
    default_code = "not-permitted"


class RefusedError(SkyflowctlError):
    """A safety gate or a failed check-and-set stopped the command; nothing was written."""

    exit_code = ExitCode.REFUSED
    default_code = "refused"


class UnhealthyError(SkyflowctlError):
    """The command worked, but what it checked is unhealthy."""

    exit_code = ExitCode.UNHEALTHY
    default_code = "unhealthy"


class AwaitingApprovalError(SkyflowctlError):
    """The server holds the request until another person approves it."""

    exit_code = ExitCode.PENDING
    default_code = "approval-pending"


class UsageError(SkyflowctlError):
    """The command line is wrong, or names no target."""

    exit_code = ExitCode.USAGE
    default_code = "usage"

    @classmethod
    def of_file(cls, summary: str, error: OSError, *, fix: str, code: str) -> Self:
        """Return the error for a file that cannot be used, with the system's reason."""
        return cls(summary, why=os_reason(error), fix=fix, code=code)


class InvalidInputError(SkyflowctlError):
    """The manifest or a credential is invalid."""

    exit_code = ExitCode.INVALID
    default_code = "invalid"


class UnreachableError(SkyflowctlError):
    """The server does not answer, or is sealed."""

    exit_code = ExitCode.UNREACHABLE
    default_code = "unreachable"
