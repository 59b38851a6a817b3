"""``skyflowctl schema``."""

from skyflowctl.cli.command import command
from skyflowctl.cli.envelope import Result
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.render.terminal import Terminal
from skyflowctl.cli.run import Run, run_command


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

    def work(_: Run) -> Result:
        import json

        from skyflowctl.operations.schema import schema as published

        return Result({"schema": json.loads(published())})

    run_command("schema", output, work, _view)


def _view(result: Result, terminal: Terminal) -> None:
    from skyflowctl.cli.envelope import to_json

    terminal.raw(to_json(result.data["schema"]) + "\n")
