"""``skyflowctl token-file``: a file that always has a token which is valid."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.creds.command import CtxOption
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    FileOption,
    MountArgument,
    OutputOptions,
    RoleArgument,
    TargetOptions,
    option,
)
from skyflowctl.cli.output_files import check_output_file, writing_output_file
from skyflowctl.cli.runner import STOPS, CommandRun, run_command, stop_code
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.operations.creds import parse_ctx, read_creds

if TYPE_CHECKING:
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.responses import Creds

_WHAT = "the token"
_TOKEN = re.compile(rb"[\w-]+(?:\.[\w-]+){1,2}\n")  # one line in the form of a bearer


@command(
    examples=[
        (
            "skyflowctl token-file order order-consumer-analytics --path token",
            "keep it fresh until stopped, as a service",
        ),
        (
            "skyflowctl token-file order order-consumer-analytics --path token --once",
            "write one token and return",
        ),
        (
            "skyflowctl token-file payment payment-producer --ctx txn:batch --path token -q",
            "print no notices",
        ),
    ],
    exits=[
        ExitCode.NOT_PERMITTED,
        ExitCode.REFUSED,
        ExitCode.UNHEALTHY,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
        ExitCode.INTERRUPTED,
        ExitCode.TERMINATED,
    ],
)
def token_file(
    mount: MountArgument,
    role: RoleArgument,
    target: TargetOptions,
    output: OutputOptions,
    *,
    path: Annotated[
        str, option("--path", help="The file: the token and a newline, mode 0600.", metavar="PATH")
    ],
    file: FileOption = None,
    ctx: CtxOption = None,
    once: Annotated[bool, option("--once", help="Write one token and return.")] = False,
) -> None:
    """Keep a token fresh in a file, until interrupted. A new token is written after about 60 % of
    the old one's time; the file is replaced in one step, so a reader never sees half a token. If
    the server does not answer, the old token stays, and this tries again. The file stays at the
    end."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.keep_token import TokenKeeper

        checked, where = parse_ctx(ctx), Path(path)
        mount_path = manifests.resolve_path(mount, file, run)
        _check_place(where)

        def ask(gateway: "Gateway") -> "Creds":
            return read_creds(gateway, mount_path, role, checked)

        read = gateways.reconnecting(target, run, ask, again=not once)
        if once:
            return CommandResult(_write(where, read()))
        events = run.events()

        def written(token: "Creds") -> None:
            data = _write(where, token)
            run.notice(f"wrote {where}, valid until {token.expires_at}")
            if events is not None:
                events.event("token_written", **data)

        keeper = TokenKeeper(read, run.clock, on_new=written, tell=run.notice)
        written(keeper.token)
        try:
            keeper.run()
        except STOPS as stop:
            return CommandResult(_data(where, keeper.token), exit_code=stop_code(stop))
        return CommandResult(_data(where, keeper.token))

    run_command("token-file", output, work, _view)


def _check_place(path: Path) -> None:
    """Check that the file may be replaced, before a token is read for it.

    Raises:
        UsageError: it is no path of a file.
        RefusedError: something else is there.
    """
    if str(path) in {"-", "."}:
        raise UsageError(
            "--path needs the path of a file",
            why="the token is kept in a file",
            fix="give --path FILE; 'skyflowctl creds MOUNT ROLE -o raw' prints a token",
        )
    check_output_file(path, _WHAT, lambda text: _TOKEN.fullmatch(text) is not None)


def _write(path: Path, token: "Creds") -> dict[str, Any]:
    """Write a token to its file; return the data of the result.

    Raises:
        UsageError: the file cannot be written.
    """
    from skyflowctl.private_files import write_private

    with writing_output_file(path, _WHAT):
        write_private(path, f"{token.access_token.reveal()}\n")
    return _data(path, token)


def _data(path: Path, token: "Creds") -> dict[str, Any]:
    return {
        "path": str(path.absolute()),
        "expires_at": token.expires_at,
        "key_id": token.key_id,
        "request_id": token.request_id,
    }


def _view(result: CommandResult, terminal: Terminal) -> None:
    if result.exit_code == ExitCode.OK:
        terminal.fields(result.data.items())
