"""``skyflowctl apply``."""

import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyflowctl.cli.command import WRITE_EXITS, command
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import gateways, manifests, saved_plans
from skyflowctl.cli.context.planning import LivePlan, PlanRequest, plan_live
from skyflowctl.cli.envelope import CommandResult, problem_json
from skyflowctl.cli.options import (
    AllowHostOption,
    FileOption,
    MountsArgument,
    NoInputOption,
    OutputOptions,
    ParallelismOption,
    ReferenceOptions,
    YesOption,
    option,
)
from skyflowctl.cli.plan_options import AuditOption, PermitOptions, RequiringTargetOptions
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, NotPermittedError, Problem, RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.operations.apply import ApplyResult
    from skyflowctl.operations.plan import PlanResult
    from skyflowctl.vault.gateway import Gateway

DryRunOption = Annotated[
    bool,
    option(
        "--dry-run",
        help="Apply to a server in this process; write nothing.",
    ),
]
UnverifiedNodesOption = Annotated[
    bool,
    option(
        "--allow-unverified-nodes",
        help="Replace a credential even if some nodes cannot be verified.",
    ),
]
VerifyOption = Annotated[
    bool,
    option(
        "--verify",
        help="With --dry-run: have the real token service mint for each role.",
    ),
]
RequireVerifiedOption = Annotated[
    bool,
    option(
        "--require-verified",
        help="Also exit 3 if a role could not be verified.",
    ),
]
_AGAIN = "run the same command again: it resumes where this run stopped"
_AGAIN_PLANNED = "plan what is left, and apply that: skyflowctl plan --out FILE"
_RESULT_STYLE = {"done": "green", "failed": "red"}


@command(
    examples=[
        ("skyflowctl apply", "show the plan, ask, then apply it"),
        ("skyflowctl apply -y -o json", "in a pipeline"),
        ("skyflowctl plan --out p.json && skyflowctl apply p.json", "apply a reviewed plan"),
        ("skyflowctl apply --prune", "also delete what left the manifest"),
        ("skyflowctl apply --dry-run", "simulate the apply on a server in this process"),
    ],
    exits=WRITE_EXITS,
)
def apply(
    target: RequiringTargetOptions,
    permits: PermitOptions,
    references: ReferenceOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    parallelism: ParallelismOption = 10,
    yes: YesOption = False,
    no_input: NoInputOption = False,
    dry_run: DryRunOption = False,
    verify: VerifyOption = False,
    allow_host: AllowHostOption = None,
    allow_unverified_nodes: UnverifiedNodesOption = False,
    require_verified: RequireVerifiedOption = False,
    audit: AuditOption = None,
) -> None:
    """Show the plan, ask for confirmation, and carry it out, with several mounts at once. Every
    role of the manifest mints once: a role that the token service refuses causes exit 3. If
    an apply was interrupted or failed in part, run it again. Instead of mounts, the argument may be
    a plan that plan --out saved: it is made again, and applied without a question if nothing
    differs. A saved plan can be applied once; if changes wait for approvals, run the same command
    again."""

    request = ApplyRequest(
        target,
        PlanRequest(file, mounts, permits, references, allow_host, parallelism, audit),
        yes=yes,
        no_input=no_input,
        unverified_nodes=allow_unverified_nodes,
        verify=verify,
        require_verified=require_verified,
    )
    run_command("apply", output, partial(_rehearse if dry_run else _work, request), _view)


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """The request of one apply.

    Args:
        target: the server.
        plan: what is planned and applied.
        yes: do not ask for a confirmation.
        no_input: never ask.
        unverified_nodes: replace a credential although some nodes cannot be asked.
        verify: in a dry run, let each role mint at the token service.
        require_verified: a role that could not be tried is an error.
        from_file: the plan is a saved one, which is used up by the apply.
    """

    target: RequiringTargetOptions
    plan: PlanRequest
    yes: bool
    no_input: bool
    unverified_nodes: bool
    verify: bool
    require_verified: bool
    from_file: bool = False


def _rehearse(request: ApplyRequest, run: CommandRun) -> CommandResult:
    from skyflowctl.cli.commands.apply.dry_run import rehearse

    if saved_plans.plan_file_of(request.plan.mounts):
        raise saved_plans.stands_alone("--dry-run")
    return rehearse(request, run)


def _work(request: ApplyRequest, run: CommandRun) -> CommandResult:
    if request.verify:
        raise UsageError(
            "--verify is only for --dry-run",
            why="an apply itself tries every role when it is done",
            fix="add --dry-run, or leave out --verify",
            code="contradiction",
        )
    saved = saved_plans.named_plan(request.plan, run)
    if saved is not None:  # who reviewed it has confirmed it
        plan = saved_plans.saved_request(saved, request.plan)
        request = replace(request, plan=plan, yes=True, from_file=True)
    loaded = manifests.load_named_manifest(request.plan.file, run)
    digest = saved.digest if saved is not None else ""
    with gateways.open_gateway(request.target, run, loaded.manifest.id, digest) as gateway:
        if saved is not None:
            saved.check_server(gateway)
        live = plan_live(request.plan, loaded, gateway, run)
        planned = live.result
        try:
            if saved is not None:
                is_begun = partial(gateways.has_parked_of, digest, request.target, gateway)
                saved_plans.check_still_same(saved, live, run, is_begun)
            _require_approval(live, request)
            doubts = _ask(planned, gateway, run, request)
        except _NotConfirmedError as error:
            return _refused(planned, error, _not_shown(planned.plan.warnings))
        except (NotPermittedError, RefusedError) as error:
            return _refused(planned, error, planned.plan.warnings)
        told = replace(planned.plan, warnings=(*planned.plan.warnings, *doubts))
        return _carry_out(replace(live, result=replace(planned, plan=told)), run, request)


