"""The outcome of a plan: a result for each action, in the plan's order."""

from collections.abc import Mapping
from typing import Literal

from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.planner.plan import Action
from skyflowctl.vault.parked import PendingError

ActionStatus = Literal["done", "failed", "skipped", "pending", "waiting"]


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The result of one action.

    Args:
        action: the action.
        result: done; failed; pending, because the server holds it until another person
            approves it; waiting, because it depends on a pending one; or skipped, because
            an earlier action on the same mount failed or the run was interrupted.
        request_id: the server's id of the write; empty if the answer had none (a 204).
        milliseconds: how long it took.
        problem: why it failed or was skipped.
        warnings: warnings of the server or the engine about a write that it accepted.
        exit_code: the exit code of the failure's class.
        besides: further problems of the failure.
        pending: the request that the server holds.
        sent_by_run: the earlier run that sent the request, if this run only executed it.
        verified: the engine minted for every role of the mount before it accepted the credential
            that this action wrote.
    """

    action: Action
    result: ActionStatus
    request_id: str = ""
    milliseconds: float = 0.0
    problem: Problem | None = None
    exit_code: ExitCode = ExitCode.OK
    warnings: tuple[Problem, ...] = ()
    besides: tuple[Problem, ...] = ()
    pending: PendingError | None = None
    sent_by_run: str = ""
    verified: bool = False

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why it failed or was skipped, the cause first; empty if it was done."""
        return (self.problem, *self.besides) if self.problem else ()


@dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """The outcome of a plan.

    Args:
        results: one for each action, in the plan's order.
        interrupted: whether the run was stopped before the end.
        overwritten: mounts whose settings another client changed meanwhile.
    """

    results: tuple[ActionResult, ...]
    interrupted: bool = False
    overwritten: tuple[Problem, ...] = ()

    @property
    def status(self) -> Literal["ok", "partial", "pending", "error"]:
        """``ok`` if everything was done, ``pending`` if nothing is wrong and something waits for
        an approval, ``error`` if nothing was done, else ``partial``."""
        done, waits = self._count("done"), self._count("pending")
        held = waits + self._count("waiting")
        if done + held == len(self.results) and not self.overwritten:
            return "pending" if held else "ok"
        return "partial" if done or waits or self.overwritten else "error"

    def _count(self, word: ActionStatus) -> int:
        return sum(result.result == word for result in self.results)

    def counts(self) -> Mapping[str, int]:
        """Return how many actions are pending, wait for a pending one, or failed."""
        words: tuple[ActionStatus, ...] = ("pending", "waiting", "failed")
        return {word: self._count(word) for word in words}

    @property
    def pending(self) -> tuple[ActionResult, ...]:
        """The actions that the server holds until another person approves them."""
        return tuple(result for result in self.results if result.result == "pending")

    @property
    def failures(self) -> tuple[ActionResult, ...]:
        """The actions that failed themselves, without those that were skipped after them."""
        return tuple(result for result in self.results if result.result == "failed")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings about the writes, action by action."""
        return tuple(warning for result in self.results for warning in result.warnings)

    @property
    def exit_code(self) -> ExitCode:
        """0 if all is done, 7 if the rest waits for approvals, 3 if some failed; if nothing is
        done, the exit code of the first failure."""
        if self.status == "ok":
            return ExitCode.OK
        if self.status == "pending":
            return ExitCode.PENDING
        if self.status == "partial" or not self.failures:
            return ExitCode.PARTIAL
        return self.failures[0].exit_code


def unforeseen(path: str, error: Exception) -> SkyflowctlError:
    """Return the problem for an unexpected error, without its text, which may contain secrets."""
    return SkyflowctlError(
        f"an error that was not expected: {path}",
        why=f"{type(error).__name__} in skyflowctl itself",
        fix="run the same command again; if it comes back, report it",
        code="unexpected",
    )
