"""Writes ``--evidence DIR``: the query and its results, with digests, for a later check.

The same logs and the same query give the same bytes. The folder contains neither the time,
the run nor the machine, except for the file names as given.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from skyflowctl.audit.as_json import counts_json, inputs_json, time_json
from skyflowctl.audit.escape import csv_line
from skyflowctl.audit.model import Counts
from skyflowctl.audit.sources import Input
from skyflowctl.errors import RefusedError, UsageError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.version import __version__

KIND = "skyflowctl-audit-evidence"
EVIDENCE_VERSION = "1.0"
SUMMARY = "evidence.json"
RESULTS = "results.json"
SUMS = "SHA256SUMS"
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Table:
    """Results as a table.

    Args:
        name: the name of its file, without ``.csv``.
        columns: the names of the columns.
        rows: texts, numbers, booleans, None and lists of texts; escaped when written.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The content of the folder.

    Args:
        command: such as ``audit who``.
        query: every argument that the result depends on, by name, ready for JSON; times are
            absolute, file patterns as given. Contains no secret.
        inputs: the files that were read.
        counts: what was read from them; None if the results are not of logs.
        first: the time of the first result; None without results.
        last: the time of the last result.
        results: ready for JSON; None if they were written as rows.
        tables: the same results as tables.
        pages: other files, by name.
    """

    command: str
    query: Mapping[str, Any]
    inputs: tuple[Input, ...]
    counts: Counts | None
    first: datetime | None
    last: datetime | None
    results: Mapping[str, Any] | None
    tables: tuple[Table, ...] = ()
    pages: tuple[tuple[str, str], ...] = ()


def write_evidence(folder: Path, evidence: Evidence) -> tuple[str, ...]:
    """Write the folder completely, or not at all; return the names of its files.

    Only its owner can read it. An earlier evidence folder at the same path is replaced.

    Raises:
        RefusedError: the path holds something else.
        UsageError: the folder cannot be written there.
    """
    with Writing(folder) as writing:
        return writing.finish(evidence)


class Writing:
    """Writes evidence for any number of results. A context manager: without ``finish`` it leaves
    nothing behind.

    Args:
        folder: the path of the folder.

    Raises:
        RefusedError: the path holds something else.
        UsageError: the folder cannot be written there; every method may raise it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._target = Path(os.path.realpath(folder))
        self._open: list[_File] = []
        with self._telling():
            check_folder(folder)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            made = tempfile.mkdtemp(prefix=f".{self._target.name}.", dir=self._target.parent)
        self._made = Path(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open:
            file.close()
        shutil.rmtree(self._made, ignore_errors=True)

    def rows(self, name: str, columns: Sequence[str]) -> Callable[[Mapping[str, Any]], None]:
        """Return a function that writes one row, ready for JSON: all of it to ``NAME.ndjson``,
        and these columns to ``NAME.csv``."""
        with self._telling():
            lines, cells = self._file(f"{name}.ndjson"), self._file(f"{name}.csv")
            cells.write(csv_line(columns))

        def add(row: Mapping[str, Any]) -> None:
            with self._telling():
                lines.write(json.dumps(row, allow_nan=False) + "\n")
                cells.write(csv_line(row[column] for column in columns))

        return add

    def finish(self, evidence: Evidence) -> tuple[str, ...]:
        """Write the rest, and move the folder to its path; return the names of its files."""
        with self._telling():
            self._whole(SUMMARY, _json_texts(_summary(evidence)))
            if evidence.results is not None:
                self._whole(RESULTS, _json_texts(evidence.results))
            for table in evidence.tables:
                self._whole(f"{table.name}.csv", csv_texts(table))
            for name, text in evidence.pages:
                self._whole(name, [text])
            digests = {file.name: file.close() for file in self._open}
            self._whole(SUMS, [f"{digests[name]}  {name}\n" for name in sorted(digests)])
            self._open[-1].close()
            _put(self._made, self._target)
        return (*sorted(digests), SUMS)

    def _file(self, name: str) -> "_File":
        file = _File(self._made / name)
        self._open.append(file)
        return file

    def _whole(self, name: str, texts: Iterable[str]) -> None:
        file = self._file(name)
        for text in texts:
            file.write(text)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"the evidence cannot be written to {self._folder}",
                why=os_reason(error).lower(),
                fix="name a writable folder with enough space",
                code="evidence-not-written",
            ) from None


class _File:
    """A file that is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = path.open("xb")
        path.chmod(0o600)
        self._digest = hashlib.sha256()

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        self._digest.update(data)
        self._file.write(data)

    def close(self) -> str:
        """Close the file and return its digest."""
        self._file.close()
        return self._digest.hexdigest()


def check_folder(folder: Path) -> None:
    """Accept a folder that does not exist, is empty, or holds only earlier evidence.

    Call this before the logs are read, because reading may take long.

    Raises:
        RefusedError: the folder holds something else, or is a file.
    """
    if not os.path.lexists(folder):
        return
    names = {each.name for each in folder.iterdir()} if folder.is_dir() else None
    if names is not None and (not names or _is_ours(folder, names)):
        return
    raise RefusedError(
        f"{folder} contains other files",
        why="only an empty folder, or one that contains only earlier evidence, is replaced",
        fix="name a folder that does not exist yet",
        code="evidence-in-the-way",
    )


def _is_ours(folder: Path, names: set[str]) -> bool:
    """Return whether a folder is earlier evidence: it has our mark, and its checksums name every
    file in it."""
    try:
        with (folder / SUMMARY).open("rb") as file:
            head = file.read(_HEAD_BYTES)
        sums = (folder / SUMS).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    listed = {line[66:] for line in sums.splitlines()}
    return f'"kind": "{KIND}"'.encode() in head and names == listed | {SUMS}


def _summary(evidence: Evidence) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format_version": EVIDENCE_VERSION,
        "command": evidence.command,
        "versions": {"skyflowctl": __version__},
        "query": dict(evidence.query),
        "range": {"first": time_json(evidence.first), "last": time_json(evidence.last)},
        "counts": None if evidence.counts is None else counts_json(evidence.counts),
        "inputs": inputs_json(evidence.inputs),
    }


def csv_texts(table: Table) -> Iterable[str]:
    """Yield a table's lines of CSV, the column names first."""
    yield csv_line(table.columns)
    for row in table.rows:
        yield csv_line(row)


def _json_texts(value: Any) -> Iterator[str]:
    encoder = json.JSONEncoder(indent=2, ensure_ascii=True, allow_nan=False)
    yield from encoder.iterencode(value)
    yield "\n"


def _put(made: Path, target: Path) -> None:
    """Move the new folder to its path; an earlier one is missing only for that moment."""
    if not target.exists():
        made.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    target.rename(old)  # over an empty folder
    try:
        made.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)
