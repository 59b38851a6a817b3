"""``skyflowctl plugin``: the engine's launcher, and its place in the server's catalog."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import gateways
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    ApprovingTargetOptions,
    NoInputOption,
    OptionGroup,
    OutputOptions,
    TargetOptions,
    YesOption,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN
from skyflowctl.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyflowctl.operations.list_plugins import ReloadedMount
    from skyflowctl.operations.plugins import EntryChange, Question, Registration
    from skyflowctl.vault.gateway import Gateway

NameOption = Annotated[
    str, option("--name", help="The plugin's name, which is also the mount type.", metavar="NAME")
]


@command(
    examples=[
        ("skyflowctl plugin build /etc/openbao/plugins", "the launcher for this installation"),
        ("skyflowctl plugin build ./plugins --name skyflow-next", "under another name"),
        ("skyflowctl plugin build ./plugins -o json | jq -r .data.path", "only its path"),
    ],
    exits=[ExitCode.REFUSED, ExitCode.INVALID],
)
def plugin_build(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The server's plugin directory.")
    ],
    output: OutputOptions,
    name: NameOption = "skyflow",
) -> None:
    """Write a launcher to a plugin directory. The launcher checks a digest of all code that it
    imports, and clears its environment; the catalog's sha256 covers the launcher. Its file
    name contains the version and the digest, so a build replaces no file. Install each version
    in a folder of its own: a changed folder that another launcher was built from is refused."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.plugin.build import build_launcher
        from skyflowctl.version import semver

        built = build_launcher(directory, name)
        data = {**asdict(built), "path": str(built.path), "version": semver()}
        return CommandResult(data)

    run_command("plugin build", output, work, _view_build)


def _view_build(result: CommandResult, terminal: Terminal) -> None:
    terminal.fields(result.data.items())
    terminal.note(f"register it: skyflowctl plugin register {result.data['path']}")


