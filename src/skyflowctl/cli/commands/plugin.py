"""``skyflowctl plugin``: the engine's launcher, and its place in the server's catalog."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skyflowctl.cli import wiring
from skyflowctl.cli.command import command
from skyflowctl.cli.envelope import Result
from skyflowctl.cli.options import (
    ApprovingTargetOptions,
    NoInputOption,
    OptionGroup,
    OutputOptions,
    TargetOptions,
    YesOption,
    option,
)
from skyflowctl.cli.render.terminal import Styled, Terminal
from skyflowctl.cli.render.text import counted
from skyflowctl.cli.run import Run, run_command
from skyflowctl.errors import ExitCode, Problem

if TYPE_CHECKING:
    from skyflowctl.operations.plugins import Registration, ReplacedEngine

_EXITS = [ExitCode.NOT_PERMITTED, ExitCode.INVALID, ExitCode.UNREACHABLE]
NameOption = Annotated[
    str, option("--name", help="The plugin's name, which is the mount type.", metavar="NAME")
]


@command(
    examples=[
        ("skyflowctl plugin build /etc/openbao/plugins", "the launcher for this installation"),
        ("skyflowctl plugin build ./plugins --name skyflow-next", "under another name"),
        ("skyflowctl plugin build ./plugins -o json | jq -r .data.sha256", "only its sha256"),
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
    """Write a launcher into a plugin directory. It runs isolated, checks a digest over all
    that it will import, and clears its environment; the catalog's sha256 covers it all."""

    def work(_: Run) -> Result:
        from skyflowctl.plugin.build import build_launcher
        from skyflowctl.version import semver

        built = build_launcher(directory, name)
        data = {**asdict(built), "path": str(built.path), "version": semver()}
        return Result(data)

    run_command("plugin build", output, work, _view_build)


def _view_build(result: Result, terminal: Terminal) -> None:
    terminal.fields(result.data.items())
    terminal.note(f"register it: skyflowctl plugin register {result.data['path']}")


