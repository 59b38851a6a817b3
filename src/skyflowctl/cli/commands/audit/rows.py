"""Writers of audit rows, one for each output format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skyflowctl.audit.escape import csv_line
from skyflowctl.audit.model import TokenRequest
from skyflowctl.audit.siem import LINES
from skyflowctl.cli.commands.audit.view import (
    FIELDS,
    StreamedTable,
    cells,
    request_json,
    show_request,
)
from skyflowctl.cli.runner import CommandRun
from skyflowctl.cli.streams import drop_stdout, output_failed
from skyflowctl.errors import UsageError

JSON_ROWS_MAX = 40_000
"""Rows of one JSON object: about 200 MB while it is written."""


class ReaderGoneError(Exception):
    """The reader of the output has closed it (``| head``): not an error, but the end."""


@contextmanager
def writing() -> Iterator[None]:
    """Distinguish failures of writing to stdout from failures of reading a log.

    Raises:
        ReaderGoneError: the reader has closed it.
        SkyflowctlError: it cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        drop_stdout()
        raise ReaderGoneError from None
    except OSError as error:
        drop_stdout()
        raise output_failed(error) from None


class RowWriter:
    """Writes requests in the chosen format as they arrive.

    Args:
        run: of the command.
        form: ``table``, ``json``, ``ndjson``, ``csv``, or one of ``siem.LINES``.
        in_full: write a block for each request instead of a table.
        kept: the rows of ``json``, which are written at the end.
        written: how many requests were added.
    """

    def __init__(self, run: CommandRun, form: str, *, in_full: bool = False) -> None:
        self.kept: list[dict[str, Any]] = []
        self.written = 0
        self._terminal = run.terminal
        self._table = StreamedTable(run.terminal)
        self._add = self._writer(run, form, in_full)

    def add(self, request: TokenRequest) -> None:
        """Write a request."""
        # Count first, so that a signal after the row is visible finds it counted.
        self.written += 1
        with writing():
            self._add(request_json(request))

    def add_now(self, request: TokenRequest) -> None:
        """Write a request at once, without buffering."""
        self.add(request)
        self.flush()

    def flush(self) -> None:
        """Write the buffered rows."""
        with writing():
            self._table.flush()
            self._terminal.out.flush()

    def _keep(self, row: dict[str, Any]) -> None:
        if len(self.kept) >= JSON_ROWS_MAX:
            raise UsageError(
                f"there are more than {JSON_ROWS_MAX} requests",
                why="one JSON object has to be held as a whole, and that many take too much memory",
                fix="-o ndjson or -o csv write any number; or ask for less, with --since",
                code="too-many-rows",
            )
        self.kept.append(row)

    def _writer(
        self, run: CommandRun, form: str, in_full: bool
    ) -> Callable[[dict[str, Any]], None]:
        if form == "json":
            return self._keep
        if form == "ndjson":
            events = run.events()
            assert events is not None
            return lambda row: events.event("request", **row)
        if form == "csv":
            with writing():
                self._terminal.raw(csv_line(FIELDS))
            return lambda row: self._terminal.raw(csv_line(cells(row)))
        if form in LINES:
            return lambda row: self._terminal.raw(f"{LINES[form](row)}\n")
        if in_full:
            return lambda row: show_request(row, self._terminal)
        return self._table.add