def _require_approval(live: LivePlan, request: ApplyRequest) -> None:
    from skyflowctl.operations.guarded_plan import refuse_guards_without_effect, require_approvals

    refuse_guards_without_effect(live.result.plan.actions, live.gateway)
    if request.target.require_approval:
        require_approvals(live.result.plan.actions, live.gateway, request.plan.parallelism)


class _NotConfirmedError(RefusedError):
    """The confirmation was refused or not answered; the warnings were printed before it."""


def _not_shown(warnings: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the warnings that were not printed before the question."""
    from skyflowctl.planner.plan import MOVES, TAKES_OVER

    return tuple(one for one in warnings if one.code not in {MOVES, TAKES_OVER})


def _ask(
    planned: "PlanResult", gateway: "Gateway", run: CommandRun, request: ApplyRequest
) -> tuple[Problem, ...]:
    """Show the plan on stderr and ask for confirmation; an empty plan needs none.

    Returns:
        A warning if it is unknown what this login may do.

    Raises:
        RefusedError: the plan leaves mounts out.
        NotPermittedError: this login may not do all of the plan.
        _NotConfirmedError: it was not confirmed.
    """
    from skyflowctl.cli.commands.plan_view import plan_json, show_plan
    from skyflowctl.cli.problems import show_warnings
    from skyflowctl.operations.apply import refuse_plan
    from skyflowctl.operations.preflight import refuse_unpermitted
    from skyflowctl.planner.plan import MOVES, TAKES_OVER
    from skyflowctl.planner.prune import object_path

    server = gateway.transport.server.name

    if planned.plan.empty and not (planned.plan.left_out or planned.plan.prune_refused):
        refuse_plan(planned)
        return ()
    run.notice(f"server: {server}")
    if not run.terminal.quiet and not run.json:
        show_plan(
            run.terminal.given.complete_data(plan_json(planned.plan, planned.impact)),
            replace(run.terminal, out=run.terminal.err),
        )
    refuse_plan(planned)
    doubts = refuse_unpermitted(planned, gateway)
    serious = [one for one in planned.plan.warnings if one.code in {MOVES, TAKES_OVER}]
    show_warnings(serious, run.terminal)
    taken = sum(one.code == TAKES_OVER for one in serious)
    named = [*_moves(planned), *([f"taking over {counted(taken, 'object')}"] if taken else [])]
    deleted = [object_path(action) for action in planned.plan.deletes]
    for path in deleted:
        run.notice(f"deletes {path}")
    named += [f"deleting {counted(len(deleted), 'object')}"] if deleted else []
    also = f", {', '.join(named)}," if named else ""
    question = f"Apply {counted(len(planned.plan.actions), 'change')}{also} to {server}?"
    try:
        run.confirm(question, yes=request.yes, no_input=request.no_input)
    except RefusedError as error:
        raise _NotConfirmedError.of(error.problems) from error
    return doubts


def _moves(planned: "PlanResult") -> Iterator[str]:
    """Yield what the question says about each mount that is moved."""
    protected = {mount.name for mount in planned.mounts if mount.protect}
    for action in planned.plan.actions:
        if action.action == "move":
            which = "the protected " if action.mount in protected else ""
            yield f"moving {which}{action.body['from']} to {action.body['to']}"


def _refused(
    planned: "PlanResult",
    error: NotPermittedError | RefusedError,
    warnings: tuple[Problem, ...],
) -> CommandResult:
    """Return the plan that was not begun as data, with the reason."""
    from skyflowctl.cli.commands.plan_view import plan_json

    begun_none = {"result": "skipped", "request_id": ""}
    actions = [{**action.to_json(), **begun_none} for action in planned.plan.actions]
    data = {**plan_json(planned.plan, planned.impact), "actions": actions}
    status: Literal["refused", "error"] = "refused"
    if isinstance(error, NotPermittedError):
        status = "error"
    return CommandResult(data, status, error.exit_code, error.problems, warnings)


def _carry_out(live: LivePlan, run: CommandRun, request: ApplyRequest) -> CommandResult:
    from skyflowctl.cli.commands.apply.progress import progress
    from skyflowctl.cli.commands.plugin.upgrading import apply_upgrader
    from skyflowctl.cli.context.dev_stack import with_audit_devices
    from skyflowctl.cli.context.rotation import replacer_for
    from skyflowctl.executor.stop import stop_on_signals
    from skyflowctl.operations.apply import apply as carry_out

    planned, gateway, source = live.result, live.gateway, live.source
    with (
        progress(len(planned.plan.actions), run.terminal) as shown,
        stop_on_signals(shown.stopping) as stop,
    ):
        gateway.transport.stop_waiting_when(lambda: stop.asked)
        replacer = replacer_for(
            gateway, source, run, stop, shown.notice, unverified_nodes=request.unverified_nodes
        )
        done = carry_out(
            planned,
            with_audit_devices(gateway, source),
            source,
            replacer,
            parallelism=request.plan.parallelism,
            on_event=shown,
            stop=stop,
            require_verified=request.require_verified,
            upgrader=apply_upgrader(planned, gateway, shown.notice),
        )
    if not planned.plan.empty:
        run.notice(f"run {run.id}: the server's audit log shows this id at every request")
    code, problems = done.exit_code, done.problems
    if done.outcome.interrupted:
        terminated = stop.signal == signal.SIGTERM
        code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED
        again = _AGAIN_PLANNED if request.from_file else _AGAIN
        problems = (*problems, _stopped(done, "SIGTERM" if terminated else "SIGINT", again))
    # A rotation that was rolled back exits with 3, even if it was the only change.
    status = "partial" if code == ExitCode.PARTIAL else done.status
    return CommandResult(_data(done), status, code, problems, _not_shown(done.warnings))


def _stopped(done: "ApplyResult", cause: str, fix: str) -> Problem:
    """Return the problem that names the work that a signal stopped."""
    left = sum(one.result == "skipped" for one in done.outcome.results)
    return Problem(
        "terminated" if cause == "SIGTERM" else "interrupted",
        f"the apply was stopped: {counted(left, 'change')} not begun",
        f"{cause} arrived; what had begun was finished",
        fix,
    )


def _data(done: "ApplyResult") -> dict[str, Any]:
    from skyflowctl.cli.commands.plan_view import plan_json

    actions = [
        {**one.action.to_json(), "result": one.result, "request_id": one.request_id}
        | ({"pending": one.pending.to_json()} if one.pending else {})
        | ({"sent_by_run": one.sent_by_run} if one.sent_by_run else {})
        for one in done.outcome.results
    ]
    warnings = [problem_json(warning) for warning in done.warnings]
    whole = plan_json(done.planned.plan, done.planned.impact)
    summary = {**whole["summary"], **done.outcome.counts()}
    verified = [
        {"mount": one.mount, "role": one.role, "result": one.result} for one in done.verified
    ]
    return {
        **whole,
        "actions": actions,
        "warnings": warnings,
        "summary": summary,
        "verified": verified,
        "not_tried": [{"mount": mount, "role": role} for mount, role in done.not_tried],
    }


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.vault.permissions import MISSING_PERMISSIONS

    unpermitted = any(one.code == MISSING_PERMISSIONS for one in result.problems)
    if (result.status == "refused" or unpermitted) and "dry_run" not in result.data:
        return  # the plan was shown before it was refused; the reasons follow
    if "dry_run" in result.data:
        from skyflowctl.cli.commands.apply.dry_run import show_sandbox

        show_sandbox(result.data, terminal)
        return
    actions = result.data["actions"]
    for one in actions:
        if one["result"] != "done":
            style = _RESULT_STYLE.get(one["result"], "yellow")
            terminal.line(Styled(one["result"], style), f"  {one['path']}")
    done = sum(one["result"] == "done" for one in actions)
    from skyflowctl.cli.commands.plan_view import no_changes, not_compared_line, show_drift

    if not actions or terminal.quiet:
        show_drift(result.data, terminal)
    doubt = not_compared_line(result.data)
    if not actions and (result.problems or result.data["drift"]):
        right = counted(result.data["summary"]["unchanged"], "object is", "objects are")
        terminal.line(Styled("Nothing was changed:", "bold yellow"), f" {right} right{doubt}.")
    elif not actions:
        terminal.line(*no_changes(result.data))
    else:
        style = "bold green" if done == len(actions) and not doubt else "bold yellow"
        terminal.line(Styled(f"Applied {done} of {len(actions)} changes{doubt}.", style))
    left = len(result.data.get("not_tried", ()))
    if result.data["verified"]:
        _show_verified(result.data["verified"], left, terminal)
    elif left and done < len(actions):
        terminal.line(Styled(f"None of {counted(left, 'role')} was tried.", "bold yellow"))


def _show_verified(verified: list[Mapping[str, Any]], left: int, terminal: Terminal) -> None:
    """Write how many roles gave a token, were tried in vain, or were not tried."""
    well = sum(one["result"] == "ok" for one in verified)
    doubt = sum(one["result"] == "unproven" for one in verified)
    every = len(verified) + left
    style = "bold green" if well == every else "bold yellow"
    more = f" {counted(doubt, 'role')} could not be tried." if doubt else ""
    more += f" {left} not tried." if left else ""
    terminal.line(Styled(f"{well} of {every} roles mint.", style), more)
