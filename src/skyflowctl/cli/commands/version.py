"""``skyflowctl version``."""

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.version import __version__, semver


@command(
    examples=[
        ("skyflowctl version", "the version"),
        ("skyflowctl version -o json", "for programs, with the plugin's version"),
        ("skyflowctl --version", "the same, slightly faster"),
    ],
)
def version(output: OutputOptions) -> None:
    """Print the version of skyflowctl and the semantic version of its plugin."""
    run_command("version", output, _work, _view)


def _work(_: CommandRun) -> CommandResult:
    return CommandResult({"version": __version__, "plugin_version": semver()})


def _view(result: CommandResult, terminal: Terminal) -> None:
    terminal.line(f"skyflowctl {result.data['version']}")
