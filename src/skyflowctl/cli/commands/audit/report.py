"""``skyflowctl audit report``."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.audit.evidence import warn_of_spans
from skyflowctl.cli.commands.audit.options import (
    FILTER_PANEL,
    LogsArgument,
    PluginOption,
    SinceOption,
    UntilOption,
    check_stdin_once,
    log_patterns,
    mount_globs,
    named_namespace,
    open_logs,
)
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    OUTPUT_PANEL,
    FileOption,
    OptionGroup,
    OutputOptions,
    TargetOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN

if TYPE_CHECKING:
    from datetime import datetime

    from skyflowctl.audit.model import CredentialChange
    from skyflowctl.audit.outputs import Outputs
    from skyflowctl.audit.report_model import Report, ReportSubject
    from skyflowctl.audit.sources import Sources
    from skyflowctl.operations.audit_report import KnownRoles, ReportRequest, ServerMount

ServerRolesOption = Annotated[
    bool,
    option("--server-roles", help="Read roles and ctx patterns from the server."),
]


SUBJECT_PANEL = "What the report is about"


@dataclass(frozen=True, slots=True)
class SubjectOptions(OptionGroup):
    """Names for the title."""

    cluster: Annotated[
        str | None,
        option(
            "--cluster",
            help="The cluster's name in the title (default: its id, with --server-roles).",
            panel=SUBJECT_PANEL,
            metavar="NAME",
        ),
    ] = None
    environment: Annotated[
        str | None,
        option(
            "--environment",
            help="The environment in the title (default: the mounts' tag env:NAME).",
            panel=SUBJECT_PANEL,
            metavar="NAME",
        ),
    ] = None


def _glob_option(what: str) -> Any:
    return option(
        f"--{what}",
        help=f"Only this {what}, or a glob with * and ?; repeatable.",
        panel=FILTER_PANEL,
        metavar=what.upper(),
    )


@dataclass(frozen=True, slots=True)
class ReportFilters(OptionGroup):
    """Which part of the logs. Values of one flag are alternatives; different flags add up."""

    mount: Annotated[list[str] | None, _glob_option("mount")] = None
    role: Annotated[list[str] | None, _glob_option("role")] = None
    app: Annotated[list[str] | None, _glob_option("app")] = None
    since: SinceOption = None
    until: UntilOption = None


@dataclass(frozen=True, slots=True)
class ReportOutputOptions(OutputOptions):
    """The same with CSV, and with files in addition to the output."""

    format: Annotated[
        Literal["table", "json", "csv"],
        option(
            "-o",
            "--output",
            help="table, json or csv (one row for each mount, role and app); default table.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # one form more than elsewhere, on purpose
    html: Annotated[
        str | None,
        option(
            "--html",
            help="Also write the report as one self-contained HTML page.",
            panel=OUTPUT_PANEL,
            metavar="FILE",
        ),
    ] = None
    csv: Annotated[
        str | None,
        option(
            "--csv",
            help="Also write every table as a CSV file to this folder.",
            panel=OUTPUT_PANEL,
            metavar="DIR",
        ),
    ] = None
    evidence: Annotated[
        str | None,
        option(
            "--evidence",
            help="Also write query, answer and digests to this folder. The same logs and "
            "absolute times give the same files.",
            panel=OUTPUT_PANEL,
            metavar="DIR",
        ),
    ] = None


@command(
    examples=[
        ("skyflowctl audit report '/var/log/openbao/audit.log*'", "who used what"),
        ("skyflowctl audit report audit.log --since 30d --html report.html", "as an HTML page"),
        ("skyflowctl audit report audit.log --mount 'skyflow/*' -o csv", "for a spreadsheet"),
        (
            "skyflowctl audit report n1=a.log n2=b.log --evidence case-7",
            "as evidence, with digests",
        ),
        (
            "skyflowctl audit report audit.log -f mounts.yaml",
            "also check the ctx patterns of the roles",
        ),
    ],
    exits=[
        ExitCode.NOT_PERMITTED,
        ExitCode.REFUSED,
        ExitCode.USAGE,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
    ],
)
def report(
    target: TargetOptions,
    output: ReportOutputOptions,
    only: ReportFilters,
    about: SubjectOptions,
    *,
    logs: LogsArgument = None,
    plugin: PluginOption = None,
    file: FileOption = None,
    server_roles: ServerRolesOption = False,
) -> None:
    """Summarise the server's audit logs. For each mount, role and app, the report has the
    requests, errors, distinct ctx, first and last use and busiest hour. It also lists anomalies
    and every change that affects tokens: credentials, roles, mounts, policies, plugins, audit
    devices, snapshots. Each change has its author, its run, and the values before and after if
    the log contains them.

    Anomalies are a role id changed by hand, a root token, tokens of an undeclared role, a
    jump in failures, an app's first request on a role, requests outside its usual hours, and
    a ctx that does not match the role's pattern. The report lists the rules that were
    applied, and those that were not, with the reason.

    Logs are read once, in bounded memory. Pass all of them: requests before --since are the
    baseline. Only --server-roles calls a server; the report then also lists which mounts are
    cut off, since when and why."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.audit_report import ReportRequest, build_report

        patterns = log_patterns(logs, dev=target.dev, address=target.address)
        check_stdin_once(patterns, target=target)
        start, end = _times(only, run)
        warn_of_spans(run, output.evidence, only.since, only.until)
        sources = _checked_sources(output, patterns, file)
        mounts = mount_globs(only.mount, file)
        known = _known(file, target, run, mounts, server_roles=server_roles)
        question = ReportRequest(
            logs=patterns,
            mounts=mounts,
            roles=tuple(only.role or ()),
            apps=tuple(only.app or ()),
            since=start,
            until=end,
            plugin_names=tuple(plugin or ()) or (known.plugin_name,),
            known=known.roles,
            subject=_subject(about, known, dev=target.dev),
        )
        return _result(output, question, build_report(question, sources), known, run)

    run_command("audit report", output, work, _view if output.format != "csv" else _csv)


