"""What a review gets of ``plan`` and ``validate``: Markdown for people, SARIF for scanners.

Both are written on a failure too, because a pipeline keeps what is on stdout.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult, safe_json
from skyflowctl.cli.markdown import MarkdownPage
from skyflowctl.cli.options import OUTPUT_PANEL, OutputOptions, option
from skyflowctl.cli.problems import show_problems, show_warnings
from skyflowctl.cli.runner import CommandWork, View, run_command
from skyflowctl.errors import Problem, Where
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.manifest.load import LoadedManifest
    from skyflowctl.sarif import SarifFinding


@dataclass(frozen=True, slots=True)
class ReviewOutputOptions(OutputOptions):
    """The same with two more forms, for merge requests and scanners."""

    format: Annotated[
        Literal["table", "json", "markdown", "sarif"],
        option(
            "-o",
            "--output",
            help="table, json, markdown (for a merge request) or sarif (SARIF 2.1.0); "
            "default table.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # more forms than elsewhere, on purpose


@dataclass(slots=True)
class Reviewed:
    """What a review names besides the command's result; the work fills it in.

    Args:
        file: the manifest's first file; empty: it was not read.
        server: the server's address; empty: none was asked.
        mounts: the positions of the manifest's mounts, by name.
        warnings: those of the manifest, which are no part of the result.
    """

    file: str = ""
    server: str = ""
    mounts: Mapping[str, Where] = field(default_factory=dict)
    warnings: Sequence[Problem] = ()

    def add_manifest(self, loaded: "LoadedManifest") -> None:
        """Take over what is needed of a manifest."""
        self.file = next((mount.where.file or "" for mount in loaded.manifest.mounts), "")
        self.mounts = {mount.name: mount.where for mount in loaded.manifest.mounts}
        self.warnings = loaded.warnings


@dataclass(frozen=True, slots=True)
class ReviewViews:
    """How a command's result is shown.

    Args:
        text: as text, on success only.
        page: fills a page of Markdown; ``data`` of the result is empty after a failure.
        drift: returns its findings that are neither errors nor warnings, for SARIF.
    """

    text: View
    page: Callable[[CommandResult, MarkdownPage], None]
    drift: Callable[[CommandResult, Reviewed], Iterable["SarifFinding"]] = lambda *_: ()


def run_review(
    name: str,
    output: ReviewOutputOptions,
    work: CommandWork,
    views: ReviewViews,
    reviewed: Reviewed,
) -> NoReturn:
    """Do a command's work, show its result in the chosen form, and exit with its exit code."""

    def markdown(result: CommandResult, terminal: Terminal) -> None:
        page = MarkdownPage()
        warnings = (*reviewed.warnings, *result.warnings)
        views.page(replace(result, warnings=warnings), page)
        terminal.raw(page.text(f"skyflowctl {name}"))

    def sarif(result: CommandResult, terminal: Terminal) -> None:
        from skyflowctl.sarif import findings_log

        found = [*_findings(result, reviewed, terminal), *views.drift(result, reviewed)]
        log = findings_log(
            found,
            exit_code=result.exit_code,
            manifest=reviewed.file,
            server=reviewed.server,
        )
        terminal.raw(safe_json(log) + "\n")

    forms: Mapping[str, View] = {"markdown": markdown, "sarif": sarif}
    form = forms.get(output.format)
    run_command(name, output, work, form or views.text, failure_view=form)


def _findings(
    result: CommandResult, reviewed: Reviewed, terminal: Terminal
) -> "Iterator[SarifFinding]":
    """Yield errors and warnings, each once, with the commands in them completed."""
    from skyflowctl.sarif import SarifFinding

    complete = terminal.given.complete
    level = dict.fromkeys((*reviewed.warnings, *result.warnings), "warning")
    for one, word in (level | dict.fromkeys(result.problems, "error")).items():
        yield SarifFinding(word, replace(one, why=complete(one.why), fix=complete(one.fix)))


def add_problems(page: MarkdownPage, result: CommandResult) -> None:
    """Add a result's errors and its other warnings to a page, each as stderr has it."""
    errors = list(dict.fromkeys(result.problems))
    warnings = [one for one in dict.fromkeys(result.warnings) if one not in errors]
    for what, found, show in (
        ("error", errors, show_problems),
        ("warning", warnings, show_warnings),
    ):
        told = [captured(partial(show, [one])) for one in found]
        page.fold(what if len(found) == 1 else f"{what}s", told, is_open=True)


def captured(show: Callable[[Terminal], None]) -> list[str]:
    """Return the lines that a view writes where nobody watches."""
    text = io.StringIO()
    show(Terminal(no_color=True, out=text, err=text))
    return text.getvalue().splitlines()
