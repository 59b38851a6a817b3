"""``skyflowctl init``."""

from typing import Annotated

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OutputOptions, option
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode

PathOption = Annotated[
    str, option("-f", "--file", help="The file to write (default mounts.yaml).", metavar="PATH")
]
ForceOption = Annotated[bool, option("--force", help="Overwrite an existing file.")]


@command(
    examples=[
        ("skyflowctl init", "write ./mounts.yaml"),
        ("skyflowctl init -f shop.yaml", "write it elsewhere"),
        ("skyflowctl init && skyflowctl validate", "write it, then check it"),
    ],
    exits=[ExitCode.REFUSED],
)
def init(
    output: OutputOptions, file: PathOption = "mounts.yaml", force: ForceOption = False
) -> None:
    """Write a commented manifest with one mount and one role. In a git work tree, the folder
    for credentials is added to .gitignore. An existing file is not overwritten."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.operations.init import init as start

        started = start(file, force=force)
        return CommandResult({"manifest": str(started.manifest), "done": list(started.done())})

    run_command("init", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    for line in result.data["done"]:
        terminal.line(line)
    terminal.note(f"next: edit it, then skyflowctl validate -f {result.data['manifest']}")
