"""``skyflowctl validate``."""

import os

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.review import (
    Reviewed,
    ReviewOutputOptions,
    ReviewViews,
    add_problems,
    run_review,
)
from skyflowctl.cli.console import Styled, Terminal, packed
from skyflowctl.cli.context import manifests
from skyflowctl.cli.envelope import CommandResult, problem_json
from skyflowctl.cli.markdown import MarkdownPage
from skyflowctl.cli.options import AllowHostOption, FileOption
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import ExitCode
from skyflowctl.text import counted


@command(
    examples=[
        ("skyflowctl validate", "check ./mounts.yaml and its credentials"),
        ("skyflowctl validate -f base.yaml -f prod.yaml", "merge two files, then check"),
        ("skyflowctl validate -f - < mounts.yaml", "from standard input"),
        ("skyflowctl validate -o sarif > validate.sarif", "positions, for a code scanner"),
    ],
    exits=[ExitCode.INVALID],
)
def validate(
    output: ReviewOutputOptions, *, file: FileOption = None, allow_host: AllowHostOption = None
) -> None:
    """Check the manifest, and every credential in a file or a variable, without a server. All
    problems are listed at once, each with file, line and column. A variable that is not set
    is a warning."""

    reviewed = Reviewed()

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.credentials.token_hosts import token_hosts
        from skyflowctl.manifest.files import source_name
        from skyflowctl.operations.validate import validate as check

        files = manifests.manifest_files(file)
        reviewed.file = source_name(files[0])
        found = check(
            files,
            environ=os.environ,
            clock=run.clock,
            allowed_hosts=token_hosts(allow_host, os.environ),
        )
        warnings = [problem_json(one) for one in found.warnings]
        others = {"others": found.others()}
        data = {"valid": found.valid, **found.counts(), **others, "warnings": warnings}
        if found.valid:
            return CommandResult(data, warnings=found.warnings)
        return CommandResult(data, "error", ExitCode.INVALID, found.problems, found.warnings)

    run_review("validate", output, work, ReviewViews(_view, _page), reviewed)


def _view(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    if data["valid"]:
        counts = f"{counted(data['mounts'], 'mount')}, {counted(data['roles'], 'role')}"
        terminal.line(
            Styled("valid", "green"),
            f": {counts}, {data['resolved']} of {data['references']} references resolved",
        )
        words = ((kind.replace("_", " "), number) for kind, number in data["others"].items())
        packed(terminal, [counted(number, word, _PLURAL.get(word, "")) for word, number in words])


def _page(result: CommandResult, page: MarkdownPage) -> None:
    word = "valid" if result.data.get("valid") else "not valid"
    page.paragraph(f"### skyflowctl: the manifest is {word}")
    if "valid" in result.data:
        named = ("mounts", "roles", "references", "resolved")
        numbers = [(name, result.data[name]) for name in named]
        numbers += [
            (kind.replace("_", " "), number) for kind, number in result.data["others"].items()
        ]
        page.table(["", "number"], [row for row in numbers if row[1]])
    add_problems(page, result)


_PLURAL = {"policy": "policies", "group alias": "group aliases"}
