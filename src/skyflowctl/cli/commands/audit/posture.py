"""``skyflowctl audit posture``."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.audit.evidence import check_evidence
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


EvidenceOption = Annotated[
    str | None,
    option(
        "--evidence",
        help="Also write question, answer, tables, SARIF and digests to this folder, for auditors.",
        panel=OUTPUT_PANEL,
        metavar="DIR",
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
        ("skyflowctl audit posture --profile pci --evidence pci", "by control, for auditors"),
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
    evidence: EvidenceOption = None,
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
        from skyflowctl.posture.model import Severity

        check_evidence(evidence)
        limits = _Limits(max_readers, parallelism)
        report, server = _ask(target, file, log, limits, run)
        data, sarif = _answers(report, server, profile)
        kept.append(sarif)
        problems = list(_problems(report, Severity(fail_on), allow_unchecked=allow_unchecked))
        status: Status = "unhealthy" if problems else "ok"
        code = ExitCode.UNHEALTHY if problems else ExitCode.OK
        if evidence is not None:
            question = {"server": server, "profile": profile, "max_readers": max_readers}
            _keep(evidence, run, {**question, "logs": list(log or ())}, data, sarif)
        return CommandResult(data, status, code, problems)

    def view(result: CommandResult, terminal: Terminal) -> None:
        from skyflowctl.cli.commands.audit.posture_view import show_posture

        if output.format == "sarif":
            terminal.raw(safe_json(kept[0]) + "\n")
        else:
            show_posture(result.data, terminal)

    run_command("audit posture", output, work, view)


def _answers(
    report: "PostureReport", server: str, profile: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report's data for JSON, and its SARIF log."""
    from skyflowctl.cli.commands.audit.posture_view import posture_json
    from skyflowctl.posture.controls import PROFILES, profile_json
    from skyflowctl.posture.sarif import to_sarif

    data = {
        **posture_json(report, server),
        "profile": profile_json(profile, report) if profile is not None else None,
    }
    controls = PROFILES[profile] if profile is not None else None
    return data, to_sarif(report, server=server, profile=controls)


def _keep(
    folder: str,
    run: CommandRun,
    question: Mapping[str, Any],
    data: Mapping[str, Any],
    sarif: Mapping[str, Any],
) -> None:
    """Write the report as evidence: it is of this moment, and no later run has the same bytes."""
    from skyflowctl.audit.evidence import Evidence, write_evidence
    from skyflowctl.cli.commands.audit.posture_view import posture_tables

    now = run.clock.now()
    found = Evidence(
        run.command,
        question,
        (),
        None,
        now,
        now,
        data,
        posture_tables(data),
        (("posture.sarif", safe_json(sarif) + "\n"),),
    )
    write_evidence(Path(folder), found)
    run.notice(f"wrote the evidence to {folder} (sha256sum -c SHA256SUMS checks it)")


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
