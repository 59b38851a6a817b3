"""``skyflowctl approvals``: requests that a control group has parked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.console import Styled, Terminal, show
from skyflowctl.cli.context import gateways
from skyflowctl.cli.envelope import CommandResult, problem_json
from skyflowctl.cli.options import (
    APPROVAL_PANEL,
    NoInputOption,
    OutputOptions,
    TargetOptions,
    YesOption,
    option,
)
from skyflowctl.cli.problems import show_warnings
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.clock import parse_rfc3339, span_text
from skyflowctl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from skyflowctl.operations.approvals import ReviewedRequest

AccessorArgument = Annotated[
    str,
    typer.Argument(
        metavar="ACCESSOR",
        help="The accessor that the requester's command printed.",
        show_default=False,
    ),
]
StoredInOption = Annotated[
    str | None,
    option(
        "--pending",
        help="List the requests in this file instead of the keyring's.",
        panel=APPROVAL_PANEL,
        metavar="FILE",
    ),
]
_NO_LIST = "the server has no list of requests: these are the ones that this machine stored"


@command(
    examples=[
        ("skyflowctl approvals list", "the requests in the OS keyring"),
        ("skyflowctl approvals list --pending pending.json", "those in a file"),
        ("skyflowctl approvals list -o json", "for programs"),
    ],
    exits=READ_EXITS,
)
def approvals_list(
    target: TargetOptions,
    output: OutputOptions,
    *,
    pending: StoredInOption = None,
) -> None:
    """List the requests that commands on this machine stored until they are approved, each with
    its state. The server has no list of the requests that it holds."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.approvals import list_stored

        _refuse_missing(pending, run)
        with gateways.open_gateway(target, run) as gateway:
            store = gateways.pending_store(pending)(gateway.sys.cluster_id())
            found = list_stored(gateway, store)
        run.notice(_NO_LIST)
        return CommandResult({"requests": found})

    run_command("approvals list", output, work, _view_list)


def _refuse_missing(pending: str | None, run: CommandRun) -> None:
    """Refuse a file in a folder that does not exist, and say so of any other missing file.

    A file is removed with its last request, so that its absence alone is no mistake.

    Raises:
        UsageError: the folder does not exist.
    """
    if pending in {None, "", "-"} or (file := Path(str(pending))).exists():
        return
    if not file.absolute().parent.is_dir():
        raise UsageError(
            f"there is no file {file}",
            why="its folder does not exist",
            fix="name the file that the command with --pending wrote",
            code="no-pending-file",
        )
    run.notice(f"there is no file {file}: it is removed with its last request")


def _refuse_empty(accessor: str) -> None:
    """Refuse an accessor of no text, such as that of an unset variable, before any request.

    Raises:
        UsageError: it is empty.
    """
    if not accessor.strip():
        raise UsageError(
            "the accessor is empty",
            why="it names the request that waits for approvals",
            fix="'skyflowctl approvals list' shows the accessors of this machine's requests",
            code="no-accessor",
        )


def _view_list(result: CommandResult, terminal: Terminal) -> None:
    """Write two lines per request, so that no path is cut in a narrow terminal."""
    now = datetime.now(UTC)
    for one in result.data["requests"]:
        left = int((parse_rfc3339(one["expires_at"]) - now).total_seconds())
        time = f"{span_text(left)} left" if left > 0 else "expired"
        terminal.line(Styled(f"{one['method']} {one['path']}", "bold"))
        terminal.line(f"  {one['accessor']}  {one['state']}  {time}  {one['run']}")
    if not result.data["requests"]:
        terminal.note("no stored requests")


