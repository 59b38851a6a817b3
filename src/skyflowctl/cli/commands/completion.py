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
    """Print a script that completes commands, options, files, and the names of mounts, roles and
    contexts, and the accessors of stored requests.

    Names come from the manifest in the folder, and from the server that the environment or the
    context names, with the token that is there. A TAB waits at most 0.3 s; names that come later
    are there at the next one. They are kept for 30 s, for that server and token alone. Completion
    asks for nothing, logs in nowhere and prints no error. After an upgrade, print it again."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.cli.completion import script_for

        return CommandResult({"shell": shell, "script": script_for(shell)})

    run_command("completion", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    terminal.raw(result.data["script"])
