"""Options of the commands that read audit logs, and the logs they name."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from skyflowctl.cli.context import manifests
from skyflowctl.cli.options import (
    OUTPUT_PANEL,
    OptionGroup,
    OutputOptions,
    TargetOptions,
    option,
)
from skyflowctl.errors import Problem, SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN

if TYPE_CHECKING:
    from datetime import datetime

    from skyflowctl.audit.model import RequestOutcome
    from skyflowctl.audit.query import Query
    from skyflowctl.audit.sources import Sources

LOG_VARIABLE = "SKYFLOWCTL_AUDIT_LOG"
FILTER_PANEL = "Which requests"

LogsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LOG]...",
        help="Audit log files, globs, NODE=PATH, or - for stdin; .gz and .zst too. "
        f"Default: ${LOG_VARIABLE}, else the dev stack's.",
        show_default=False,
    ),
]
PluginOption = Annotated[
    list[str] | None,
    option(
        "--plugin",
        help="The mount type of the engine; repeatable (default skyflow).",
        metavar="NAME",
    ),
]
SinceOption = Annotated[
    str | None,
    option(
        "--since",
        help="Start of the period: a day, RFC 3339, or a duration ago (24h, 7d).",
        panel=FILTER_PANEL,
        metavar="TIME",
    ),
]
UntilOption = Annotated[
    str | None,
    option(
        "--until",
        help="End of the period; a day is included.",
        panel=FILTER_PANEL,
        metavar="TIME",
    ),
]


@dataclass(frozen=True, slots=True)
class FilterOptions(OptionGroup):
    """Which token requests. Values of one flag are alternatives; different flags add up."""

    mount: Annotated[
        list[str] | None,
        option(
            "--mount",
            help="A mount's name or path, or a glob with * and ?; repeatable.",
            panel=FILTER_PANEL,
            metavar="MOUNT",
        ),
    ] = None
    role: Annotated[
        list[str] | None,
        option("--role", help="A role of the engine.", panel=FILTER_PANEL, metavar="GLOB"),
    ] = None
    app: Annotated[
        list[str] | None,
        option("--app", help="The name of the login.", panel=FILTER_PANEL, metavar="GLOB"),
    ] = None
    run: Annotated[
        list[str] | None,
        option("--run", help="A run id of skyflowctl.", panel=FILTER_PANEL, metavar="ID"),
    ] = None
    log_node: Annotated[
        list[str] | None,
        option(
            "--log-node",
            help="The node of the log, from NODE=PATH.",
            panel=FILTER_PANEL,
            metavar="GLOB",
        ),
    ] = None
    outcome: Annotated[
        list[str] | None,
        option(
            "--outcome",
            help="granted, denied (by a policy), refused (by the engine or Skyflow), "
            "failed, unknown or pending (awaiting an approval).",
            panel=FILTER_PANEL,
            metavar="WORD",
        ),
    ] = None
    since: SinceOption = None
    until: UntilOption = None


@dataclass(frozen=True, slots=True)
class RowsOutputOptions(OutputOptions):
    """The same with two more forms, for many rows."""

    format: Annotated[
        Literal["table", "json", "ndjson", "csv"],
        option(
            "-o",
            "--output",
            help="table, json (up to 40000 rows), ndjson (one row per line) or csv.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # more forms than elsewhere, on purpose

    @property
    def json(self) -> bool:
        """True when the result is an envelope, at the end of a stream or alone."""
        return self.format in {"json", "ndjson"}


DevOption = Annotated[bool, option("--dev", help="Read the dev stack's log.")]


def log_patterns(
    given: Sequence[str] | None, *, dev: bool = False, address: str | None = None
) -> tuple[str, ...]:
    """Return the logs named by arguments or environment, else the dev stack's.

    Args:
        given: the arguments.
        dev: ``--dev`` was given.
        address: the value of ``--address``; the environment's address if it is not given.

    Raises:
        UsageError: no log is named, and the server is not the dev stack.
    """
    from skyflowctl.devstack.layout import find_layout

    if given:
        return tuple(given)
    named = os.environ.get(LOG_VARIABLE, "")
    if named:
        return tuple(one for one in named.split(os.pathsep) if one)
    if dev or _is_dev(address):
        return (f"dev={_from_here(find_layout(os.environ).audit_log)}",)
    raise UsageError(
        "no audit log is named",
        why=f"there is no argument and no ${LOG_VARIABLE}, and the dev stack is not the server",
        fix="name the audit device's files, such as 'logs/audit.log*', or - for stdin",
        code="no-audit-log",
    )


def _from_here(path: Path) -> Path:
    """Return the path relative to the working folder, so that evidence names no machine."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_dev(address: str | None) -> bool:
    from skyflowctl.devstack.recognise import is_address_of_dev_stack
    from skyflowctl.vault.environment import named_address

    named = address or named_address(os.environ)
    return bool(named) and is_address_of_dev_stack(named, os.environ)


