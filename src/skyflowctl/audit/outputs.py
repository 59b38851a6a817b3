"""Decides which files ``audit report`` may overwrite: only its own earlier output, no input."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from skyflowctl.audit.escape import csv_line
from skyflowctl.audit.evidence import check_folder
from skyflowctl.audit.html import OPENING
from skyflowctl.audit.report_json import report_tables
from skyflowctl.errors import RefusedError, UsageError, os_reason
from skyflowctl.frozen import dataclass

_NOTHING = {
    "usage": (),
    "unusual": (),
    "changes": (),
    "series": {"starts": (), "mounts": ()},
    "heat": (),
    "top_apps": (),
}
"""An empty report, whose tables still have their names and columns."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The paths that a report is written to, besides standard output.

    Args:
        html: the path of ``--html``; None if not given. The same applies to the others.
        csv: the path of ``--csv``.
        evidence: the path of ``--evidence``.
    """

    html: Path | None = None
    csv: Path | None = None
    evidence: Path | None = None

    def check_inputs(self, inputs: Iterable[Path]) -> None:
        """Refuse to overwrite an input, under any name or link.

        Args:
            inputs: the logs and the manifest's files.

        Raises:
            RefusedError: an output would overwrite one of them.
        """
        read = tuple(inputs)
        for flag, path in self._files():
            found = next((each for each in read if _is_same(path, each)), None)
            if found is not None:
                raise RefusedError(
                    f"{flag} would replace {found}, which this command reads",
                    why="a log or a manifest that is written over is lost",
                    fix=f"name another place with {flag}",
                    code="output-is-input",
                )

    def check_places(self) -> None:
        """Refuse to overwrite anything but an earlier output of the same kind.

        Raises:
            RefusedError: an output path holds something else.
            UsageError: an output path cannot be inspected.
        """
        if self.evidence is not None:
            check_folder(self.evidence)
        if self.html is not None:
            _check_file("--html", self.html, OPENING.encode(), "page")
        if self.csv is not None:
            for table in report_tables(_NOTHING):
                columns = csv_line(table.columns).encode()
                _check_file("--csv", self.csv / f"{table.name}.csv", columns, "table of its name")

    def _files(self) -> list[tuple[str, Path]]:
        """Return every file that is written or replaced, with its flag."""
        files: list[tuple[str, Path]] = []
        if self.html is not None:
            files.append(("--html", self.html))
        if self.csv is not None:
            names = [f"{table.name}.csv" for table in report_tables(_NOTHING)]
            files += [("--csv", self.csv), *(("--csv", self.csv / name) for name in names)]
        if self.evidence is not None:
            inside = self.evidence.iterdir() if self.evidence.is_dir() else ()
            files += [("--evidence", self.evidence), *(("--evidence", one) for one in inside)]
        return files


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two names are one file: by resolved path, or by device and inode."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return path.samefile(other)
    except OSError:
        return False


def _check_file(flag: str, path: Path, opening: bytes, what: str) -> None:
    """Accept a file that does not exist, is empty, or starts like our output."""
    if not os.path.lexists(path) or path.is_dir():
        return  # a folder cannot be replaced by a file: the write will fail
    if path.is_file() and _begins(path, opening):
        return
    raise RefusedError(
        f"{path} holds something else",
        why=f"{flag} only replaces an empty file, or an earlier {what} that it wrote itself",
        fix="name a path that does not exist yet",
        code="output-in-the-way",
    )


def _begins(path: Path, opening: bytes) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(len(opening))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be looked at",
            why=os_reason(error).lower(),
            fix="name another place, which you may read and write",
            code="not-written",
        ) from None
    return head in (b"", opening)


def existing_paths(files: Sequence[str]) -> tuple[Path, ...]:
    """Return the paths of a manifest's files; standard input is none."""
    return tuple(Path(file) for file in files if file != "-")
