"""The typer application: groups that import a command when it is called.

Both entry points (:func:`run_command_line` for the process, ``typer.testing.CliRunner`` on
:data:`app`) end in :meth:`LazyGroup.main`, so exit codes and envelopes are the same in both.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from skyflowctl.cli import help as pages
from skyflowctl.cli import streams
from skyflowctl.cli.command import load
from skyflowctl.cli.habits import after_command_name
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.registry import COMMANDS, GROUPS, children, find_command
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.version import __version__

_JSON_FLAGS = frozenset({"-ojson", "-o=json", "--output=json", "-format=json", "--format=json"})


class LazyGroup(TyperGroup):
    """The root, or a group such as ``mount``; takes its commands from the table alone."""

    prefix = ""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the subcommands, in the table's order."""
        return [word for word, _, _ in children(self.prefix)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """Return the command or group of that name, imported now, or None."""
        if not self.prefix and cmd_name in GROUPS:
            return _group(cmd_name)
        row = find_command(f"{self.prefix} {cmd_name}".strip())
        return load(row) if row else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the same page that ``main.py`` prints without typer."""
        page = pages.new_page()
        ctx.color = pages.wants_color()
        if self.prefix:
            formatter.write(pages.group_page(self.prefix, page))
        else:
            formatter.write(pages.root_page(page))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or suggest a similar one."""
        word = args[0]
        found = self.get_command(ctx, word)
        if found is None and not word.startswith("-"):
            _refuse_unknown(self.prefix, word, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Parse and run; report a wrong command line like any other failure (exit 64)."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            given = after_command_name(given)
            code = super().main(given, "skyflowctl", standalone_mode=False)
            if code == ExitCode.INTERRUPTED:  # typer's answer to Ctrl-C; a command exits itself
                fail(given, KeyboardInterrupt())
        except (TyperException, UsageError) as error:
            fail(given, _usage_error(error, command_named(given)))
        except BrokenPipeError:
            streams.drop_stdout()
            sys.exit(0)
        except OSError as error:
            # Commands catch their own errors: this one came from printing a help page.
            streams.drop_stdout()
            fail(given, streams.output_failed(error))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the catch site
            fail(given, error)
        sys.exit(code or 0)


def _refuse_unknown(prefix: str, word: str, known: list[str]) -> NoReturn:
    near = get_close_matches(word, known, n=1)
    helped = f"skyflowctl {prefix} --help".replace("  ", " ")
    fix = f"did you mean '{near[0]}'?" if near else f"run '{helped}'"
    full = f"{prefix} {word}".strip()
    raise UsageError(
        f"no such command: {full}",
        why=f"skyflowctl{prefix and ' '}{prefix} has no command of this name",
        fix=fix,
    )


def _usage_error(error: TyperException | UsageError, command: str) -> UsageError:
    if isinstance(error, UsageError):
        return error
    ctx = getattr(error, "ctx", None)
    # The error of an option without its value has no context.
    path = ctx.command_path if ctx else f"skyflowctl {command}".strip()
    # A missing option with choices has one per line.
    summary = " ".join(error.format_message().split()).rstrip(".")
    return UsageError(
        summary[:1].lower() + summary[1:],
        why="the command line does not fit the command",
        fix=f"run '{path} --help'",
    )


def fail(args: list[str], error: BaseException) -> NoReturn:
    """Report a failure outside a command's own run, and exit."""

    def work(_: CommandRun) -> NoReturn:
        raise error

    output = OutputOptions(
        format="json" if json_asked(args) else "table",
        no_color="--no-color" in args,
        verbose=args.count("-v") + args.count("--verbose"),
    )
    run_command(command_named(args), output, work, lambda *_: None)


def json_asked(args: Sequence[str]) -> bool:
    """Return whether a command line that could not be parsed requests JSON."""
    own = list(args[: args.index("--")] if "--" in args else args)
    if any(word in _JSON_FLAGS for word in own):
        return True
    asks = {"-o", "--output", "-format", "--format"}
    return any(flag in asks and value == "json" for flag, value in pairwise(own))


def command_named(args: Sequence[str]) -> str:
    """Return the name of the command that a command line calls; empty for none."""
    words = [word for word in args if not word.startswith("-")][:2]
    if len(words) == 2 and find_command(" ".join(words)):
        return " ".join(words)
    known = bool(words) and (words[0] in GROUPS or find_command(words[0]) is not None)
    return words[0] if known else ""


def _version_asked(value: bool) -> None:
    if value:
        sys.stdout.write(f"skyflowctl {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version_asked, is_eager=True)
    ] = False,
) -> None:
    """Short-lived Skyflow tokens through OpenBao or Vault."""


app = typer.Typer(
    name="skyflowctl",
    cls=LazyGroup,
    callback=_root,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _group(name: str) -> LazyGroup:
    group = LazyGroup(
        name=name,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.prefix = name
    return group


def root_group() -> LazyGroup:
    """Return the root group, from which all commands can be reached."""
    built = get_command(app)
    assert isinstance(built, LazyGroup)
    return built


def run_command_line(args: list[str]) -> NoReturn:
    """Run a command line and exit with its code."""
    root_group().main(args)


def every_command() -> list[tuple[str, TyperCommand]]:
    """Import all commands and return them by full name, in the table's order."""
    return [(row.name, load(row)) for row in COMMANDS]
