"""``apply``: carry out a confirmed plan."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from skyflowctl.concurrency import Workers
from skyflowctl.credentials.model import CredentialSource
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError
from skyflowctl.executor.deletes import carry_out_deletes, without_deletes
from skyflowctl.executor.events import ApplyListener
from skyflowctl.executor.outcome import ApplyOutcome
from skyflowctl.executor.ports import Replacer, Upgrader
from skyflowctl.executor.run import execute
from skyflowctl.executor.steps import action_mount_path
from skyflowctl.executor.stop import Stop
from skyflowctl.executor.verify import VerifiedRole, unverified, verify_roles
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Mount
from skyflowctl.operations.guarded_plan import refuse_guarded_without_entity
from skyflowctl.operations.plan import PlanResult
from skyflowctl.planner.audit_devices import BY_CONFIGURATION
from skyflowctl.planner.plan import Action, ActionType, Plan
from skyflowctl.planner.prune import object_path
from skyflowctl.vault.errors import ForbiddenError, GuardedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.guards import secret_paths

_RELOAD = "sys/plugins/reload/backend"


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """A plan, and the outcome of applying it.

    Args:
        planned: the plan.
        outcome: the outcome of its actions.
        verified: whether the manifest's roles give tokens afterwards; only of mounts with a
            credential whose actions are all done.
        require_verified: a role that could not be tried is an error.
        besides: warnings that concern no action: roles that do not mint, unknown guards, parked
            requests that could not be searched.
    """

    planned: PlanResult
    outcome: ApplyOutcome
    verified: tuple[VerifiedRole, ...] = ()
    require_verified: bool = False
    besides: tuple[Problem, ...] = ()

    @property
    def status(self) -> Literal["ok", "partial", "pending", "error"]:
        """``ok`` only if every requested mount matches the manifest."""
        if self.outcome.status in {"ok", "pending"} and self.left:
            return "error" if self._nothing_permitted else "partial"
        return self.outcome.status

    @property
    def exit_code(self) -> ExitCode:
        """0 if all is done, 7 if the rest is pending, 3 if some is done, else that of the first
        failure."""
        if self.outcome.status in {"ok", "pending"} and self.left:
            return ExitCode.NOT_PERMITTED if self._nothing_permitted else ExitCode.PARTIAL
        return self.outcome.exit_code

    @property
    def left(self) -> tuple[Problem, ...]:
        """Why mounts do not match the manifest although no action failed."""
        failed = {result.action.mount for result in self.outcome.failures}
        places = {
            mount.credentials.where
            for mount in self.planned.mounts
            if mount.name in failed and mount.credentials
        }
        plan = self.planned.plan
        unread = (
            one
            for one in plan.unreadable
            if one.code != "credential-unresolved" or one.where not in places
        )
        return (*unread, *self.planned.skipped, *self._unverified)

    @property
    def not_tried(self) -> tuple[tuple[str, str], ...]:
        """The mount and role of each role that did not mint because it was not asked to."""
        tried = {one.mount for one in self.verified}
        left = (mount for mount in self.planned.mounts if mount.name not in tried)
        return tuple((one.name, role.name) for one in left for role in one.roles)

    @property
    def _unverified(self) -> tuple[Problem, ...]:
        """Why roles give no token or, if verification is required, could not be tried."""
        return unverified(self.verified, require_all=self.require_verified)

    @property
    def _nothing_permitted(self) -> bool:
        """Every engine refused this login, and nothing was written."""
        return self.planned.live.all_forbidden and not self.outcome.results

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings of the plan and of the writes, each once, without what was done since."""
        unproven = (one.problem for one in self.verified if one.result == "unproven")
        enabled = {one.action.path for one in self.outcome.results if one.result == "done"}
        planned = (
            one
            for one in self.planned.plan.warnings
            if one.code != BY_CONFIGURATION or one.summary.partition(" ")[0] not in enabled
        )
        said = (*planned, *self.outcome.warnings)
        doubts = (problem for problem in unproven if problem)
        return tuple(dict.fromkeys((*said, *doubts, *self.besides)))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why not all is done: failures, skipped mounts, then pending actions."""
        failed = (one for result in self.outcome.failures for one in result.problems)
        waits = (one for result in self.outcome.pending for one in result.problems)
        return (*failed, *self.outcome.overwritten, *self.left, *waits)


def refuse_plan(planned: PlanResult) -> None:
    """Refuse a plan that must not be applied as a whole.

    Raises:
        RefusedError: with every reason.
    """
    if planned.refused:
        raise RefusedError.of(planned.refused)


_Unsendable = GuardedError | ForbiddenError


def _probe_guards(
    planned: PlanResult, gateway: Gateway, parallelism: int
) -> tuple[Mapping[str, _Unsendable], tuple[Problem, ...]]:
    """Find the mounts to which no key may be sent, before any key is sent.

    Returns:
        The reason by mount; and a warning for each path for which this login may not read whether
        it is guarded.

    Raises:
        RefusedError: the plan changes no other mount, and approvers would see the keys.
        ForbiddenError: it changes no other mount, and this login may not write these.
    """

    def probed(action: Action) -> tuple[str, list[Problem] | _Unsendable]:
        paths = secret_paths(action_mount_path(action), verified=_is_verified(action, planned))
        try:
            found = [gateway.transport.refuse_guarded("POST", path) for path in paths]
        except (GuardedError, ForbiddenError) as error:
            return action.mount, error
        return action.mount, [one for one in found if one]

    sent = [action for action in planned.plan.actions if action.needs_credential]
    with Workers(parallelism) as pool:
        found = dict(pool.map(probed, sent))
    refused = {mount: one for mount, one in found.items() if not isinstance(one, list)}
    changed = {action.mount for action in planned.plan.actions if action.mount}
    if refused and changed <= refused.keys():
        problems = [problem for error in refused.values() for problem in error.problems]
        guarded = any(isinstance(error, GuardedError) for error in refused.values())
        raise (RefusedError if guarded else ForbiddenError).of(problems)
    unknown = [problem for one in found.values() if isinstance(one, list) for problem in one]
    return refused, tuple(unknown)


def _is_verified(action: Action, planned: PlanResult) -> bool:
    """Whether a rotation verifies an action's credential before writing it."""
    live = planned.live.engines.get(action_mount_path(action))
    replaces = action.action is ActionType.REPLACE_CREDENTIAL
    return replaces and live is not None and live.config.api.has("verify")


