"""``skyflowctl init``."""

from enum import StrEnum
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


class Addition(StrEnum):
    """What init adds to the first manifest."""

    OPERATORS = "operators"


WithOption = Annotated[
    Addition | None,
    option("--with", help="Add least policies: operator, rotator, auditor, application."),
]


@command(
    examples=[
        ("skyflowctl init", "write ./mounts.yaml"),
        ("skyflowctl init -f shop.yaml", "write it elsewhere"),
        ("skyflowctl init -f people.yaml --with operators", "with policies for people"),
        ("skyflowctl init && skyflowctl validate", "write it, then check it"),
    ],
    exits=[ExitCode.REFUSED],
)
def init(
    output: OutputOptions,
    file: PathOption = "mounts.yaml",
    with_: WithOption = None,
    force: ForceOption = False,
) -> None:
    """Write a commented manifest with one mount and one role. In a git work tree, the folder
    for credentials is added to .gitignore. An existing file is not overwritten."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.operations.init import init as start

        started = start(file, force=force, operators=with_ is not None)
        return CommandResult({"manifest": str(started.manifest), "done": list(started.done())})

    run_command("init", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    for line in result.data["done"]:
        terminal.line(line)
    terminal.note(f"next: edit it, then skyflowctl validate -f {result.data['manifest']}")
