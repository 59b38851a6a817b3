"""``skyflowctl consumer manifest``: the configuration with which an application reads tokens."""

from typing import Annotated, Literal

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.consumer.command import NameArgument
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import FileOption, OutputOptions, option
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem

Program = Literal[
    "agent", "proxy", "injector", "vso", "eso", "csi", "github", "gitlab",
    "python", "node", "java", "go", "airflow",
]  # fmt: skip


@command(
    examples=[
        ("skyflowctl consumer manifest order-service --for agent", "the file of bao agent"),
        (
            "skyflowctl consumer manifest order-service --for eso --ctx order:nightly",
            "objects for the External Secrets Operator",
        ),
        (
            "skyflowctl consumer manifest order-service --for node --ctx order:nightly",
            "a token source for Node.js",
        ),
        (
            "skyflowctl consumer manifest order-service --for proxy -o json",
            "for programs",
        ),
    ],
    exits=[ExitCode.INVALID],
)
def consumer_manifest(
    name: NameArgument,
    output: OutputOptions,
    *,
    program: Annotated[
        Program,
        option(
            "--for",
            help="Who reads: agent, proxy (bao), injector, vso, eso, csi (Kubernetes), github,"
            " gitlab (jobs), python, node, java, go (source code), airflow (settings).",
            metavar="PROGRAM",
        ),
    ],
    role: Annotated[
        str,
        option("--role", help="Which role, if it may read several.", metavar="MOUNT/ROLE"),
    ] = "",
    ctx: Annotated[str, option("--ctx", help="The ctx that is sent: a text.", metavar="CTX")] = "",
    address: Annotated[
        str,
        option(
            "--address", help="The server's address, as the application reaches it.", metavar="URL"
        ),
    ] = "",
    file: FileOption = None,
) -> None:
    """Print the ready configuration with which a platform logs in as a consumer and reads its
    tokens, and the interval at which it reads them again: a token has no lease, so no platform
    knows by itself when it ends. A word FILL_IN_… stands for what the manifest does not say. No
    server is asked, and no secret is printed."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.consumer_manifest.write import SnippetOptions, write_snippet
        from skyflowctl.operations.consumers import find_consumer

        manifest = manifests.load_named_manifest(file, run).manifest
        consumer = find_consumer(manifest, name)
        made = write_snippet(manifest, consumer, SnippetOptions(program, role, ctx, address))
        data = {
            "consumer": consumer.name,
            "method": consumer.method,
            "for": program,
            "path": made.path,
            "refresh": made.refresh,
            "fill_in": dict(made.blanks),
            "snippet": made.text,
        }
        return CommandResult(data, warnings=tuple(_blank(*one) for one in made.blanks.items()))

    run_command("consumer manifest", output, work, _view)


def _blank(word: str, by: str) -> Problem:
    return Problem(
        "fill-in", f"replace {word} in the snippet", "the manifest does not say it", f"put in {by}"
    )


def _view(result: CommandResult, terminal: Terminal) -> None:
    for line in result.data["snippet"].splitlines():
        terminal.line(line)
