"""``skyflowctl schema``."""

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.runner import CommandRun, run_command


@command(
    examples=[
        ("skyflowctl schema", "the schema of mounts.yaml"),
        ("skyflowctl schema > mounts.schema.json", "for an editor that wants a file"),
        ("skyflowctl schema -o json | jq .data.schema", "within the envelope"),
    ],
)
def schema(output: OutputOptions) -> None:
    """Print the JSON Schema (2020-12) of the manifest, as this version reads it. Name it in
    the first line of a manifest, and an editor completes and checks while you type."""

    def work(_: CommandRun) -> CommandResult:
        import json

        from skyflowctl.operations.schema import published_schema as published

        return CommandResult({"schema": json.loads(published())})

    run_command("schema", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.envelope import safe_json

    terminal.raw(safe_json(result.data["schema"]) + "\n")
