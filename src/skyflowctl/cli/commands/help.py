"""``skyflowctl help``: the page of a command, or of a topic."""

from typing import Annotated

import typer

from skyflowctl.cli import help as pages
from skyflowctl.cli.command import command


@command(
    examples=[
        ("skyflowctl help exit-codes", "the meaning of each exit code"),
        ("skyflowctl help environment", "the environment variables"),
        ("skyflowctl help mount list", "the page of one command"),
    ],
)
def help_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND|TOPIC]", help="A command, or a topic."),
    ] = None,
) -> None:
    """Explain a command, or one of the topics exit-codes, environment and output."""
    asked = words or []
    if len(asked) == 1 and asked[0] in pages.TOPICS:
        typer.echo(pages.topic_page(asked[0], pages.new_page()), nl=False)
        return
    from skyflowctl.cli.app import root_group

    root_group().main([*asked, "--help"])
