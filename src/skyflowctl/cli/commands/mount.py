"""``skyflowctl mount``: what is mounted."""

from dataclasses import asdict

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.cut_off_view import cut_off_note
from skyflowctl.cli.console import Piece, Styled, Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import FileOption, MountArgument, OutputOptions, TargetOptions
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import Problem
from skyflowctl.manifest.discover import DEFAULT_PREFIX

_STATE_STYLE = {"mounted": "green", "absent": "yellow", "undeclared": "dim"}


@command(
    examples=[
        ("skyflowctl mount list", "the mounts of the manifest and of the server"),
        ("skyflowctl mount list --dev", "on the dev stack"),
        ("skyflowctl mount list -o json | jq -r '.data.mounts[].path'", "only the paths"),
    ],
    exits=READ_EXITS,
)
def mount_list(target: TargetOptions, output: OutputOptions, file: FileOption = None) -> None:
    """List the Skyflow mounts of the server and, if there is a manifest, its mounts: mounted,
    absent (only in the manifest) or undeclared (only on the server)."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.mounts import list_mounts

        loaded = manifests.optional_manifest(file, run)
        manifest = loaded.manifest if loaded else None
        prefix = manifest.path_prefix if manifest else DEFAULT_PREFIX
        with gateways.open_gateway(target, run) as gateway:
            rows = list_mounts(gateway, manifest, prefix=prefix)
        return CommandResult({"mounts": [asdict(row) for row in rows]})

    run_command("mount list", output, work, _view_list)


def _view_list(result: CommandResult, terminal: Terminal) -> None:
    rows: list[list[Piece]] = [
        [
            one["name"],
            one["path"],
            Styled(one["state"], _STATE_STYLE[one["state"]]),
            one["version"],
            one["description"],
        ]
        for one in result.data["mounts"]
    ]
    if rows:
        terminal.table(["NAME", "PATH", "STATE", "VERSION", "DESCRIPTION"], rows)
    else:
        terminal.note("no mounts")


@command(
    examples=[
        ("skyflowctl mount show order", "by its name in the manifest"),
        ("skyflowctl mount show skyflow/order", "by its path"),
        ("skyflowctl mount show order -o json", "for programs, with every field"),
    ],
    exits=READ_EXITS,
)
def mount_show(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Show one mount on the server: its settings, plugin, roles, and config without the
    credential."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.mounts import show_mount

        path = manifests.resolve_path(mount, file)
        with gateways.open_gateway(target, run) as gateway:
            detail = show_mount(gateway, path)
        if detail.config is None:
            run.warn(_not_an_engine(path, detail.mount.type))
        config = detail.config.to_json() if detail.config else {}
        if detail.config and detail.config.revoked:
            config["revoked"] = asdict(detail.config.revoked)
        data = {**asdict(detail.mount), "is_engine": detail.config is not None, "config": config}
        return CommandResult({"name": mount, **data, "roles": sorted(detail.roles)})

    run_command("mount show", output, work, _view_show)


def _not_an_engine(path: str, kind: str) -> Problem:
    return Problem(
        "not-an-engine",
        f"no skyflow engine is at {path}",
        f"the mount is of type {kind} and answers nothing that is a config",
        "'skyflowctl mount list' names the mounts of this kind",
    )


def _view_show(result: CommandResult, terminal: Terminal) -> None:
    config = result.data["config"]
    own = [(name, value) for name, value in result.data.items() if name not in {"config", "name"}]
    terminal.line(Styled(result.data["path"], "bold"))
    terminal.fields(own, "  ")
    terminal.line(Styled("config", "bold"))
    terminal.fields(((name, value) for name, value in config.items() if name != "revoked"), "  ")
    basic = "credential_version" not in config
    cut_off_note(result.data["name"], config.get("revoked"), terminal, basic=basic)