def open_logs(patterns: Sequence[str], *, digest: bool = False) -> "Sources":
    """Return the files of these patterns; stdin is this process's own.

    Raises:
        UsageError: a pattern matches no file.
        InvalidInputError: a file cannot be read.
    """
    from skyflowctl.audit.sources import open_sources

    return open_sources(patterns, stdin=sys.stdin.buffer, digest=digest)


def check_stdin_once(
    patterns: Sequence[str], *, token: bool = False, target: TargetOptions | None = None
) -> None:
    """Refuse a command line with two inputs from standard input.

    Raises:
        UsageError: the second would read nothing.
    """
    readers = ["-"] * any(one.rpartition("=")[2] == "-" for one in patterns)
    readers += ["--token -"] * token
    readers += ["--token-file -"] * [target and target.token_file].count("-")
    if len(readers) > 1:
        raise UsageError(
            f"{' and '.join(readers)} both read standard input",
            why="it can be read only once",
            fix="give a file to all but one of them",
            code="stdin-twice",
        )


def plugin_names(given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the mount types that are the engine's."""
    return tuple(given or ()) or (DEFAULT_PLUGIN,)


def named_namespace(target: TargetOptions) -> str:
    """Return the manifest's namespace for a command without a server; empty: the root."""
    from skyflowctl.vault.environment import variable

    return target.namespace or variable(os.environ, "NAMESPACE") or ""


def mount_globs(given: Sequence[str] | None, file: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the paths of ``--mount``; a value without a slash is a name.

    Args:
        given: the values.
        file: the values of ``-f``.

    Raises:
        UsageError: a value is no name, no path and no glob.
    """
    from skyflowctl.audit.globs import is_glob

    found = []
    for word in given or ():
        if "/" not in word and not is_glob(word):
            found.append(manifests.resolve_path(word, file))
        elif "/" in word or word == "*":
            found.append(word.strip("/"))
        else:
            found.append(f"{manifests.path_prefix(file)}/{word}")
    return tuple(found)


def outcomes(given: Sequence[str] | None) -> "tuple[RequestOutcome, ...]":
    """Return the outcomes of ``--outcome``.

    Raises:
        UsageError: a value is not an outcome.
    """
    from skyflowctl.audit.model import RequestOutcome

    known = {one.value for one in RequestOutcome} - {RequestOutcome.CONFLICT}
    wrong = [word for word in given or () if word not in known]
    if wrong:
        raise UsageError(
            f"--outcome {wrong[0]} is none",
            why="a request ends as " + ", ".join(sorted(known)),
            fix="give one of these words; repeat the flag for several",
        )
    return tuple(RequestOutcome(word) for word in given or ())


def query_of(filters: FilterOptions, now: "datetime") -> "Query":
    """Return the query of the filters, without a ctx.

    Raises:
        UsageError: a time, an outcome or a mount is invalid, or the times are in the wrong order.
    """
    from skyflowctl.audit import times
    from skyflowctl.audit.query import Query

    since = times.since(filters.since, now) if filters.since is not None else None
    until = times.until(filters.until, now) if filters.until is not None else None
    if since and until and until <= since:
        raise UsageError(
            "--until is not after --since",
            why="no request can be in between",
            fix="give the earlier time to --since",
        )
    return Query(
        mounts=mount_globs(filters.mount),
        roles=tuple(filters.role or ()),
        apps=tuple(filters.app or ()),
        runs=tuple(filters.run or ()),
        nodes=tuple(filters.log_node or ()),
        outcomes=outcomes(filters.outcome),
        since=since,
        until=until,
    )


def parsed_ctx(text: str) -> str | Mapping[str, Any]:
    """Return a text or glob unchanged, an object parsed.

    Raises:
        UsageError: it begins like an object, and is none.
    """
    if not text.startswith("{"):
        return text
    from skyflowctl.operations.creds import parse_ctx

    return parse_ctx(text) or text


def hashes_not_asked(error: SkyflowctlError) -> Problem:
    """Return the warning that a server did not return the hashes of a text."""
    first = error.problems[0]
    return Problem(
        "hashes-not-asked",
        f"the server could not be asked for hashes: {first.summary}",
        first.why,
        first.fix,
    )
