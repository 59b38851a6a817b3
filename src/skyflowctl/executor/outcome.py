"""What became of a plan: a result for each action, in the plan's order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skyflowctl.errors import ExitCode, Problem
from skyflowctl.planner.plan import Action
from skyflowctl.vault.parked import PendingError

ActionStatus = Literal["done", "failed", "skipped", "pending", "waiting"]


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What became of one action.

    Args:
        action: the action.
        result: done; failed; pending, because the server holds it until somebody else
            approves it; waiting, because it depends on a pending one; or skipped, because
            an earlier action on the same mount failed or the run was interrupted.
        request_id: the server's id of the write; empty when it told none (a 204).
        milliseconds: how long it took.
        problem: why it failed or was skipped.
        warnings: what the server or the engine said about a write that it took.
        exit_code: that of the failure's class.
        besides: what else the failure had to say.
        pending: what the server holds.
        sent_by_run: the earlier run whose request this run only had run.
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

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why it failed or was skipped, the cause first; empty when it was done."""
        return (self.problem, *self.besides) if self.problem else ()


@dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """What became of a plan.

    Args:
        results: one for each action, in the plan's order.
        interrupted: the run was told to stop before the end.
        overwritten: mounts whose settings somebody else changed meanwhile.
    """

    results: tuple[ActionResult, ...]
    interrupted: bool = False
    overwritten: tuple[Problem, ...] = ()

    @property
    def status(self) -> Literal["ok", "partial", "pending", "error"]:
        """``ok`` when everything was done, ``pending`` when nothing is wrong and something
        waits for an approval, ``error`` when nothing was done, else ``partial``."""
        done, waits = self._count("done"), self._count("pending")
        held = waits + self._count("waiting")
        if done + held == len(self.results) and not self.overwritten:
            return "pending" if held else "ok"
        return "partial" if done or waits or self.overwritten else "error"

    def _count(self, word: ActionStatus) -> int:
        return sum(result.result == word for result in self.results)

    def counts(self) -> Mapping[str, int]:
        """Return how many actions are pending, wait for one that is, or failed."""
        words: tuple[ActionStatus, ...] = ("pending", "waiting", "failed")
        return {word: self._count(word) for word in words}

    @property
    def pending(self) -> tuple[ActionResult, ...]:
        """The actions that the server holds until somebody approves them."""
        return tuple(result for result in self.results if result.result == "pending")

    @property
    def failures(self) -> tuple[ActionResult, ...]:
        """The actions that failed by themselves; those skipped after them are not here."""
        return tuple(result for result in self.results if result.result == "failed")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was said about the writes, action by action."""
        return tuple(warning for result in self.results for warning in result.warnings)

    @property
    def exit_code(self) -> ExitCode:
        """0 when all is done, 7 when the rest waits for approvals, 3 when some failed; when
        nothing is done, that of the first failure."""
        if self.status == "ok":
            return ExitCode.OK
        if self.status == "pending":
            return ExitCode.PENDING
        if self.status == "partial" or not self.failures:
            return ExitCode.PARTIAL
        return self.failures[0].exit_code
