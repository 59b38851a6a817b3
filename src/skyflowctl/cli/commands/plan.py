"""``skyflowctl plan``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.review import Reviewed, ReviewOutputOptions, ReviewViews, run_review
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.context.planning import PlanRequest, plan_live
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.markdown import MarkdownPage
from skyflowctl.cli.options import (
    AllowHostOption,
    FileOption,
    MountsArgument,
    ParallelismOption,
    ReferenceOptions,
    TargetOptions,
    option,
)
from skyflowctl.cli.plan_options import AuditOption, PermitOptions
from skyflowctl.cli.printed_commands import shell_words
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import ExitCode, Problem

if TYPE_CHECKING:
    from skyflowctl.manifest.load import LoadedManifest
    from skyflowctl.operations.plan import PlanResult
    from skyflowctl.operations.saved_plan import SavedPlan
    from skyflowctl.planner.plan import Plan
    from skyflowctl.vault.gateway import Gateway

DetailedOption = Annotated[
    bool, option("--detailed-exitcode", help="Exit 2 if changes are pending or the server drifted.")
]

OutOption = Annotated[
    str | None,
    option("--out", help="Save the plan to this file, for a review and apply.", metavar="FILE"),
]

PermissionsOption = Annotated[
    bool,
    option(
        "--check-permissions", help="Warn of each permission that this login lacks to apply it."
    ),
]


@command(
    examples=[
        ("skyflowctl plan", "what apply would do with ./mounts.yaml"),
        (
            "skyflowctl plan --detailed-exitcode || { [ $? = 2 ] && echo drift; }",
            "in a nightly job: 2 is drift or pending changes, anything else an error",
        ),
        (
            "skyflowctl plan --prune --audit 'audit.log*'",
            "also what apply --prune would delete, and who used that",
        ),
        (
            "skyflowctl plan --out plan.json --check-permissions",
            "save it, to be reviewed and applied; also what this login may not do of it",
        ),
        ("skyflowctl plan -o markdown > plan.md", "for a merge request or a step summary"),
    ],
    exits=[
        ExitCode.CHANGES,
        ExitCode.PARTIAL,
        ExitCode.NOT_PERMITTED,
        ExitCode.REFUSED,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
    ],
)
def plan(
    target: TargetOptions,
    permits: PermitOptions,
    references: ReferenceOptions,
    output: ReviewOutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    parallelism: ParallelismOption = 10,
    detailed_exitcode: DetailedOption = False,
    out: OutOption = None,
    check_permissions: PermissionsOption = False,
    audit: AuditOption = None,
    allow_host: AllowHostOption = None,
) -> None:
    """Read the server and the manifest's credentials, and show each field that apply would
    change. Nothing is written, and only the key id of a credential is kept. Differences that
    apply does not fix are drift: cut-offs, open rotations, moved mounts, undeclared roles and
    mounts. A mount that may not be changed causes a warning and counts as a pending change. A
    mount or credential that cannot be read makes the plan partial. What the server says of
    permissions covers no rules about parameters, control groups and quotas. A saved plan has no
    secret, and can be applied for 24 hours, as long as files, credentials and server are as they
    were."""
    request = PlanRequest(file, mounts, permits, references, allow_host, parallelism, audit)
    reviewed = Reviewed()

    def work(run: CommandRun) -> CommandResult:
        loaded = _loaded(file, out, run)
        reviewed.add_manifest(loaded)
        with gateways.open_gateway(target, run) as gateway:
            reviewed.server = gateway.transport.server.name
            run.notice(f"server: {gateway.transport.server.name}")
            live = plan_live(request, loaded, gateway, run)
            if check_permissions:
                live = replace(live, result=_with_permissions(live.result, gateway))
            result = _result(live.result, detailed=detailed_exitcode, asked=check_permissions)
            if out is None:
                return result
            if live.result.refused or live.result.plan.unreadable:
                return _not_saved(result)
            from skyflowctl.cli.context import saved_plans

            saved = saved_plans.saved_plan(live, run)
        saved_plans.write_plan_file(out, saved)
        return _with_file(result, out, saved)

    run_review("plan", output, work, _views(reviewed), reviewed)


def _with_permissions(planned: "PlanResult", gateway: "Gateway") -> "PlanResult":
    """Return the plan with a warning of what this login lacks to apply it; one more request."""
    from skyflowctl.operations.preflight import plan_permission_problems

    found = plan_permission_problems(planned, gateway)
    plan = replace(planned.plan, warnings=(*planned.plan.warnings, *found))
    return replace(planned, plan=plan)


_GRANTED = (
    "Permissions: this login may do all of the plan; rules about parameters, control groups and "
    "quotas are not covered."
)


def _views(reviewed: Reviewed) -> ReviewViews:
    from skyflowctl.cli.commands.plan_markdown import plan_findings, plan_page

    def page(result: CommandResult, page: MarkdownPage) -> None:
        plan_page(result, page, reviewed.server)

    return ReviewViews(_view, page, plan_findings)


def _loaded(file: Sequence[str] | None, out: str | None, run: CommandRun) -> "LoadedManifest":
    """Return the manifest, after a check that its plan can be saved if that was asked for."""
    if out is None:
        return manifests.load_named_manifest(file, run)
    from skyflowctl.cli.context.saved_plans import check_plan_file
    from skyflowctl.operations.saved_plan import check_savable

    check_plan_file(out)
    loaded = manifests.load_named_manifest(file, run)
    check_savable(loaded)
    return loaded


def _not_saved(result: CommandResult) -> CommandResult:
    """Return the result of a plan that no apply would carry out; its problems say why."""
    warning = Problem(
        "plan-not-saved",
        "the plan was not saved",
        "an apply would refuse it, or would not do all of it",
        "see the other messages",
    )
    warnings = (*result.warnings, warning)
    return replace(result, data={**result.data, "saved": None}, warnings=warnings)


def _with_file(result: CommandResult, path: str, saved: "SavedPlan") -> CommandResult:
    where = {"path": path, "expires_at": saved.expires_at, "sha256": saved.document["sha256"]}
    return replace(result, data={**result.data, "saved": where})


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.plan_view import show_plan

    show_plan(result.data, terminal)
    if result.data.get("permissions") == "granted":
        terminal.wrapped(_GRANTED)
    if saved := result.data.get("saved"):
        terminal.note(f"saved to {saved['path']}, valid until {saved['expires_at']}; to apply it:")
        terminal.note(f"  skyflowctl apply {shell_words([saved['path']])}")


def _permissions(plan: "Plan") -> str:
    """Return what the server answered about this login; of an empty plan it is not asked."""
    from skyflowctl.vault.permissions import MISSING_PERMISSIONS

    codes = {warning.code for warning in plan.warnings}
    if MISSING_PERMISSIONS in codes:
        return "missing"
    if "permissions-unknown" in codes:
        return "unknown"
    return "granted" if plan.actions else "none_needed"


def _result(planned: "PlanResult", *, detailed: bool, asked: bool) -> CommandResult:
    """Return the result; a plan that an apply would refuse is not empty."""
    from skyflowctl.cli.commands.plan_view import plan_json

    plan = planned.plan
    data = plan_json(plan, planned.impact)
    if asked:
        data["permissions"] = _permissions(plan)
    if refused := plan.prune_refused:
        return CommandResult(data, "refused", ExitCode.REFUSED, refused, plan.warnings)
    if planned.live.all_forbidden:
        return CommandResult(data, "error", ExitCode.NOT_PERMITTED, plan.unreadable, plan.warnings)
    if plan.unreadable:
        return CommandResult(data, "partial", ExitCode.PARTIAL, plan.unreadable, plan.warnings)
    if plan.clean:
        return CommandResult(data, warnings=plan.warnings)
    code = ExitCode.CHANGES if detailed else ExitCode.OK
    return CommandResult(data, "changes", code, warnings=plan.warnings)