@command(
    examples=[
        ("skyflowctl approvals show lSuuw5ldgmzZEydJBfERhYs1", "who asks, and what changes"),
        ("skyflowctl approvals show lSuuw5ldgmzZEydJBfERhYs1 -o json", "for programs"),
        ("skyflowctl approvals show lSuuw5ldgmzZEydJBfERhYs1 -q", "without notices"),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED],
)
def approvals_show(
    accessor: AccessorArgument,
    target: TargetOptions,
    output: OutputOptions,
) -> None:
    """Show a request that waits for approvals: who sent it, and what it would change. The
    difference is computed from the live state now. Secrets are masked."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.approvals import review_request

        _refuse_empty(accessor)
        with gateways.open_gateway(target, run) as gateway:
            found = review_request(gateway, accessor)
        return CommandResult(_data(found), warnings=found.warnings)

    run_command("approvals show", output, work, _view)


@command(
    examples=[
        ("skyflowctl approvals approve lSuuw5ldgmzZEydJBfERhYs1", "shows it, and asks"),
        ("skyflowctl approvals approve lSuuw5ldgmzZEydJBfERhYs1 -y", "does not ask"),
        ("skyflowctl approvals approve lSuuw5ldgmzZEydJBfERhYs1 -y -o json", "for programs"),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED],
)
def approvals_approve(
    accessor: AccessorArgument,
    target: TargetOptions,
    output: OutputOptions,
    *,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Show a request as approvals show does, ask for confirmation, and approve it. Nothing runs
    yet: the requester runs the same command again. Who sent a request cannot approve it, and one
    whose object has changed since is refused."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.approvals import (
            approve_request,
            refuse_approval,
            review_request,
        )

        _refuse_empty(accessor)
        with gateways.open_gateway(target, run) as gateway:
            found = review_request(gateway, accessor)
            own = refuse_approval(gateway, found)
            _ask(found, run, yes=yes, no_input=no_input)
            after = approve_request(gateway, found.held, own)
        approved = {"approved": after.approved, "approved_by": sorted(after.approvers.values())}
        return CommandResult({**_data(found), **approved})

    run_command("approvals approve", output, work, _view_approved)


def _ask(found: "ReviewedRequest", run: CommandRun, *, yes: bool, no_input: bool) -> None:
    """Show the request on stderr and ask for a confirmation.

    Raises:
        RefusedError: it was not confirmed.
    """
    if not run.terminal.quiet and not run.json:
        _show_request(_data(found), replace(run.terminal, out=run.terminal.err))
        show_warnings(found.warnings, run.terminal)
    run.confirm("Approve this request?", yes=yes, no_input=no_input)


def _data(found: "ReviewedRequest") -> dict[str, Any]:
    warnings = [problem_json(one) for one in found.warnings]
    return {**found.to_json(datetime.now(UTC)), "warnings": warnings}


def _view(result: CommandResult, terminal: Terminal) -> None:
    _show_request(result.data, terminal)


def _view_approved(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    request = f"{data['operation']} {data['path']}"
    if data["approved"]:
        terminal.line(Styled("Approved:", "bold green"), f" {request}")
        terminal.note("nothing has run yet: the requester runs the same command again")
    else:
        terminal.line(Styled("Your approval counts, more are needed:", "yellow"), f" {request}")


def _show_request(data: Mapping[str, Any], terminal: Terminal) -> None:
    by = data["requester"]
    logins = f" ({', '.join(by['logins'])})" if by["logins"] else ""
    terminal.fields(
        [
            ("request", f"{data['operation']} {data['path']}"),
            ("requester", f"{by['name'] or 'a login without an entity'}{logins}"),
            ("age", _span(data["age_seconds"])),
            ("time left", _span(data["ttl"])),
            ("approved", data["approved"]),
            ("approved by", data["approved_by"]),
        ]
    )
    terminal.line()
    if data["effect"]:
        terminal.line(data["effect"])
    elif data["compared"] and not data["changes"]:
        terminal.line("No changes: the live state is the same.")
    for one in data["changes"]:
        terminal.line("  ", Styled(one["field"], "bold"))
        terminal.line("    - ", Styled(show(one["before"]), "red"))
        terminal.line("    + ", Styled(show(one["after"]), "green"))


def _span(seconds: int | None) -> str:
    return "unknown" if seconds is None else span_text(seconds)