@dataclass(frozen=True, slots=True)
class EngineOptions(OptionGroup):
    """What the plugin's process is allowed, written into its catalog entry."""

    shared: Annotated[bool, option("--shared", help="One process for all mounts.")] = False
    allow_host: Annotated[
        list[str] | None,
        option(
            "--allow-host",
            help="A further token service that credentials may name; repeatable.",
            metavar="HOST:PORT",
        ),
    ] = None
    only_host: Annotated[
        list[str] | None,
        option(
            "--only-host",
            help="A token service instead of Skyflow's own; repeatable.",
            metavar="HOST:PORT",
        ),
    ] = None
    credentials_directory: Annotated[
        str | None,
        option(
            "--credentials-directory",
            help="A folder on the server with credential files of its mounts.",
            metavar="PATH",
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        option(
            "--env",
            help="For the plugin's environment, never a secret; the server's own wins.",
            metavar="NAME=VALUE",
        ),
    ] = None


@command(
    examples=[
        ("skyflowctl plugin register /etc/openbao/plugins/skyflow", "what build has written"),
        (
            "skyflowctl plugin register ./plugins/skyflow --shared",
            "one process for all mounts, for servers with hundreds of them",
        ),
        (
            "skyflowctl plugin register ./plugins/skyflow --allow-host 127.0.0.1:8443",
            "with an emulator as a further token service",
        ),
    ],
    exits=[*_EXITS, ExitCode.REFUSED, ExitCode.UNHEALTHY, ExitCode.PENDING],
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
        option("--version", help="Its version (default: skyflowctl's own).", metavar="VERSION"),
    ] = None,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Register a launcher in the server's catalog, after a proof that the server can start
    it: registered under a wrong version, a plugin that runs is refused at once. The options
    given are all that the entry then has: where it had other arguments, you are asked
    first, and so you are where mounts run another engine under this name: each is named. A
    variable of the server's own environment wins over the same one of --env."""

    def work(run: Run) -> Result:
        from skyflowctl.operations.plugins import EntryChange, ReplacedEngine, register_plugin

        replaced: list[ReplacedEngine] = []

        def confirm(changes: tuple[EntryChange, ...], engines: tuple[ReplacedEngine, ...]) -> None:
            replaced.extend(engines)
            for one in changes:
                run.notice(f"{one.field}: {one.before or 'none'} -> {one.after or 'none'}")
            for other in engines:
                run.notice(_replaced_line(other))
            what = "has other arguments. Replace them?"
            if engines:
                what = f"is another engine on {counted(len(engines), 'mount')}. Replace it?"
            wiring.confirm(
                f"{wanted.name} {wanted.version} {what}", run, yes=yes, no_input=no_input
            )

        wanted = _registration(launcher, name, version, engine)
        with wiring.open_gateway(target, run) as gateway:
            changes = register_plugin(gateway, wanted, confirm, lambda: run.warn(_UNPROVED))
        # Values of the environment are not repeated, as the server does not either.
        names = [pair.partition("=")[0] for pair in wanted.env]
        told = [asdict(one) for one in changes]
        data = {**asdict(wanted), "env": names, "changed": bool(told), "changes": told}
        data["replaces"] = [asdict(one) for one in replaced]
        return Result(data)

    run_command("plugin register", output, work, _view_register)


def _replaced_line(one: "ReplacedEngine") -> str:
    parts = [f"{one.path} runs another engine; from its next reload on it runs this one"]
    if one.refused:
        parts.append(f"roles that it refuses: {', '.join(one.refused)}")
    return "; ".join([*parts, *([one.note] if one.note else [])])


_UNPROVED = Problem(
    "start-not-proved",
    "the start of the plugin is not proved",
    "a control group guards the catalog, and a proof would be one more request to approve",
    "once it is registered: 'skyflowctl plugin list', then 'skyflowctl health'",
)


def _registration(
    launcher: Path, name: str, version: str | None, engine: EngineOptions
) -> "Registration":
    from skyflowctl.operations import plugins
    from skyflowctl.version import semver

    return plugins.Registration(
        name=name,
        version=version or semver(),
        command=launcher.name,
        sha256=plugins.file_digest(launcher),
        args=plugins.plugin_arguments(
            shared=engine.shared,
            allow_hosts=tuple(engine.allow_host or ()),
            only_hosts=tuple(engine.only_host or ()),
            credentials_directory=engine.credentials_directory,
        ),
        env=plugins.checked_pairs(engine.env or ()),
    )


def _view_register(result: Result, terminal: Terminal) -> None:
    data = result.data
    word = "registered" if data["changed"] else "already registered"
    terminal.line(Styled(word, "green"), f" {data['name']} {data['version']}")
    terminal.fields([(name, data[name]) for name in ("command", "sha256", "args", "env")], "  ")
    for one in data["replaces"]:
        terminal.line(Styled("  replaces", "yellow"), f" the engine of {one['path']}")
    for one in data["changes"]:
        if one["before"]:
            terminal.line(f"  {one['field']}: {one['before']} -> {one['after'] or 'none'}")


@command(
    examples=[
        ("skyflowctl plugin list", "what is registered, and what every mount runs"),
        ("skyflowctl plugin list --name skyflow-next", "for another name"),
        ("skyflowctl plugin list -o json", "for programs"),
    ],
    exits=_EXITS,
)
def plugin_list(target: TargetOptions, output: OutputOptions, name: NameOption = "skyflow") -> None:
    """List the catalog's versions of the plugin with their digests, and the version and
    digest that every mount of that type really runs."""

    def work(run: Run) -> Result:
        from skyflowctl.operations.plugins import list_plugins

        with wiring.open_gateway(target, run) as gateway:
            found = list_plugins(gateway, name)
        entries = [
            {"name": one.name, "version": one.version, "sha256": one.sha256}
            for one in found.entries
        ]
        return Result({"catalog": entries, "mounts": [asdict(one) for one in found.mounts]})

    run_command("plugin list", output, work, _view_plugins)


def _view_plugins(result: Result, terminal: Terminal) -> None:
    catalog = [(one["name"], one["version"], one["sha256"]) for one in result.data["catalog"]]
    mounts = [(one["path"], one["version"], one["sha256"]) for one in result.data["mounts"]]
    terminal.table(["PLUGIN", "VERSION", "SHA256"], catalog)
    terminal.line()
    terminal.table(["MOUNT", "RUNS", "SHA256"], mounts)
