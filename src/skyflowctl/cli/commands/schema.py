"""``skyflowctl schema``."""

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.runner import CommandRun, run_command


@command(
    examples=[
        ("skyflowctl schema", "the schema of mounts.yaml"),
        ("skyflowctl schema > mounts.schema.json", "as a file for an editor"),
        ("skyflowctl schema -o json | jq .data.schema", "in the JSON envelope"),
    ],
)
def schema(output: OutputOptions) -> None:
    """Print the JSON Schema (2020-12) of the manifest. Name it in the first line of a manifest
    to get completion and checks in an editor."""

    def work(_: CommandRun) -> CommandResult:
        import json

        from skyflowctl.manifest.schema import schema_text

        return CommandResult({"schema": json.loads(schema_text())})

    run_command("schema", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.envelope import safe_json

    terminal.raw(safe_json(result.data["schema"]) + "\n")