def _result(
    output: ReportOutputOptions,
    question: "ReportRequest",
    found: "Report",
    known: "_Known",
    run: CommandRun,
) -> CommandResult:
    """Write the requested files, and return the report."""
    from skyflowctl.audit.report_json import report_json

    data = report_json(found)
    shown = found if known.cut_off is None else _with_reasons(found, known.cut_off)
    # Check again: reading the logs may take an hour, and others write here too.
    _outputs(output).check_places()
    _write_files(output, question, found, shown, run)
    # Not in the evidence, which is the same from the same logs.
    if known.cut_off is not None:
        data = {**report_json(shown), "cut_off": known.cut_off}
    return CommandResult(data, warnings=_warnings(found))


def _outputs(output: ReportOutputOptions) -> "Outputs":
    from skyflowctl.audit.outputs import Outputs

    html, csv, folder = (
        Path(given) if given else None for given in (output.html, output.csv, output.evidence)
    )
    return Outputs(html, csv, folder)


def _checked_sources(
    output: ReportOutputOptions, patterns: Sequence[str], file: Sequence[str] | None
) -> "Sources":
    """Return the logs, after checking that no log or manifest would be overwritten."""
    from skyflowctl.audit.outputs import existing_paths
    from skyflowctl.manifest.discover import existing_files

    places = _outputs(output)
    manifest = existing_paths(existing_files(tuple(file or ()), os.environ))
    places.check_inputs(manifest)
    try:
        # Digests cost as much as a third of the decoding; without a record nothing is held to them.
        sources = open_logs(patterns, digest=bool(output.html or output.evidence))
    except SkyflowctlError:
        places.check_places()
        raise
    places.check_inputs(each.path for each in sources.files if each.path is not None)
    places.check_places()
    return sources


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.audit.report_view import show_report

    show_report(result.data, terminal)


