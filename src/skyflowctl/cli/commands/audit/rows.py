"""Where the rows of an audit question go: one writer for each form of output."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skyflowctl.audit.escape import csv_line
from skyflowctl.audit.model import TokenRequest
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
    """Nobody reads the output any more (``| head``): no error, and no reason to go on."""


@contextmanager
def writing() -> Iterator[None]:
    """Tell what writing to stdout meets from what reading a log meets.

    Raises:
        ReaderGoneError: nobody reads it.
        SkyflowctlError: it takes no more.
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
    """Takes requests and writes each in the form that was asked for, as it comes.

    Args:
        run: of the command.
        form: ``table``, ``json``, ``ndjson`` or ``csv``.
        in_full: a table's place is taken by a block for each request.
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
        # Counted first: a signal that comes once it can be read finds it in the count.
        self.written += 1
        with writing():
            self._add(request_json(request))

    def add_now(self, request: TokenRequest) -> None:
        """Write a request, and let nothing wait."""
        self.add(request)
        self.flush()

    def flush(self) -> None:
        """Write what still waits for its like."""
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
        if in_full:
            return lambda row: show_request(row, self._terminal)
        return self._table.add
