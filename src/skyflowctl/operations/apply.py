"""``apply``: carry out a plan that somebody has seen."""

from dataclasses import dataclass
from typing import Literal

from skyflowctl.errors import ExitCode, Problem, Refused
from skyflowctl.executor.events import Listener
from skyflowctl.executor.outcome import Outcome
from skyflowctl.executor.ports import CredentialSource, PreparesApply, Replacer
from skyflowctl.executor.run import execute
from skyflowctl.executor.stop import Stop
from skyflowctl.operations.plan import PlanResult
from skyflowctl.vault.gateway import Gateway


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """A plan, and what became of it."""

    planned: PlanResult
    outcome: Outcome

    @property
    def status(self) -> Literal["ok", "partial", "error"]:
        """``ok`` only if every mount of the manifest is as it says."""
        if self.outcome.status == "ok" and self.planned.plan.unreadable:
            return "partial"
        return self.outcome.status

    @property
    def exit_code(self) -> ExitCode:
        """0 when all is done, 3 when some is, else that of the first failure."""
        if self.outcome.status == "ok" and self.planned.plan.unreadable:
            return ExitCode.PARTIAL
        return self.outcome.exit_code

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The plan's, and what was said about the writes."""
        return self.planned.plan.warnings + self.outcome.warnings

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why it is not all done: failures, then mounts that could not be read."""
        failed = (one for result in self.outcome.failures for one in result.problems)
        return (*failed, *self.planned.plan.unreadable)


def refuse_left_out(planned: PlanResult) -> None:
    """Refuse a plan that leaves mounts out, because they are not this manifest's to change.

    Raises:
        Refused: with one problem for each of these mounts.
    """
    if planned.plan.left_out:
        raise Refused.of(planned.plan.left_out)


def apply(
    planned: PlanResult,
    gateway: Gateway,
    credentials: CredentialSource,
    replacer: Replacer,
    *,
    parallelism: int = 10,
    on_event: Listener | None = None,
    stop: Stop | None = None,
    verify: bool = False,
) -> ApplyResult:
    """Carry out a plan; a failed action is in the result and raises nothing.

    Args:
        planned: from :func:`skyflowctl.operations.plan.plan`, on the same server.
        gateway: that server.
        credentials: the same source as for the plan; asked again where one is written.
        replacer: how a live credential is replaced.
        parallelism: how many actions run at once.
        on_event: told of every step.
        stop: asked before every action.
        verify: have every touched mount mint once per role afterwards.

    Raises:
        Refused: mounts of the manifest may not be touched; nothing was written.
    """
    refuse_left_out(planned)
    if isinstance(credentials, PreparesApply):
        credentials.prepare_apply()
    outcome = execute(
        planned.plan,
        gateway,
        credentials,
        replacer,
        parallelism=parallelism,
        on_event=on_event,
        stop=stop,
        verify=verify,
    )
    return ApplyResult(planned, outcome)
