"""``skyflowctl exec``: a program with a token in its environment."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

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
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.operations.creds import parse_ctx, read_creds, token_environment

if TYPE_CHECKING:
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.responses import Creds

_SOCKET = "SKYFLOW_BEARER_SOCKET"

ProgramArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="-- COMMAND...", help="The program and its arguments.", show_default=False
    ),
]
WatchOption = Annotated[
    bool, option("--watch", help="Start the program again before its token expires.")
]
SignalOption = Annotated[
    str | None,
    option(
        "--signal",
        help="With --watch and --serve: send this signal instead of a new start.",
        metavar="NAME",
    ),
]
ServeOption = Annotated[
    str | None,
    option(
        "--serve",
        help="Answer a fresh token on this socket, to this user's processes only.",
        metavar="unix:PATH",
    ),
]


@command(
    examples=[
        (
            "skyflowctl exec order order-producer --ctx order:ORD-42 -- sleep 1",
            "a program with SKYFLOW_BEARER_TOKEN",
        ),
        (
            "skyflowctl exec order order-consumer-analytics --watch -- sleep 5",
            "start it again with a new token before the old one ends",
        ),
        (
            "skyflowctl exec order order-consumer-analytics --serve unix:run/s -- sleep 5",
            "let it ask a socket",
        ),
    ],
    exits=[
        ExitCode.NOT_PERMITTED,
        ExitCode.UNHEALTHY,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
        ExitCode.INTERRUPTED,
        ExitCode.TERMINATED,
    ],
)
def exec_command(
    mount: MountArgument,
    role: RoleArgument,
    program: ProgramArgument,
    target: TargetOptions,
    output: OutputOptions,
    *,
    file: FileOption = None,
    ctx: CtxOption = None,
    watch: WatchOption = False,
    send: SignalOption = None,
    serve: ServeOption = None,
) -> None:
    """Run a program with a token in SKYFLOW_BEARER_TOKEN and its expiry in
    SKYFLOW_BEARER_EXPIRES_AT. The exit code is the program's; a program that cannot be run is 64.
    Signals reach the program.

    With --watch it is stopped by SIGTERM, after 10 s by SIGKILL, and started again with a new
    token. With --serve it asks a socket, which SKYFLOW_BEARER_SOCKET names: 'curl --unix-socket
    "$SKYFLOW_BEARER_SOCKET" http://localhost/' answers JSON with access_token and expires_at."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.cli.commands.exec import supervise

        checked, number = parse_ctx(ctx), _signal_number(send, watch=watch, serve=serve)
        found = supervise.find_program(program)
        path = manifests.resolve_path(mount, file, run)

        def ask(gateway: "Gateway") -> "Creds":
            return read_creds(gateway, path, role, checked)

        kept = watch or serve is not None
        read = gateways.reconnecting(target, run, ask, again=kept)
        if not kept:
            environ = _environment(read())
            run.trace.close()
            supervise.become(found, program, environ)
        job = _Kept(run, read, serve)
        raise SystemExit(job.run(found, program, restarts=watch, signal_number=number))

    run_command("exec", output, work, _view)


def _environment(token: "Creds") -> dict[str, str]:
    """Return this process's environment, with a token."""
    return {**os.environ, **token_environment(token.access_token.reveal(), token.expires_at)}


class _Kept:
    """A program whose token is kept fresh."""

    def __init__(self, run: CommandRun, read: "Callable[[], Creds]", serve: str | None) -> None:
        self._run, self._read, self._serve = run, read, serve

    def run(
        self, found: str, program: list[str], *, restarts: bool, signal_number: int | None
    ) -> int:
        from skyflowctl.cli.commands.exec import supervise, token_socket
        from skyflowctl.operations.keep_token import TokenKeeper

        where = token_socket.socket_path(self._serve) if self._serve is not None else None

        def environ() -> Mapping[str, str]:
            return _environment(keeper.token) | ({_SOCKET: str(where)} if where else {})

        job = supervise.Supervised(found, program, environ, signal_number, self._run.notice)
        supervisor = supervise.Supervisor(job, restarts=restarts)
        keeper = TokenKeeper(
            self._read,
            self._run.clock,
            on_new=lambda _token: supervisor.refreshed(),
            tell=self._run.notice,
        )
        background = [keeper.run]
        with ExitStack() as stack:
            if where is not None:
                server = stack.enter_context(token_socket.listening(where))
                server.keeper = keeper
                background.append(server.serve_forever)
            return supervisor.run(background)


def _signal_number(name: str | None, *, watch: bool, serve: str | None) -> int | None:
    if name is None:
        return None
    if not watch or serve is None:
        raise UsageError(
            "--signal needs --watch and --serve",
            why="the environment of a running program cannot change: it has to ask the socket",
            fix="add --watch --serve unix:run/token.sock, or leave out --signal",
        )
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    if full not in signal.Signals.__members__:
        raise UsageError(
            f"there is no signal {name}",
            why="it is not the name of a signal of this system; numbers are not taken",
            fix="for example --signal HUP",
        )
    if full in {"SIGKILL", "SIGSTOP"}:
        raise UsageError(
            f"--signal {name} would not tell the program anything",
            why="no program can handle this signal",
            fix="for example --signal HUP",
        )
    return int(signal.Signals[full])


def _view(_result: CommandResult, _terminal: Terminal) -> None:
    """Show nothing: the output is the program's."""
