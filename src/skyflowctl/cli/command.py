"""Turns a function into a command with metadata, option groups and a help page."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption
from typer.main import get_command

from skyflowctl.cli import help as pages
from skyflowctl.cli.habits import translate
from skyflowctl.cli.options import COMMON_PANEL, REPEATED, OptionGroup
from skyflowctl.cli.printed_commands import repeating
from skyflowctl.cli.registry import CommandRow
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.frozen import dataclass

F = TypeVar("F", bound=Callable[..., None])
_FACTS = "__skyflowctl_command__"
_PANEL_ORDER = ("Arguments", COMMON_PANEL)

READ_EXITS = (ExitCode.NOT_PERMITTED, ExitCode.INVALID, ExitCode.UNREACHABLE)
"""The exit codes of a command that reads a server."""
WRITE_EXITS = (
    ExitCode.PARTIAL,
    ExitCode.NOT_PERMITTED,
    ExitCode.REFUSED,
    ExitCode.UNHEALTHY,
    ExitCode.PENDING,
    ExitCode.INVALID,
    ExitCode.UNREACHABLE,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
)
"""The exit codes of a command that changes several objects of a server."""


@dataclass(frozen=True, slots=True)
class CommandMeta:
    """The parts of a command's help besides its docstring and options.

    Args:
        examples: pairs of a command line to copy and what it does.
        exits: its exit codes besides 1 and 64, which every command has.
        env: relevant rows of ``help.ENVIRONMENT`` besides those shown at options.
    """

    examples: Sequence[tuple[str, str]]
    exits: Sequence[ExitCode]
    env: Sequence[str] = ()


def command(
    *,
    examples: Sequence[tuple[str, str]],
    exits: Sequence[ExitCode] = (),
    env: Sequence[str] = (),
) -> Callable[[F], F]:
    """Register a function as the command of a row in ``table.py``.

    The function's docstring is the help text. Its parameters are typer's, plus
    parameters annotated with an :class:`OptionGroup`.
    """

    def mark(function: F) -> F:
        setattr(function, _FACTS, CommandMeta(examples, (ExitCode.OK, *exits), env))
        return function

    return mark


def load(row: CommandRow) -> "Command":
    """Import a row's module and return its command."""
    module = import_module(f"skyflowctl.cli.commands.{row.module}")
    function = getattr(module, row.attribute)
    builder = typer.Typer(add_completion=False, rich_markup_mode=None)
    builder.command(
        row.name.rpartition(" ")[2],
        cls=Command,
        help=inspect.getdoc(function),
        context_settings={"help_option_names": ["-h", "--help"]},
    )(spread_groups(function))
    built = get_command(builder)
    assert isinstance(built, Command)
    built.facts = getattr(function, _FACTS)
    built.row = row
    built.repeated = _repeated(function)
    return built


