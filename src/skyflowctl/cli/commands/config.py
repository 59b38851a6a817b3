"""``skyflowctl config``: a mount's credential and metadata, never the key itself."""

from dataclasses import asdict

from skyflowctl.cli import manifests, wiring
from skyflowctl.cli.command import command
from skyflowctl.cli.envelope import Result
from skyflowctl.cli.options import FileOption, MountArgument, OutputOptions, TargetOptions
from skyflowctl.cli.render.terminal import Piece, Styled, Terminal
from skyflowctl.cli.run import Run, run_command
from skyflowctl.errors import ExitCode, Problem

_EXITS = [ExitCode.NOT_PERMITTED, ExitCode.INVALID, ExitCode.UNREACHABLE]


@command(
    examples=[
        ("skyflowctl config show order", "whose key is live, since when, until when"),
        ("skyflowctl config show skyflow/order -o json", "for programs"),
        ("skyflowctl config show order -o json | jq -r .data.key_id", "only the key's id"),
    ],
    exits=_EXITS,
)
def config_show(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Show a mount's config as the engine tells it. The credential itself never leaves
    the server."""

    def work(run: Run) -> Result:
        from skyflowctl.operations.configs import show_config

        path = manifests.resolve_path(mount, file)
        with wiring.open_gateway(target, run) as gateway:
            config = show_config(gateway, path)
        return Result({"mount": mount, "path": path, **config.raw})

    run_command("config show", output, work, _view_show)


def _view_show(result: Result, terminal: Terminal) -> None:
    terminal.fields((name, value) for name, value in result.data.items() if name != "mount")


@command(
    examples=[
        ("skyflowctl config history order", "which keys were live, since when, by whom"),
        ("skyflowctl config history skyflow/order -o json", "for programs"),
        (
            "skyflowctl config history order -o json | jq '.data.history[] | select(.kept)'",
            "what a rollback can go back to",
        ),
    ],
    exits=_EXITS,
)
def config_history(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """List every credential version that a mount has had, the newest first: its key, when
    and by whom it was written, and whether the engine still keeps the credential."""

    def work(run: Run) -> Result:
        from skyflowctl.operations import configs

        path = manifests.resolve_path(mount, file)
        with wiring.open_gateway(target, run) as gateway:
            past = configs.config_history(gateway, path)
        listed = [{**asdict(one.entry), "live": one.live} for one in past]
        return Result({"mount": mount, "path": path, "history": listed})

    run_command("config history", output, work, _view_history)


def _view_history(result: Result, terminal: Terminal) -> None:
    rows: list[list[Piece]] = [
        [
            str(one["credential_version"]),
            one["key_id"],
            Styled("live", "green") if one["live"] else "kept" if one["kept"] else "destroyed",
            one["written_at"],
            one["written_by"] or "-",
            one["description"],
        ]
        for one in result.data["history"]
    ]
    if rows:
        terminal.table(["VERSION", "KEY", "STATE", "WRITTEN", "BY", "DESCRIPTION"], rows)
    else:
        terminal.note("no credential was ever written")


@command(
    examples=[
        ("skyflowctl config verify order", "mint once for every role, keep nothing"),
        ("skyflowctl config verify order -o json", "for programs, with request ids"),
        ("skyflowctl config verify skyflow/order || echo broken", "in a script"),
    ],
    exits=[*_EXITS, ExitCode.UNHEALTHY],
)
def config_verify(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Have the engine mint once for every role with its live credential, each with the
    role's own probe ctx, and discard the tokens. The node that is asked answers itself."""

    def work(run: Run) -> Result:
        from skyflowctl.operations.configs import verify_config

        path = manifests.resolve_path(mount, file)
        with wiring.open_gateway(target, run) as gateway:
            report = verify_config(gateway, path)
        data = {"mount": mount, "path": path, **asdict(report)}
        if report.ok:
            return Result(data)
        return Result(data, "unhealthy", ExitCode.UNHEALTHY, _failures(data))

    run_command("config verify", output, work, _view_verify)


def _failures(data: dict[str, object]) -> list[Problem]:
    roles = data["roles"]
    assert isinstance(roles, dict)
    return [
        Problem(
            "role-does-not-mint",
            f"{data['path']}: role {name or '(none)'} does not mint",
            f"status {proof['status']}: {proof['message']}",
            "check that the role id exists and is assigned to this service account",
        )
        for name, proof in roles.items()
        if not proof["ok"]
    ]


def _view_verify(result: Result, terminal: Terminal) -> None:
    data = result.data
    terminal.fields([("key_id", data["key_id"]), ("version", data["credential_version"])])
    rows: list[list[Piece]] = [
        [
            name or "(no role)",
            Styled("ok", "green") if proof["ok"] else Styled("failed", "red"),
            f"{proof['latency_ms']:.0f} ms",
            proof["request_id"],
        ]
        for name, proof in data["roles"].items()
    ]
    terminal.table(["ROLE", "RESULT", "TOOK", "REQUEST"], rows)
