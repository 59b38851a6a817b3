"""``skyflowctl plan``."""

from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import command
from skyflowctl.cli.context import credential_sources, gateways, manifests
from skyflowctl.cli.context.plan_options import plan_options
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    AllowHostOption,
    FileOption,
    MountsArgument,
    OutputOptions,
    ParallelismOption,
    ReferenceOptions,
    TargetOptions,
    option,
)
from skyflowctl.cli.plan_options import PermitOptions
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode

if TYPE_CHECKING:
    from skyflowctl.operations.plan import PlanResult

DetailedOption = Annotated[
    bool, option("--detailed-exitcode", help="Exit 2 if changes are pending or the server drifted.")
]


@command(
    examples=[
        ("skyflowctl plan", "what apply would do with ./mounts.yaml"),
        ("skyflowctl plan order payment --dev", "two mounts, on the dev stack"),
        (
            "skyflowctl plan --detailed-exitcode || { [ $? = 2 ] && echo drift; }",
            "in a nightly job: 2 is drift or pending changes, anything else an error",
        ),
        ("skyflowctl plan --prune", "also what apply --prune would delete"),
        ("skyflowctl plan -o json | jq '.data.summary'", "for programs"),
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
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    parallelism: ParallelismOption = 10,
    detailed_exitcode: DetailedOption = False,
    allow_host: AllowHostOption = None,
) -> None:
    """Read the server and the manifest's credentials, and show each field that apply would
    change. Nothing is written, and only the key id of a credential is kept. Differences that
    apply does not fix are drift: cut-offs, open rotations, moved mounts, undeclared roles and
    mounts. A mount that may not be changed causes a warning and counts as a pending change. A
    mount or credential that cannot be read makes the plan partial."""
    from skyflowctl.cli.commands.plan_view import show_plan

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.plan import plan as make

        manifest = manifests.load_named_manifest(file, run).manifest
        with gateways.open_gateway(target, run) as gateway:
            run.notice(f"server: {gateway.transport.server.name}")
            resolver = credential_sources.reference_resolver(run, references, gateway)
            source = credential_sources.credentials_for(
                manifest, gateway, run, allow_host, resolver
            )
            planned = make(
                credential_sources.manifest_for(manifest, source, run),
                gateway,
                source,
                plan_options(manifest, mounts, permits),
                parallelism=parallelism,
            )
        return _result(planned, detailed=detailed_exitcode)

    run_command("plan", output, work, lambda result, terminal: show_plan(result.data, terminal))


def _result(planned: "PlanResult", *, detailed: bool) -> CommandResult:
    """Return the result; a plan that an apply would refuse is not empty."""
    from skyflowctl.cli.commands.plan_view import plan_json

    plan = planned.plan
    data = plan_json(plan)
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
