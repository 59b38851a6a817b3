"""``apply``: carry out a plan that somebody has seen."""

from dataclasses import dataclass
from typing import Literal

from skyflowctl.errors import ExitCode, Problem, Refused
from skyflowctl.executor.events import Listener
from skyflowctl.executor.outcome import Outcome
from skyflowctl.executor.ports import CredentialSource, PreparesApply, Replacer
from skyflowctl.executor.run import execute
from skyflowctl.executor.steps import mount_path
from skyflowctl.executor.stop import Stop
from skyflowctl.operations.plan import PlanResult
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.parked import GuardedError


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """A plan, and what became of it."""

    planned: PlanResult
    outcome: Outcome

    @property
    def status(self) -> Literal["ok", "partial", "pending", "error"]:
        """``ok`` only if every mount of the manifest is as it says."""
        if self.outcome.status in {"ok", "pending"} and self.planned.plan.unreadable:
            return "partial"
        return self.outcome.status

    @property
    def exit_code(self) -> ExitCode:
        """0 when all is done, 7 when the rest is pending, 3 when some is done, else that of
        the first failure."""
        if self.outcome.status in {"ok", "pending"} and self.planned.plan.unreadable:
            return ExitCode.PARTIAL
        return self.outcome.exit_code

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The plan's, and what was said about the writes."""
        return self.planned.plan.warnings + self.outcome.warnings

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why it is not all done: failures, unreadable mounts, then what is pending."""
        failed = (one for result in self.outcome.failures for one in result.problems)
        waits = (one for result in self.outcome.pending for one in result.problems)
        return (*failed, *self.planned.plan.unreadable, *waits)


def refuse_left_out(planned: PlanResult) -> None:
    """Refuse a plan that leaves mounts out, because they are not this manifest's to change.

    Raises:
        Refused: with one problem for each of these mounts.
    """
    if planned.plan.left_out:
        raise Refused.of(planned.plan.left_out)


def refuse_guarded_secrets(planned: PlanResult, gateway: Gateway) -> None:
    """Refuse a plan that would show a key to whoever approves a guarded request.

    Raises:
        Refused: with one problem for each of these configs.
    """
    found: list[Problem] = []
    for action in planned.plan.actions:
        if not action.needs_credential:
            continue
        try:
            gateway.refuse_guarded_config(mount_path(action))
        except GuardedError as error:
            found += error.problems
    if found:
        raise Refused.of(found)


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
        Refused: mounts of the manifest may not be touched, or a control group guards a
            config that a credential is to be sent to; nothing was written.
    """
    refuse_left_out(planned)
    refuse_guarded_secrets(planned, gateway)
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