def _csv(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.audit.evidence import csv_texts
    from skyflowctl.audit.report_json import report_tables

    for line in csv_texts(report_tables(result.data)[0]):
        terminal.raw(line)


@dataclass(frozen=True, slots=True)
class _Known:
    """The data that does not come from the logs."""

    plugin_name: str
    roles: "KnownRoles | None" = None
    cluster: str = ""
    environment: str = ""
    cut_off: list[dict[str, str]] | None = None


def _known(
    file: Sequence[str] | None,
    target: TargetOptions,
    run: CommandRun,
    mounts: tuple[str, ...],
    *,
    server_roles: bool,
) -> _Known:
    """Return the mounts' type, the expected roles and their source, and the cut-off mounts."""
    from skyflowctl.operations import audit_report as ask

    loaded = manifests.optional_manifest(file, run)
    name = loaded.manifest.plugin.name if loaded else DEFAULT_PLUGIN
    environment = ask.environment_of(loaded.manifest) if loaded else ""
    if server_roles:
        with gateways.open_gateway(target, run) as gateway:
            found = ask.server_mounts(gateway, name, mounts)
            namespace, cluster = gateway.transport.server.namespace, gateway.transport.cluster_id
            cut = [_cut_off(one, namespace) for one in found if one.revoked]
            return _Known(name, ask.server_roles(found), cluster, environment, cut)
    declared = ask.declared_roles(loaded.manifest, named_namespace(target)) if loaded else None
    return _Known(name, declared, environment=environment)


def _with_reasons(found: "Report", cut_off: Sequence[Mapping[str, str]]) -> "Report":
    """Return the report with the server's recorded reason for each cut-off."""
    reasons = {one["run"]: (one["mount"], one["reason"]) for one in cut_off if one.get("run")}

    def known(change: "CredentialChange") -> "CredentialChange":
        mount, reason = reasons.get(change.run_id, ("", ""))
        same = change.reason and reason and f"/{change.mount}".endswith(f"/{mount}")
        return replace(change, reason=reason) if same else change

    return replace(found, changes=tuple(known(change) for change in found.changes))


def _cut_off(mount: "ServerMount", namespace: str) -> dict[str, str]:
    mark = asdict(mount.revoked) if mount.revoked else {}
    return {"mount": mount.path, "namespace": namespace, "api": mount.api.name, **mark}


def _subject(about: SubjectOptions, known: _Known, *, dev: bool) -> "ReportSubject":
    """Return the subject in the title: the given names, else the known ones."""
    from skyflowctl.audit.report_model import ReportSubject

    stack = "dev stack" if dev else ""
    return ReportSubject(
        about.cluster or known.cluster or stack, about.environment or known.environment
    )


def _times(only: ReportFilters, run: CommandRun) -> "tuple[datetime | None, datetime | None]":
    from skyflowctl.audit import times

    now = run.clock.now()
    return (
        times.since(only.since, now) if only.since is not None else None,
        times.until(only.until, now) if only.until is not None else None,
    )


def _write_files(
    output: ReportOutputOptions,
    question: "ReportRequest",
    found: "Report",
    shown: "Report",
    run: CommandRun,
) -> None:
    """Write the requested files; ``shown`` includes the server's data."""
    from skyflowctl.audit.evidence import write_evidence
    from skyflowctl.audit.report_json import report_json
    from skyflowctl.operations.audit_report import report_evidence, write_file, write_tables

    data = report_json(found)
    if output.html:
        from skyflowctl.audit.html.page import render

        write_file(Path(output.html), [render(shown)])
        run.notice(f"wrote {output.html}")
    if output.csv:
        names = write_tables(Path(output.csv), data)
        run.notice(f"wrote {', '.join(names)} to {output.csv}")
    if output.evidence:
        write_evidence(Path(output.evidence), report_evidence(question, found, data))
        run.notice(
            f"wrote the evidence to {output.evidence}: check it with sha256sum -c SHA256SUMS"
        )


def _warnings(found: "Report") -> list[Problem]:
    """Return the warnings about what the report lacks."""
    from skyflowctl.audit.search import unread_warnings

    warnings = [*unread_warnings(found.counts)]
    warnings += [
        Problem(
            "limit-reached",
            limit.detail,
            f"the limit of {limit.name} is {limit.limit}",
            "ask about less: --since, --mount, --role or --app",
        )
        for limit in found.limits
    ]
    return warnings
