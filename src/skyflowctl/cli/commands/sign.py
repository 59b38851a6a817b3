"""``skyflowctl sign``: data tokens signed with a mount's key, which stays on the server."""

from typing import Annotated, Literal

import typer

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.creds.command import CtxOption
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    OUTPUT_PANEL,
    FileOption,
    MountArgument,
    OutputOptions,
    RoleArgument,
    TargetOptions,
    option,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.frozen import dataclass
from skyflowctl.operations.creds import parse_ctx, sign_data_tokens

DataTokensArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA_TOKEN...",
        help="The data tokens to sign, 1 to 64; their order is kept.",
        show_default=False,
    ),
]
SignTtlOption = Annotated[
    str | None,
    option(
        "--ttl",
        help="How long they are valid; default 60s, at most sign_max_ttl.",
        metavar="SPAN",
    ),
]


@dataclass(frozen=True, slots=True)
class SignOutputOptions(OutputOptions):
    """Output options of signed data tokens, with one more format."""

    format: Annotated[
        Literal["table", "json", "raw"],
        option(
            "-o",
            "--output",
            help="table, json or raw (a signed data token per line); default table.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # more formats than elsewhere


@command(
    examples=[
        (
            "skyflowctl sign order order-producer --ctx order:ORD-42 5479-4229-4622-1393",
            "one data token, valid for a minute",
        ),
        (
            "skyflowctl sign order order-producer --ctx order:ORD-42 -o raw tok-1 tok-2",
            "two, one per line",
        ),
        (
            "skyflowctl sign order order-producer --ctx order:ORD-42 --ttl 5m tok-1",
            "valid for five minutes",
        ),
    ],
    exits=READ_EXITS,
)
def sign(
    mount: MountArgument,
    role: RoleArgument,
    data_tokens: DataTokensArgument,
    target: TargetOptions,
    output: SignOutputOptions,
    *,
    file: FileOption = None,
    ctx: CtxOption = None,
    ttl: SignTtlOption = None,
) -> None:
    """Sign data tokens with a mount's key, for accounts that accept only signed ones. All of them
    are signed, or none. The server asks nothing of Skyflow, which checks a signature when the data
    token is used."""

    def work(run: CommandRun) -> CommandResult:
        checked = parse_ctx(ctx)
        seconds = None if ttl is None else int(span_seconds(ttl, "--ttl"))
        path = manifests.resolve_path(mount, file, run)
        with gateways.open_gateway(target, run) as gateway:
            made = sign_data_tokens(gateway, path, role, data_tokens, ctx=checked, ttl=seconds)
        return CommandResult(
            {
                "mount": manifests.mount_name(mount, path, file),
                "role": role,
                "signed_data_tokens": [
                    {"data_token": token, "signed_data_token": signed.reveal()}
                    for token, signed in made.signed
                ],
                "expires_at": made.expires_at,
                "key_id": made.key_id,
            }
        )

    run_command("sign", output, work, _view_raw if output.format == "raw" else _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    terminal.fields([(name, data[name]) for name in ("mount", "role", "expires_at", "key_id")])
    for one in data["signed_data_tokens"]:
        terminal.line()
        terminal.line(one["data_token"])
        terminal.line(one["signed_data_token"])


def _view_raw(result: CommandResult, terminal: Terminal) -> None:
    for one in result.data["signed_data_tokens"]:
        terminal.line(one["signed_data_token"])
