"""``--evidence`` of the commands that return rows of token requests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

from skyflowctl.cli.options import OUTPUT_PANEL, option
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import Problem

if TYPE_CHECKING:
    from skyflowctl.audit.evidence import Evidence, Writing
    from skyflowctl.audit.model import Counts, TokenRequest
    from skyflowctl.audit.query import Query
    from skyflowctl.audit.sources import Sources

EvidenceOption = Annotated[
    str | None,
    option(
        "--evidence",
        help="Also write query, answer and digests to this folder. The same logs and absolute "
        "times give the same files; --since 24h differs with every run.",
        panel=OUTPUT_PANEL,
        metavar="DIR",
    ),
]


class EvidenceRows:
    """Writes one table of an answer as its rows arrive; does nothing without a folder.

    Removes its files unless ``complete`` was called.

    Args:
        folder: of ``--evidence``.
        table: the table's name.
        columns: of its rows.

    Raises:
        RefusedError: there is something else in the folder.
        UsageError: it cannot be written there; every method raises this too.
    """

    def __init__(self, folder: str | None, table: str, columns: Sequence[str]) -> None:
        self._folder = folder
        self._table = (table, columns)
        self._writing: Writing | None = None
        self._row: Callable[[Mapping[str, Any]], None] = lambda _: None

    def __enter__(self) -> Self:
        if self._folder is not None:
            from skyflowctl.audit.evidence import Writing

            self._writing = Writing(Path(self._folder))
            self._row = self._writing.rows(*self._table)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writing is not None:
            self._writing.__exit__(kind, error, trace)

    @property
    def wanted(self) -> bool:
        """Whether there is a folder, so that rows and digests are needed."""
        return self._folder is not None

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        self._row(row)

    def complete(self, run: CommandRun, evidence: "Evidence") -> None:
        """Write the rest, and move the folder into place; ``run`` gets the notice."""
        if self._writing is not None:
            self._writing.finish(evidence)
            run.notice(f"wrote the evidence to {self._folder} (sha256sum -c SHA256SUMS checks it)")


class RowsEvidence(EvidenceRows):
    """The requests of a result.

    Args:
        folder: of ``--evidence``.
        command: such as ``audit who``.
    """

    def __init__(self, folder: str | None, command: str) -> None:
        from skyflowctl.cli.commands.audit.view import FIELDS

        super().__init__(folder, "requests", FIELDS)
        self._command = command
        self._first: datetime | None = None
        self._last: datetime | None = None

    def add(self, request: "TokenRequest") -> None:
        """Take in a request."""
        if not self.wanted:
            return
        from skyflowctl.cli.commands.audit.view import request_json

        self._first = min(self._first or request.time, request.time)
        self._last = max(self._last or request.time, request.time)
        self.write(request_json(request))

    def finish(
        self,
        run: CommandRun,
        sources: "Sources",
        counts: "Counts",
        asked: Mapping[str, Any],
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """Move the folder into place.

        Args:
            run: gets the notice.
            sources: what was read, digests taken.
            counts: of it.
            asked: everything that the answer depends on; see :func:`asked_json`.
            results: the answer's other data, in addition to its rows.
        """
        if not self.wanted:
            return
        from skyflowctl.audit.evidence import Evidence

        evidence = Evidence(
            self._command, asked, sources.inputs(), counts, self._first, self._last, results
        )
        self.complete(run, evidence)


def asked_json(patterns: Sequence[str], plugins: Sequence[str], query: "Query") -> dict[str, Any]:
    """Return a query for evidence: its logs as given, times absolute."""
    values = {field.name: _json(getattr(query, field.name)) for field in fields(query)}
    return {"logs": list(patterns), "plugin_names": list(plugins), **values}


def _json(value: Any) -> Any:
    from skyflowctl.audit.as_json import time_json
    from skyflowctl.audit.wanted import CtxWanted

    if isinstance(value, datetime):
        return time_json(value)
    if isinstance(value, CtxWanted):
        return {"glob": value.glob, "forms": list(value.forms)}
    return [_json(each) for each in value] if isinstance(value, tuple) else value


def warn_of_spans(
    run: CommandRun,
    folder: str | None,
    since: str | None,
    until: str | None,
    *,
    names: tuple[str, str] = ("--since", "--until"),
) -> None:
    """Warn that a relative time makes the same command give other evidence later.

    Args:
        run: gets the warning.
        folder: of the evidence; None: there is none.
        since: the first time as given.
        until: the second time as given.
        names: their flags.
    """
    from skyflowctl.audit.times import is_span

    flags = [
        flag for flag, text in zip(names, (since, until), strict=True) if text and is_span(text)
    ]
    if folder is None or not flags:
        return
    run.warn(
        Problem(
            "evidence-of-a-span",
            f"the range of this evidence is resolved now, from {' and '.join(flags)}",
            "a span back from now means another range in every run, so two runs differ",
            "give absolute times, such as 2026-11-22T18:00:00Z, for identical evidence",
        )
    )


def check_evidence(folder: str | None) -> None:
    """Refuse a folder that holds something else, before the logs are read.

    Raises:
        RefusedError: it does.
    """
    if folder is not None:
        from skyflowctl.audit.evidence import check_folder

        check_folder(Path(folder))


def keep_answer(
    folder: str | None,
    run: CommandRun,
    sources: "Sources",
    counts: "Counts",
    *,
    asked: Mapping[str, Any],
    data: Mapping[str, Any],
    table: str,
) -> None:
    """Write an answer that is at hand as a whole; does nothing without a folder.

    Args:
        folder: of ``--evidence``.
        run: its command's name goes in; it gets the notice.
        sources: what was read, digests taken.
        counts: of it.
        asked: everything that the answer depends on besides the logs.
        data: of the output.
        table: the key in it whose rows become CSV; their ``first`` and ``last`` (or
            ``last_used``) are the range.

    Raises:
        RefusedError: there is something else in the folder.
        UsageError: it cannot be written there.
    """
    if folder is None:
        return
    from skyflowctl.audit.evidence import Evidence, Table, write_evidence
    from skyflowctl.clock import parse_rfc3339

    rows = data[table]
    columns = tuple(rows[0]) if rows else ()
    times = [row[name] for row in rows for name in ("first", "last", "last_used") if row.get(name)]
    moments = [parse_rfc3339(time) for time in times]
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    found = Evidence(
        run.command,
        asked,
        sources.inputs(),
        counts,
        min(moments, default=None),
        max(moments, default=None),
        data,
        (Table(table, columns, cells),) if rows else (),
    )
    write_evidence(Path(folder), found)
    run.notice(f"wrote the evidence to {folder} (sha256sum -c SHA256SUMS checks it)")


def _cell(value: Any) -> Any:
    return " ".join(str(each) for each in value) if isinstance(value, list) else value
