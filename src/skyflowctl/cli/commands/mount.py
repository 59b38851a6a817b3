"""``skyflowctl mount``: what is mounted."""

from dataclasses import asdict

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.cut_off_view import cut_off_note
from skyflowctl.cli.console import Piece, Styled, Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.context.contexts import default_prefix
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    AllowDestroyOption,
    ApprovingTargetOptions,
    FileOption,
    MountArgument,
    NoInputOption,
    OutputOptions,
    TargetOptions,
    YesOption,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.manifest.discover import DEFAULT_PLUGIN
from skyflowctl.text import counted

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
        prefix = manifest.path_prefix if manifest else default_prefix()
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


@command(
    examples=[
        ("skyflowctl mount enable order", "a mount of ./mounts.yaml"),
        ("skyflowctl mount enable order --dev", "on the dev stack"),
        ("skyflowctl mount enable order -o json | jq -r .data.result", "enabled, or present"),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED, ExitCode.PENDING, ExitCode.INVALID],
)
def mount_enable(
    mount: MountArgument,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Enable one mount of the manifest, with its settings and the manifest's mark. It gets no
    credential and no roles: 'skyflowctl apply' writes these. A mount that exists is left as it
    is. A mount that was probably moved is not enabled a second time."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.enable_mount import enable_mount

        manifest = manifests.load_named_manifest(file, run).manifest
        name = next(iter(manifests.named_mounts(manifest, [mount]) or ()))
        with gateways.open_gateway(target, run) as gateway:
            made = enable_mount(gateway, manifest, name)
        return CommandResult(
            {
                "name": name,
                "path": made.mount.path,
                "result": "enabled" if made.enabled else "present",
                "version": made.mount.running_plugin_version,
                "differs": list(made.differs),
            }
        )

    run_command("mount enable", output, work, _view_enabled)


def _view_enabled(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    if data["result"] == "enabled":
        terminal.line(f"{data['path']} is enabled.")
        terminal.note(f"'skyflowctl apply {data['name']}' writes its config and roles")
        return
    terminal.line(f"{data['path']} exists.")
    if data["differs"]:
        terminal.note(f"an apply would change: {', '.join(data['differs'])}")


@command(
    examples=[
        (
            "skyflowctl mount disable payment --allow-destroy=skyflow/payment",
            "the path confirms it",
        ),
        (
            "skyflowctl mount disable skyflow/old --allow-destroy=skyflow/old --dev",
            "on the dev stack, by path",
        ),
        (
            "skyflowctl mount disable payment --allow-destroy=skyflow/payment -o json",
            "for programs",
        ),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED, ExitCode.PENDING],
)
def mount_disable(
    mount: MountArgument,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    *,
    yes: YesOption = False,
    no_input: NoInputOption = False,
    allow_destroy: AllowDestroyOption = None,
    file: FileOption = None,
) -> None:
    """Delete one mount with its config, kept credentials and roles. They cannot be restored.
    Its keys stay valid at Skyflow: to end that, run 'skyflowctl config revoke --delete-keys'
    first. A protected mount is never deleted. The path given twice is the confirmation; on a
    terminal it asks too, unless -y is given. A mount that does not exist is reported, and is
    no error."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations import delete

        path = manifests.resolve_path(mount, file)
        loaded = manifests.optional_manifest(file, run)
        manifest = loaded.manifest if loaded else None
        kind = manifest.plugin.name if manifest else DEFAULT_PLUGIN
        with gateways.open_gateway(target, run) as gateway:
            action = delete.plan_mount_deletion(gateway, path, manifest, allow_destroy or (), kind)
            if action:
                if run.may_ask and not no_input:
                    question = f"Delete {path} on {gateway.transport.server.name}?"
                    run.confirm(question, yes=yes, no_input=no_input)
                delete.carry_out_deletion(action, gateway)
            elif absent := delete.absent_mount(gateway, path, kind):
                run.warn(absent)
        lost = {one.field: one.before for one in action.changes} if action else {}
        data = {"roles": lost.get("roles", []), "key_id": lost.get("key_id", "")}
        result = "disabled" if action else "absent"
        return CommandResult({"name": mount, "path": path, "result": result, **data})

    run_command("mount disable", output, work, _view_disabled)


def _view_disabled(result: CommandResult, terminal: Terminal) -> None:
    path, key_id = result.data["path"], result.data["key_id"]
    if result.data["result"] == "absent":
        terminal.line(f"{path} does not exist.")
        return
    terminal.line(f"{path} is deleted, with {counted(len(result.data['roles']), 'role')}.")
    if key_id:
        terminal.note(f"its key {key_id} is still valid at Skyflow")
