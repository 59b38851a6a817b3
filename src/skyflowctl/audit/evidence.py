"""``--evidence DIR``: what was asked and found, with digests, for whoever checks it later.

The same logs and the same question give the same bytes: nothing of the time, the run or
the machine is in it, but for the names of the files as they were given.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from skyflowctl.audit.as_json import counts_json, inputs_json, time_json
from skyflowctl.audit.escape import csv_line
from skyflowctl.audit.model import Counts
from skyflowctl.audit.sources import Input
from skyflowctl.errors import RefusedError, UsageError, os_reason
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
        name: of its file, without ``.csv``.
        columns: their names.
        rows: texts, numbers, truth values, None and lists of texts; escaped when they are written.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What goes into the folder.

    Args:
        command: such as ``audit who``.
        query: every argument that the result depends on, by name, ready for JSON; times
            absolute, file patterns as they were given. No secret.
        inputs: the files that were read.
        counts: what was read of them.
        first: time of the first result; None: there is none.
        last: time of the last one.
        results: ready for JSON; None: they were written as rows.
        tables: the same as tables.
    """

    command: str
    query: Mapping[str, Any]
    inputs: tuple[Input, ...]
    counts: Counts
    first: datetime | None
    last: datetime | None
    results: Mapping[str, Any] | None
    tables: tuple[Table, ...] = ()


def write_evidence(folder: Path, evidence: Evidence) -> tuple[str, ...]:
    """Write the folder as a whole, or not at all; returns the names of its files.

    It becomes readable by its owner alone. An earlier evidence at its place is replaced.

    Raises:
        RefusedError: there is something else at its place.
        UsageError: it cannot be written there.
    """
    with Writing(folder) as writing:
        return writing.finish(evidence)


class Writing:
    """An evidence in the making, for results of any number. A context manager: without
    ``finish`` nothing is left of it.

    Args:
        folder: where it goes.

    Raises:
        RefusedError: there is something else at its place.
        UsageError: it cannot be written there; so does every method.
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
        """Return what takes one row after another, ready for JSON; ``NAME.ndjson`` gets
        them whole, ``NAME.csv`` these columns."""
        with self._telling():
            lines, cells = self._file(f"{name}.ndjson"), self._file(f"{name}.csv")
            cells.write(csv_line(columns))

        def add(row: Mapping[str, Any]) -> None:
            with self._telling():
                lines.write(json.dumps(row, allow_nan=False) + "\n")
                cells.write(csv_line(row[column] for column in columns))

        return add

    def finish(self, evidence: Evidence) -> tuple[str, ...]:
        """Write the rest, and put the folder in its place; returns its files' names."""
        with self._telling():
            self._whole(SUMMARY, _json_texts(_summary(evidence)))
            if evidence.results is not None:
                self._whole(RESULTS, _json_texts(evidence.results))
            for table in evidence.tables:
                self._whole(f"{table.name}.csv", csv_texts(table))
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
    """A file whose digest is taken while it is written."""

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
        """Close it; returns the digest."""
        self._file.close()
        return self._digest.hexdigest()


def check_folder(folder: Path) -> None:
    """Accept a folder that is not there, is empty, or holds an earlier evidence alone.

    Call it before the logs are read: that may take long.

    Raises:
        RefusedError: it holds something else, or is a file.
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
    """Tell an earlier evidence: our mark, and no file that its sums do not name."""
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
        "counts": counts_json(evidence.counts),
        "inputs": inputs_json(evidence.inputs),
    }


def csv_texts(table: Table) -> Iterable[str]:
    """Yield a table's lines of CSV, the columns' names first."""
    yield csv_line(table.columns)
    for row in table.rows:
        yield csv_line(row)


def _json_texts(value: Any) -> Iterator[str]:
    encoder = json.JSONEncoder(indent=2, ensure_ascii=True, allow_nan=False)
    yield from encoder.iterencode(value)
    yield "\n"


def _put(made: Path, target: Path) -> None:
    """Put the new folder in its place; an earlier one is away only for that moment."""
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