@dataclass(frozen=True, slots=True)
class EngineOptions(OptionGroup):
    """The permissions of the plugin's process, as arguments in its catalog entry."""

    shared: Annotated[bool, option("--shared", help="One process for all mounts.")] = False
    allow_host: Annotated[
        list[str] | None,
        option(
            "--allow-host",
            help="An additional token service that credentials may name; repeatable.",
            metavar="HOST:PORT",
        ),
    ] = None
    only_host: Annotated[
        list[str] | None,
        option(
            "--only-host",
            help="A token service that replaces Skyflow's; repeatable.",
            metavar="HOST:PORT",
        ),
    ] = None
    credentials_directory: Annotated[
        str | None,
        option(
            "--credentials-directory",
            help="A folder on the server with the credential files of its mounts.",
            metavar="PATH",
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        option(
            "--env",
            help="A variable for the plugin, not a secret; the server's value takes precedence.",
            metavar="NAME=VALUE",
        ),
    ] = None


@command(
    examples=[
        (
            "skyflowctl plugin register /etc/openbao/plugins/skyflow-v1.0.0-*",
            "the launcher that build wrote",
        ),
        (
            "skyflowctl plugin register ./plugins/skyflow-v1.0.0-* --shared",
            "one process for all mounts, for servers with hundreds of them",
        ),
        (
            "skyflowctl plugin register plugins/skyflow-v1.0.0-* --allow-host 127.0.0.1:443",
            "with an emulator as an additional token service",
        ),
        (
            "skyflowctl plugin register ./plugins/skyflow-v1.0.0-* --reload",
            "and reload its mounts, one after the other",
        ),
    ],
    exits=[*READ_EXITS, ExitCode.PARTIAL, ExitCode.REFUSED, ExitCode.UNHEALTHY, ExitCode.PENDING],
)
def plugin_register(
    launcher: Annotated[
        Path, typer.Argument(metavar="FILE", help="The launcher in the plugin directory.")
    ],
    target: ApprovingTargetOptions,
    engine: EngineOptions,
    output: OutputOptions,
    *,
    name: NameOption = "skyflow",
    version: Annotated[
        str | None,
        option(
            "--version",
            help="The version to register (default: the launcher's).",
            metavar="VERSION",
        ),
    ] = None,
    reload: Annotated[
        bool, option("--reload", help="Reload and verify its mounts, one by one.")
    ] = False,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Register a launcher in the server's catalog, after checking that the server can start it.
    The entry gets exactly the given options. The command asks first if the entry, or another
    version that mounts run, has arguments that would be lost, and if mounts run another
    engine under this name. The server never returns an entry's environment, so the names of
    its variables are recorded in the arguments; the command also asks if a variable would be
    lost, or if no names were recorded. The server's own environment takes precedence over
    --env. The entry takes effect when a mount is reloaded or the server restarts."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.cli.commands.plugin.question import confirm_registration
        from skyflowctl.operations.plugins import Question, register_plugin

        asked = Question()

        def confirm(question: Question) -> None:
            nonlocal asked
            asked = question
            confirm_registration(question, launcher, wanted, run, yes=yes, no_input=no_input)

        wanted = _registration(launcher, name, version, engine, run)
        with gateways.open_gateway(target, run) as gateway:
            changes = register_plugin(gateway, wanted, confirm, lambda: run.warn(_UNPROVED))
            reloaded = _reloaded(gateway, wanted, run) if reload else None
        return CommandResult({**_registered_json(wanted, changes, asked), "reloaded": reloaded})

    run_command("plugin register", output, work, _view_register)


def _registered_json(
    wanted: "Registration", changes: "Sequence[EntryChange]", asked: "Question"
) -> dict[str, Any]:
    from skyflowctl.cli.commands.plugin.upgrading import registration_json

    return {
        **registration_json(wanted),
        "changed": bool(changes),
        "changes": [asdict(one) for one in changes],
        "replaces": [asdict(one) for one in asked.replaced],
        "loses": [asdict(one) for one in asked.lost],
    }


def _reloaded(gateway: "Gateway", wanted: "Registration", run: CommandRun) -> list[dict[str, Any]]:
    """Reload the mounts of an entry one by one, and return them."""
    from skyflowctl.operations.list_plugins import reload_mounts

    def tell(one: "ReloadedMount") -> None:
        run.notice(f"{one.path} runs it: health {one.health}")

    return [asdict(one) for one in reload_mounts(gateway, wanted, tell)]


_UNPROVED = Problem(
    "start-not-proved",
    "it is not verified that the plugin starts",
    "a control group guards the catalog, and a proof would be one more request to approve",
    "once it is registered: 'skyflowctl plugin list', then 'skyflowctl health'",
)


def _registration(
    launcher: Path, name: str, version: str | None, engine: EngineOptions, run: CommandRun
) -> "Registration":
    """Return the entry; warn of variables that its launcher removes."""
    from skyflowctl.cli.commands.plugin.upgrading import checked_environment
    from skyflowctl.operations import plugins
    from skyflowctl.plugin import arguments
    from skyflowctl.plugin.build import launcher_version
    from skyflowctl.version import semver

    sha256 = plugins.file_digest(launcher)
    env = checked_environment(launcher, engine.env, run)
    args = arguments.plugin_arguments(
        shared=engine.shared,
        allow_hosts=tuple(engine.allow_host or ()),
        only_hosts=tuple(engine.only_host or ()),
        credentials_directory=engine.credentials_directory,
    )
    if arguments.takes_note(launcher):
        args += (arguments.environment_note(pair.partition("=")[0] for pair in env),)
    return plugins.Registration(
        name=name,
        version=version or launcher_version(launcher) or semver(),
        command=launcher.name,
        sha256=sha256,
        args=args,
        env=env,
    )


def _view_register(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    word = "registered" if data["changed"] else "already registered"
    terminal.line(Styled(word, "green"), f" {data['name']} {data['version']}")
    terminal.fields([(name, data[name]) for name in ("command", "sha256", "args", "env")], "  ")
    for one in data["replaces"]:
        terminal.line(Styled("  replaces", "yellow"), f" the engine of {one['path']}")
    for one in data["changes"]:
        if one["before"]:
            terminal.line(f"  {one['field']}: {one['before']} -> {one['after'] or 'none'}")
    if data["reloaded"] is not None:
        terminal.line(f"  {counted(len(data['reloaded']), 'mount')} reloaded and verified")
    elif data["changes"]:
        new = any(one["field"] == "sha256" and not one["before"] for one in data["changes"])
        switch = f"skyflowctl plugin upgrade --to {data['version']}"
        # That command takes the plugin's name from the manifest.
        other = f" those of a manifest with plugin.name {data['name']}"
        which = "" if data["name"] == DEFAULT_PLUGIN or not new else other
        again = "run the same command with --reload"
        step = switch if new else again
        terminal.note(f"running mounts keep the old one; to switch{which}: {step}")


@command(
    examples=[
        ("skyflowctl plugin prune /etc/openbao/plugins", "asks first"),
        ("skyflowctl plugin prune /etc/openbao/plugins -y", "does not ask"),
        ("skyflowctl plugin prune /etc/openbao/plugins -y -o json", "for programs"),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED],
)
def plugin_prune(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The server's plugin directory.")
    ],
    target: TargetOptions,
    output: OutputOptions,
    *,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Remove the launchers on this host that no catalog entry names and no mount runs. Only
    files written by 'plugin build' are removed. If several servers share the folder, only the
    named server is checked."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.list_plugins import plan_prune

        with gateways.open_gateway(target, run) as gateway:
            plan = plan_prune(gateway, directory)
        for path in plan.unused:
            run.notice(f"unused: {path.name}")
        if plan.unused:
            question = f"Remove {counted(len(plan.unused), 'launcher')} from {directory}?"
            run.confirm(question, yes=yes, no_input=no_input)
        for path in plan.unused:
            path.unlink(missing_ok=True)
        kept = [asdict(one) for one in plan.kept]
        return CommandResult({"removed": [path.name for path in plan.unused], "kept": kept})

    run_command("plugin prune", output, work, _view_prune)


def _view_prune(result: CommandResult, terminal: Terminal) -> None:
    for name in result.data["removed"]:
        terminal.line(Styled("removed", "yellow"), f" {name}")
    for one in result.data["kept"]:
        terminal.line(Styled("kept", "green"), f" {one['file']}: {one['why']}")
    if not result.data["removed"]:
        terminal.note("no launcher is unused")
