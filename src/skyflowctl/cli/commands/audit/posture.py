"""``skyflowctl audit posture``."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult, Status, safe_json
from skyflowctl.cli.options import (
    OUTPUT_PANEL,
    FileOption,
    OutputOptions,
    ParallelismOption,
    TargetOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.posture.facts import Exercised
    from skyflowctl.posture.model import PostureReport, Severity

GradeName = Literal["critical", "high", "medium", "low", "info"]
FailOnOption = Annotated[
    GradeName,
    option(
        "--fail-on", help="Lowest severity that causes exit 6 (default critical).", metavar="GRADE"
    ),
]
AllowUncheckedOption = Annotated[
    bool,
    option(
        "--allow-unchecked",
        help="Accept a partial check: list what could not be read, without exit 6.",
    ),
]
MaxReadersOption = Annotated[
    int,
    option(
        "--max-readers",
        help="Maximum number of logins that may read a role's tokens (default 5).",
        metavar="N",
        min=0,
    ),
]


@dataclass(frozen=True, slots=True)
class PostureOutputOptions(OutputOptions):
    """The same with one more form, for scanners and dashboards."""

    format: Annotated[
        Literal["table", "json", "sarif"],
        option(
            "-o",
            "--output",
            help="table, json or sarif (SARIF 2.1.0); default table.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # one form more than elsewhere, on purpose


LogOption = Annotated[
    list[str] | None,
    option(
        "--log",
        help="Audit log files, to find unused roles: a path, a glob, NODE=PATH; repeatable.",
        metavar="PATTERN",
    ),
]


ProfileOption = Annotated[
    Literal["pci", "soc2", "hipaa", "gdpr"] | None,
    option(
        "--profile",
        help="Also show which checks support which control: pci, soc2, hipaa or gdpr. It is no "
        "claim of compliance.",
        panel=OUTPUT_PANEL,
        metavar="NAME",
    ),
]


@command(
    examples=[
        ("skyflowctl audit posture", "all checks that need only the server"),
        ("skyflowctl audit posture -f mounts.yaml", "also compare with the manifest"),
        ("skyflowctl audit posture --fail-on high -q", "in a nightly job: exit 6"),
        ("skyflowctl audit posture --log '/var/log/openbao/audit.log*'", "also find unused roles"),
        ("skyflowctl audit posture --profile pci -o json > pci.json", "by control, for auditors"),
    ],
    exits=[ExitCode.NOT_PERMITTED, ExitCode.UNHEALTHY, ExitCode.INVALID],
)
def posture(
    target: TargetOptions,
    output: PostureOutputOptions,
    *,
    file: FileOption = None,
    fail_on: FailOnOption = "critical",
    allow_unchecked: AllowUncheckedOption = False,
    log: LogOption = None,
    max_readers: MaxReadersOption = 5,
    profile: ProfileOption = None,
    parallelism: ParallelismOption = 10,
) -> None:
    """Check the security of the setup: audit devices, TLS, seal, the engine on every node, the
    age of keys, and who can read which tokens, computed from the server's policies. Every
    finding has a severity, a reason, the evidence and a fix.

    Exit 6 means a critical finding (--fail-on is stricter), or a core part that could not be
    read: the mounts and their configs, audit devices, policies, the plugin catalog.

    The command only reads. If this login lacks a permission, the missing policy rule is
    printed. Name every node with --node: other nodes are not checked."""
    kept: list[dict[str, Any]] = []

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.cli.commands.audit.posture_view import posture_json
        from skyflowctl.posture.controls import profile_json
        from skyflowctl.posture.model import Severity
        from skyflowctl.posture.sarif import to_sarif

        limits = _Limits(max_readers, parallelism)
        report, server = _ask(target, file, log, limits, run)
        kept.append(to_sarif(report, server=server))
        limit = Severity(fail_on)
        problems = list(_problems(report, limit, allow_unchecked=allow_unchecked))
        status: Status = "unhealthy" if problems else "ok"
        code = ExitCode.UNHEALTHY if problems else ExitCode.OK
        data = {**posture_json(report, server), "profile": None}
        if profile is not None:
            data["profile"] = profile_json(profile, report)
        return CommandResult(data, status, code, problems)

    def view(result: CommandResult, terminal: Terminal) -> None:
        from skyflowctl.cli.commands.audit.posture_view import show_posture

        if output.format == "sarif":
            terminal.raw(safe_json(kept[0]) + "\n")
        else:
            show_posture(result.data, terminal)

    run_command("audit posture", output, work, view)


@dataclass(frozen=True, slots=True)
class _Limits:
    max_readers: int
    parallelism: int


def _ask(
    target: TargetOptions,
    file: Sequence[str] | None,
    log: Sequence[str] | None,
    limits: _Limits,
    run: CommandRun,
) -> "tuple[PostureReport, str]":
    from skyflowctl.operations.posture import PostureRequest
    from skyflowctl.operations.posture import posture as ask

    loaded = manifests.optional_manifest(file, run)
    manifest = loaded.manifest if loaded else None
    plugin_name = manifest.plugin.name if manifest else DEFAULT_PLUGIN
    with gateways.open_gateway(target, run) as gateway:
        server = gateway.transport.server
        question = PostureRequest(
            addresses=server.addresses or (server.name,),
            checks_certificates=server.checks_certificates,
            manifest=manifest,
            plugin_name=plugin_name,
            exercised=_exercised(log, plugin_name, server.namespace),
            max_readers=limits.max_readers,
            parallelism=limits.parallelism,
        )
        report = ask(gateway, question, connect=gateways.connect_node(gateway), clock=run.clock)
    return report, server.address


def _exercised(log: Sequence[str] | None, plugin_name: str, namespace: str) -> "Exercised | None":
    if not log:
        return None
    from skyflowctl.operations.audit_exercised import exercised

    stdin = sys.stdin.buffer
    return exercised(log, plugin_name=plugin_name, namespace=namespace, stdin=stdin)


def _problems(
    report: "PostureReport", limit: "Severity", *, allow_unchecked: bool
) -> Iterator[Problem]:
    """Yield why the check failed: the findings, and what could not be read."""
    counting = report.failing(limit, allow_unchecked=allow_unchecked)
    missed = sum(one.unchecked for one in counting)
    if len(counting) > missed:
        yield Problem(
            "posture",
            f"the setup has findings: {counted(len(counting) - missed, 'finding')}",
            f"of the grade {limit.value}" + ("" if limit.rank == 0 else " or worse"),
            "each finding names its own fix; run the command again afterwards",
        )
    if missed:
        yield Problem(
            "posture-unchecked",
            f"the result is incomplete: {counted(missed, 'part')} not checked",
            "what could not be checked may be in any state",
            "give this login the policy that is listed; for a partial look: --allow-unchecked",
        )
