"""``skyflowctl audit tail``."""

from contextlib import suppress
from typing import Annotated, Literal

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.audit import options
from skyflowctl.cli.commands.audit.options import (
    DevOption,
    FilterOptions,
    LogsArgument,
    PluginOption,
    RowsOutputOptions,
)
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OUTPUT_PANEL, option
from skyflowctl.cli.runner import STOPS, CommandRun, run_command, stop_code
from skyflowctl.errors import ExitCode
from skyflowctl.frozen import dataclass


@dataclass(frozen=True, slots=True)
class TailOutputOptions(RowsOutputOptions):
    """The same with the formats of SIEMs."""

    format: Annotated[
        Literal["table", "json", "ndjson", "csv", "ocsf", "ecs", "cef"],
        option(
            "-o",
            "--output",
            help="table, json, ndjson, csv; for a SIEM: ocsf, ecs or cef, an event per line.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # more forms than elsewhere, on purpose


@command(
    examples=[
        ("skyflowctl audit tail audit.log", "the newest 20 requests"),
        ("skyflowctl audit tail -f --dev --outcome denied", "denied requests as they happen"),
        ("skyflowctl audit tail -f n1=a/audit.log n2=b/audit.log", "every node of a cluster"),
        ("skyflowctl audit tail -f audit.log -o ocsf >> events", "for a SIEM"),
        (
            "skyflowctl audit tail -f audit.log -o json | jq .app",
            "for programs, one request per line",
        ),
    ],
    exits=[ExitCode.INVALID, ExitCode.INTERRUPTED, ExitCode.TERMINATED],
    env=["SKYFLOWCTL_AUDIT_LOG"],
)
def tail(
    output: TailOutputOptions,
    filters: FilterOptions,
    logs: LogsArgument = None,
    *,
    rows: Annotated[
        int,
        option("-n", "--rows", help="Number of rows (default 20).", metavar="N", min=0, max=10_000),
    ] = 20,
    follow: Annotated[
        bool, option("-f", "--follow", help="Print new requests as they are logged.")
    ] = False,
    dev: DevOption = False,
    plugin: PluginOption = None,
) -> None:
    """Show the newest requests for tokens and signatures, one row each, in the form of 'audit
    who'. With -f, also show new requests, until interrupted; log rotation by rename and by
    copytruncate is followed. Only the last 64 MiB of each log are read: use 'audit who' for
    compressed logs.

    When a request is shown, it is not yet known who unwraps a wrapped token."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.audit.tail import Tail
        from skyflowctl.cli.commands.audit.rows import ReaderGoneError, RowWriter
        from skyflowctl.cli.commands.audit.view import scan_counts

        patterns = options.log_patterns(logs, dev=dev)
        query = options.query_of(filters, run.clock.now())
        sources = options.open_logs(patterns)
        newest = Tail(sources, query, options.plugin_names(plugin), rows=rows, following=follow)
        writer = RowWriter(run, "ndjson" if output.json else output.format)
        code = ExitCode.OK
        try:
            newest.run(writer.add_now if follow else writer.add)
            writer.flush()
        except ReaderGoneError:
            pass
        except STOPS as stop:
            code = stop_code(stop)
            with suppress(ReaderGoneError):
                writer.flush()
        summary = {"shown": writer.written, "read": scan_counts(newest.counts())}
        return CommandResult({"summary": summary}, exit_code=code)

    run_command("audit tail", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    if result.exit_code == ExitCode.OK and not result.data["summary"]["shown"]:
        terminal.note("no such request")
