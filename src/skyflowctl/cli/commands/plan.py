"""``skyflowctl plan``."""

from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli import manifests, wiring
from skyflowctl.cli.command import command
from skyflowctl.cli.envelope import Result
from skyflowctl.cli.options import (
    AllowHostOption,
    FileOption,
    OutputOptions,
    ParallelismOption,
    ReplaceCredentialOption,
    TargetOptions,
    option,
)
from skyflowctl.cli.run import Run, run_command
from skyflowctl.errors import ExitCode

if TYPE_CHECKING:
    from skyflowctl.planner.plan import Plan

DetailedOption = Annotated[
    bool, option("--detailed-exitcode", help="Exit 2 when changes are pending.")
]


@command(
    examples=[
        ("skyflowctl plan", "what apply would do with ./mounts.yaml"),
        ("skyflowctl plan --dev", "on the dev stack"),
        ("skyflowctl plan --detailed-exitcode -q || echo drift", "in a nightly job"),
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
    output: OutputOptions,
    *,
    file: FileOption = None,
    parallelism: ParallelismOption = 10,
    detailed_exitcode: DetailedOption = False,
    replace_credential: ReplaceCredentialOption = None,
    allow_host: AllowHostOption = None,
) -> None:
    """Read the server and the manifest's credentials, and show field by field what apply
    would change. Writes nothing. A credential is shown as its key id and then dropped.
    Mounts that may not be touched are warnings, and pending; a mount that can't be read
    makes it partial."""
    from skyflowctl.cli.render.plan import show_plan

    def work(run: Run) -> Result:
        from skyflowctl.operations.plan import plan as make

        manifest = manifests.load_manifest(file, run).manifest
        with wiring.open_gateway(target, run) as gateway:
            run.notice(f"server: {wiring.server_name(gateway)}")
            planned = make(
                manifest,
                gateway,
                wiring.credentials_for(manifest, gateway, run, allow_host),
                parallelism=parallelism,
                replace_credential=frozenset(replace_credential or ()),
            ).plan
        return _result(planned, detailed=detailed_exitcode)

    run_command("plan", output, work, lambda result, terminal: show_plan(result.data, terminal))


def _result(plan: "Plan", *, detailed: bool) -> Result:
    """A plan that an apply would refuse is no empty one: it is not as the manifest says."""
    from skyflowctl.cli.render.plan import plan_json

    data = plan_json(plan)
    if plan.unreadable:
        return Result(data, "partial", ExitCode.PARTIAL, plan.unreadable, plan.warnings)
    if plan.empty and not plan.left_out:
        return Result(data, warnings=plan.warnings)
    code = ExitCode.CHANGES if detailed else ExitCode.OK
    return Result(data, "changes", code, warnings=plan.warnings)
