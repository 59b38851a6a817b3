"""``skyflowctl completion``."""

from typing import Annotated, Literal

import typer

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.runner import CommandRun, run_command

ShellArgument = Annotated[
    Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
]


@command(
    examples=[
        ("source <(skyflowctl completion bash)", "for this bash session"),
        ("skyflowctl completion zsh > ~/.zfunc/_skyflowctl", "for zsh, from a folder of fpath"),
        ("skyflowctl completion fish > ~/.config/fish/completions/skyflowctl.fish", "for fish"),
    ],
)
def completion(shell: ShellArgument, output: OutputOptions) -> None:
    """Print a script that completes commands and options. The script is static: completion
    starts no process and calls no server. After an upgrade, print it again."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.cli.completion import script_for

        return CommandResult({"shell": shell, "script": script_for(shell)})

    run_command("completion", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    terminal.raw(result.data["script"])