def apply(
    planned: PlanResult,
    gateway: Gateway,
    credentials: CredentialSource,
    replacer: Replacer,
    *,
    parallelism: int = 10,
    on_event: ApplyListener | None = None,
    stop: Stop | None = None,
    require_verified: bool = False,
    upgrader: Upgrader | None = None,
) -> ApplyResult:
    """Carry out a plan; a failed action is in the result and raises no error.

    Args:
        planned: from :func:`skyflowctl.operations.plan.plan`, on the same server.
        gateway: that server.
        credentials: the same source as for the plan; read again for each write.
        replacer: replaces a live credential.
        parallelism: how many actions run at once.
        on_event: called for every step.
        stop: called before every action.
        require_verified: a role that could not be tried afterwards is an error.
        upgrader: upgrades mounts; None: the server is one in this process.

    Raises:
        RefusedError: the plan, all of its configs, or an upgrade may not go on; nothing is written.
        NotPermittedError: a control group guards a path, and this login has no entity.
    """
    refuse_plan(planned)
    refuse_guarded_without_entity(planned.plan.actions, gateway, parallelism)
    refused, unknown = _probe_guards(planned, gateway, parallelism)
    unknown += upgrader.prove(planned.plan.actions, gateway) if upgrader else ()
    credentials.prepare_apply()
    execute_part = partial(
        execute,
        gateway=gateway,
        credentials=credentials,
        replacer=replacer,
        parallelism=parallelism,
        on_event=on_event,
        stop=stop,
        refused=refused,
        upgrader=upgrader,
    )
    outcome = execute_part(without_deletes(planned.plan))
    unsettled = () if outcome.interrupted else _withdraw_unwanted(planned, gateway)
    verified, rest = _verify(planned, outcome, gateway, parallelism)
    done = ApplyResult(planned, outcome, verified, require_verified, (*unknown, *unsettled, *rest))
    return _with_deletes(done, execute_part, on_event)


