"""``skyflowctl export``."""

from typing import Annotated

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    FileOption,
    MountsArgument,
    OutputOptions,
    ParallelismOption,
    TargetOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode

OutOption = Annotated[
    str, option("--out", help="Write to this new file instead of stdout.", metavar="PATH")
]
ManifestOption = Annotated[
    str,
    option("--manifest", help="The id, if the mounts do not record a single one.", metavar="ID"),
]
PluginOption = Annotated[
    str, option("--plugin", help="The mount type (default skyflow).", metavar="NAME")
]


@command(
    examples=[
        ("skyflowctl export", "every mount of the engine, as YAML on stdout"),
        ("skyflowctl export order payment --out two.yaml", "two mounts, to a new file"),
        ("skyflowctl export --manifest shop --out by-hand.yaml", "mounts that were made by hand"),
        ("skyflowctl export -o json | jq -r .data.text", "for programs"),
    ],
    exits=[
        ExitCode.NOT_PERMITTED,
        ExitCode.REFUSED,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
    ],
)
def export(
    target: TargetOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    out: OutOption = "",
    manifest: ManifestOption = "",
    plugin: PluginOption = "skyflow",
    parallelism: ParallelismOption = 10,
) -> None:
    """Write the manifest of live mounts and of everything else that their manifest made: engines
    with their objects, login methods with their logins, groups, policies, quotas and namespaces.
    It contains no secret: live: true stands for what the server keeps. A plan of it is empty.
    What is left out is a warning. An existing file is not overwritten."""

    def work(run: CommandRun) -> CommandResult:
        from dataclasses import asdict

        from skyflowctl.cli.commands.apply.progress import reading
        from skyflowctl.cli.envelope import problem_json
        from skyflowctl.manifest.write import save
        from skyflowctl.operations.export import export as make

        paths = [manifests.resolve_path(one, file) for one in mounts or ()]
        with gateways.open_gateway(target, run) as gateway, reading(run.terminal) as reads:
            made = make(
                gateway,
                paths,
                plugin=plugin,
                manifest_id=manifest,
                parallelism=parallelism,
                reads=reads,
            )
        if out:
            save(made.text, out)
        data = {**asdict(made), "mounts": list(made.mounts), "file": out or None}
        data["warnings"] = [problem_json(one) for one in made.warnings]
        return CommandResult(data, warnings=made.warnings)

    run_command("export", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    if result.data["file"]:
        terminal.note(f"wrote {result.data['file']}")
        terminal.note(f"next: skyflowctl plan -f {result.data['file']}")
    else:
        terminal.raw(result.data["text"])
