"""``skyflowctl creds``: a token through the server, or without it to find a fault."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import credential_sources, gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    OUTPUT_PANEL,
    AllowHostOption,
    ApprovingTargetOptions,
    FileOption,
    MountArgument,
    OutputOptions,
    ReferenceOptions,
    RoleArgument,
    TargetOptions,
    option,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, fail_in_eval, run_command
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.credentials.sources import ManifestSource
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.responses import Creds

CtxOption = Annotated[
    str | None,
    option("--ctx", help="The ctx: text, or a flat JSON object.", metavar="CTX"),
]
WrapOption = Annotated[
    str | None,
    option(
        "--wrap-ttl",
        help="Wrap the token for this long; print the wrapping token.",
        metavar="SPAN",
    ),
]
DryRunOption = Annotated[bool, option("--dry-run", help="Mint in this process, without network.")]
DirectOption = Annotated[
    bool,
    option("--direct", help="Mint without the server, with the vendor's SDK."),
]


@dataclass(frozen=True, slots=True)
class CredsOutputOptions(OutputOptions):
    """Output options of a token, with two more formats."""

    format: Annotated[
        Literal["table", "json", "env", "raw"],
        option(
            "-o",
            "--output",
            help="table, json, env (export lines) or raw (only the token); default table.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # more formats than elsewhere


@command(
    examples=[
        ("skyflowctl creds order order-producer --ctx order:ORD-42", "a token with its details"),
        (
            'eval "$(skyflowctl creds order order-producer --ctx order:ORD-42 -o env)"',
            "into this shell",
        ),
        (
            "skyflowctl creds order order-producer --ctx order:ORD-42 --wrap-ttl 5m",
            "a wrapped token, to pass on",
        ),
        (
            "skyflowctl creds order order-producer --ctx order:ORD-42 --dry-run",
            "check that it works, without network",
        ),
        (
            "skyflowctl creds order order-producer --ctx order:ORD-42 --direct",
            "find out if the server or Skyflow fails",
        ),
    ],
    exits=[
        ExitCode.NOT_PERMITTED,
        ExitCode.REFUSED,
        ExitCode.UNHEALTHY,
        ExitCode.PENDING,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
    ],
)
def creds(
    mount: MountArgument,
    role: RoleArgument,
    target: ApprovingTargetOptions,
    references: ReferenceOptions,
    output: CredsOutputOptions,
    *,
    file: FileOption = None,
    ctx: CtxOption = None,
    wrap_ttl: WrapOption = None,
    dry_run: DryRunOption = False,
    direct: DirectOption = False,
    allow_host: AllowHostOption = None,
) -> None:
    """Mint a bearer token for one role through the server, as an application does. It expires
    after about 60 minutes and cannot be revoked. --direct leaves no audit entry."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.creds import parse_ctx, read_creds

        checked = parse_ctx(ctx)
        if dry_run or direct:
            _check_alone(target, wrap_ttl, dry_run=dry_run, direct=direct)
            from skyflowctl.cli.commands.creds import offline

            past = offline.direct if direct else offline.creds_dry_run
            resolver = credential_sources.reference_resolver(run, references)

            def source_of(manifest: "Manifest") -> "ManifestSource":
                return credential_sources.manifest_credentials(manifest, run, allow_host, resolver)

            return CommandResult(past(mount, role, checked, file, run, source_of=source_of))
        path = manifests.resolve_path(mount, file, run)
        with gateways.open_gateway(target, run) as gateway:
            if wrap_ttl is not None:
                _check_wrap(wrap_ttl, output)
                return CommandResult(_wrapped(gateway, path, role, checked, wrap_ttl))
            token = read_creds(gateway, path, role, checked)
        name = manifests.mount_name(mount, path, file)
        return CommandResult({"mount": name, "role": role, **_token_json(token)})

    failure_view = fail_in_eval if output.format == "env" else None
    run_command("creds", output, work, _VIEWS[output.format], failure_view=failure_view)


def _check_alone(
    target: TargetOptions, wrap_ttl: str | None, *, dry_run: bool, direct: bool
) -> None:
    if dry_run and direct:
        raise UsageError(
            "--dry-run and --direct exclude each other",
            why="one mints in this process, the other at the real token service",
            fix="leave one of them out",
        )
    way = "--direct" if direct else "--dry-run"
    if target.dev:
        raise UsageError(
            f"{way} and --dev exclude each other",
            why=f"{way} asks no server, and --dev names one",
            fix=f"leave out {way} or --dev",
        )
    if wrap_ttl is not None:
        raise UsageError(
            f"{way} and --wrap-ttl exclude each other",
            why=f"{way} asks no server, and a wrapped token is kept by one",
            fix=f"leave out {way} or --wrap-ttl",
        )


def _check_wrap(wrap_ttl: str, output: CredsOutputOptions) -> None:
    if output.format == "env":
        raise UsageError(
            "-o env and --wrap-ttl exclude each other",
            why="a wrapped token has no bearer to export yet",
            fix="use -o raw or -o json, and unwrap it where it is needed",
        )
    span_seconds(wrap_ttl, "--wrap-ttl")


def _token_json(token: "Creds") -> dict[str, Any]:
    return {
        "source": "vault",
        "access_token": token.access_token.reveal(),
        "token_type": token.token_type,
        "expires_at": token.expires_at,
        "ttl": token.ttl,
        "key_id": token.key_id,
        "request_id": token.request_id,
        **({} if token.reused is None else {"reused": token.reused}),
    }


def _wrapped(gateway: "Gateway", path: str, role: str, ctx: Any, wrap_ttl: str) -> dict[str, Any]:
    from skyflowctl.operations.creds import read_wrapped_creds

    wrapped = read_wrapped_creds(gateway, path, role, ctx, wrap_ttl)
    return {
        "wrap_token": wrapped.token.reveal(),
        "wrap_accessor": wrapped.accessor,
        "wrap_ttl": wrapped.ttl,
        "creation_path": wrapped.creation_path,
    }


def _view_fields(result: CommandResult, terminal: Terminal) -> None:
    terminal.fields(result.data.items())


def _view_raw(result: CommandResult, terminal: Terminal) -> None:
    token = result.data.get("access_token") or result.data["wrap_token"]
    terminal.line(str(token))


def _view_env(result: CommandResult, terminal: Terminal) -> None:
    import shlex

    from skyflowctl.operations.creds import token_environment

    variables = token_environment(result.data["access_token"], result.data["expires_at"])
    for name, value in variables.items():
        terminal.line(f"export {name}={shlex.quote(value)}")


_VIEWS = {"table": _view_fields, "json": _view_fields, "env": _view_env, "raw": _view_raw}