def spread_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function whose option groups are spread into single options."""
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    spread: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, OptionGroup):
            members = _members(kind)
            groups[parameter.name] = (kind, [member.name for member in members])
            spread += members
        else:
            spread.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def gathered(**values: Any) -> None:
        for name, (kind, members) in groups.items():
            values[name] = kind(**{member: values.pop(member) for member in members})
        function(**values)

    def checked(**values: Any) -> None:
        files = values.get("file")
        if not isinstance(files, str):  # init's, which is written
            check_stdin(files, values, os.environ)
        gathered(**values)

    checked.__name__ = function.__name__
    checked.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]  # inspect reads it
    checked.__annotations__ = {}
    return checked


_READERS = {
    "token_file": "--token-file",
    "credentials": "--credentials",
    "previous": "--previous",
    "operator_token": "--operator-token",
}


def check_stdin(
    files: Sequence[str] | None, values: Mapping[str, Any], environ: Mapping[str, str]
) -> None:
    """Refuse a command line with two inputs from standard input.

    Raises:
        UsageError: the second would read nothing, or a part of the first.
    """
    named = files or [environ.get("SKYFLOWCTL_FILE", "")]
    readers = ["-f -"] * sum(name == "-" for name in named)
    readers += [f"{flag} -" for name, flag in _READERS.items() if values.get(name) == "-"]
    if len(readers) > 1:
        raise UsageError(
            f"{' and '.join(readers)} both read standard input",
            why="it can be read only once",
            fix="give a file to all but one of them",
            code="stdin-twice",
        )


def _repeated(function: Callable[..., None]) -> frozenset[str]:
    """Return the names of the options that a printed command repeats."""
    names: set[str] = set()
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, OptionGroup):
            names.update(one.name for one in fields(kind) if kind.repeated)  # type: ignore[arg-type]  # every group is a dataclass
        elif any(kind is one for one in REPEATED):
            names.add(parameter.name)
    return frozenset(names)


def _members(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    members = []
    for field in fields(group):
        hint = hints[field.name]
        assert get_origin(hint) is Annotated, f"{group.__name__}.{field.name}"
        assert len(get_args(hint)) == 2, f"{group.__name__}.{field.name}"
        members.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hint,
            )
        )
    return members


class Command(TyperCommand):
    """A command whose help page has examples, panels and its exit codes."""

    facts: CommandMeta
    row: CommandRow
    repeated: frozenset[str]
    """The parameters that a printed command repeats."""

    def invoke(self, ctx: Any) -> Any:
        """Call the function; the commands that it prints repeat its options that say where."""
        with repeating({name: ctx.params.get(name) for name in self.repeated}, load):
            return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after the command's name, including flags of other clients."""
        options = dict.fromkeys(ctx.help_option_names, False)
        for one in self.get_params(ctx):
            if isinstance(one, TyperOption):
                takes = not (one.is_flag or one.count)
                options |= dict.fromkeys((*one.opts, *one.secondary_opts), takes)
        return super().parse_args(ctx, translate(self.row.name, args, options))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page into typer's formatter."""
        page = pages.new_page()
        ctx.color = pages.wants_color()
        self._opening(ctx, page)
        panels = self._panels(ctx)
        longest = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            page.heading(panel)
            page.rows(rows, longest)
        if self.facts.env:
            page.heading("Environment")
            page.rows([(name, pages.ENVIRONMENT[name]) for name in self.facts.env])
        page.heading("Exit codes")
        page.rows([(str(code), pages.EXIT_CODES[code]) for code in self._codes()])
        formatter.write(page.text())

    def _codes(self) -> list[int]:
        every = {ExitCode.UNEXPECTED, ExitCode.USAGE}
        return sorted(int(code) for code in {*self.facts.exits, *every})

    def _opening(self, ctx: Any, page: pages.Page) -> None:
        page.paragraph(f"{self.row.summary}.")
        page.heading("Usage")
        given = [
            one.make_metavar(ctx) for one in self.get_params(ctx) if isinstance(one, TyperArgument)
        ]
        behind = [one for one in given if one.startswith("--")]  # what follows is no option of ours
        pieces = " ".join([*given[: len(given) - len(behind)], "[OPTIONS]", *behind])
        page.line(f"  skyflowctl {self.row.name} {pieces}")
        page.heading("Examples")
        for line, note in self.facts.examples:
            page.example(line, note)
        for block in (self.help or "").split("\n\n"):
            page.line()
            page.paragraph(block)

    def _panels(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, TyperArgument):
                row = (parameter.make_metavar(ctx), parameter.help or "")
                found.setdefault("Arguments", []).append(row)
            elif isinstance(parameter, TyperOption) and not parameter.hidden:
                panel = str(parameter.rich_help_panel or COMMON_PANEL)
                found.setdefault(panel, []).append(_option_row(parameter, ctx))
        first = {panel: found.pop(panel) for panel in _PANEL_ORDER if panel in found}
        return first | found


def _option_row(parameter: TyperOption, ctx: Any) -> tuple[str, str]:
    names = sorted(parameter.opts, key=len)
    flags = ", ".join(names) if len(names[0]) == 2 else "    " + ", ".join(names)
    takes_value = not parameter.is_flag and not parameter.count
    metavar = f" {parameter.make_metavar(ctx=ctx)}" if takes_value else ""
    text = "Show this page." if "--help" in names else parameter.help or ""
    return flags + metavar, text