def _verify(
    planned: PlanResult, outcome: ApplyOutcome, gateway: Gateway, parallelism: int
) -> tuple[tuple[VerifiedRole, ...], tuple[Problem, ...]]:
    mounts = () if outcome.interrupted else _to_verify(planned, outcome)
    minting = {result.action.mount for result in outcome.results if result.verified}
    return verify_roles(gateway, mounts, parallelism, minting)


def _with_deletes(
    done: ApplyResult,
    execute_part: Callable[[Plan], ApplyOutcome],
    on_event: ApplyListener | None,
) -> ApplyResult:
    """Carry out the deletions, if everything else is done and verified."""
    plan = done.planned.plan
    if not plan.deletes:
        return done
    outcome = carry_out_deletes(plan, done.outcome, execute_part, on_event, reason=_keeps_all(done))
    deleted = tuple(
        f"{object_path(one.action)} "
        for one in outcome.results
        if one.action.action is ActionType.DELETE and one.result == "done"
    )
    besides = tuple(one for one in done.besides if not one.summary.startswith(deleted))
    return replace(done, outcome=outcome, besides=(*besides, *_kept(outcome)))


def _keeps_all(done: ApplyResult) -> Problem | None:
    """Return why no deletion may begin although no action failed, or None."""
    left = (*done.outcome.overwritten, *done.left)
    if not left:
        return None
    return Problem(
        "deletes-not-begun",
        f"nothing is deleted: {left[0].summary}",
        "deletions begin only after everything else is done and verified",
        left[0].fix,
    )


def _kept(outcome: ApplyOutcome) -> tuple[Problem, ...]:
    """Return why deletions were not begun."""
    found = (one.problem for one in outcome.results if one.action.action is ActionType.DELETE)
    return tuple(dict.fromkeys(one for one in found if one and one.code == "deletes-not-begun"))


def _withdraw_unwanted(planned: PlanResult, gateway: Gateway) -> tuple[Problem, ...]:
    """Withdraw parked requests of earlier applies, if the plan covers the whole manifest.

    Returns:
        Why they could not be searched.
    """
    plan = planned.plan
    if planned.options.only is not None or plan.skipped or plan.unreadable:
        return ()
    wanted = tuple(action.path.removesuffix("/tune") for action in plan.actions)
    reloads = any(action.action is ActionType.PLUGIN_UPGRADE for action in plan.actions)

    def is_wanted(path: str) -> bool:
        if path == _RELOAD:
            return reloads
        return any(path == one or path.startswith(f"{one}/") for one in wanted)

    try:
        gateway.transport.withdraw_unwanted(is_wanted)
    except SkyflowctlError as error:
        return error.problems
    return ()


def _to_verify(planned: PlanResult, outcome: ApplyOutcome) -> tuple[Mount, ...]:
    """Return the mounts that have a credential and whose actions are all done."""
    undone = {result.action.mount for result in outcome.results if result.result != "done"}
    written = {result.action.mount for result in outcome.results if result.action.brings_credential}
    left = {drift.mount for drift in planned.plan.skipped} | undone

    def has_credential(mount: Mount) -> bool:
        engine = planned.live.engines.get(mount.path)
        return mount.name in written or (engine is not None and engine.config.configured)

    return tuple(one for one in planned.mounts if one.name not in left and has_credential(one))
