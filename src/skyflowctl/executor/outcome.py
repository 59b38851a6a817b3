"""What became of a plan: a result for each action, in the plan's order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from skyflowctl.errors import ExitCode, Problem
from skyflowctl.planner.plan import Action
from skyflowctl.vault.answers import VerifyReport

Word = Literal["done", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one action.

    Args:
        action: the action.
        result: done; failed; or skipped, because an earlier action on the same mount
            failed or the run was interrupted.
        request_id: the server's id of the write; empty when it told none (a 204).
        milliseconds: how long it took.
        problem: why it failed or was skipped.
        warnings: what the server or the engine said about a write that it took.
        exit_code: that of the failure's class.
        besides: what else the failure had to say.
    """

    action: Action
    result: Word
    request_id: str = ""
    milliseconds: float = 0.0
    problem: Problem | None = None
    exit_code: ExitCode = ExitCode.OK
    warnings: tuple[Problem, ...] = ()
    besides: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why it failed or was skipped, the cause first; empty when it was done."""
        return (self.problem, *self.besides) if self.problem else ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan.

    Args:
        results: one for each action, in the plan's order.
        proofs: by mount path, what a verification after the run showed; only mounts
            that were touched, and only when it was asked for.
        interrupted: the run was told to stop before the end.
    """

    results: tuple[Result, ...]
    proofs: Mapping[str, VerifyReport | Problem] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def status(self) -> Literal["ok", "partial", "error"]:
        """``ok`` when everything was done, ``error`` when nothing was, else ``partial``."""
        done = sum(result.result == "done" for result in self.results)
        if done == len(self.results):
            return "ok"
        return "partial" if done else "error"

    @property
    def failures(self) -> tuple[Result, ...]:
        """The actions that failed by themselves; those skipped after them are not here."""
        return tuple(result for result in self.results if result.result == "failed")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was said about the writes, action by action."""
        return tuple(warning for result in self.results for warning in result.warnings)

    @property
    def exit_code(self) -> ExitCode:
        """0 when all is done, 3 when some is; when nothing is, that of the first failure."""
        if self.status == "ok":
            return ExitCode.OK
        if self.status == "partial" or not self.failures:
            return ExitCode.PARTIAL
        return self.failures[0].exit_code
