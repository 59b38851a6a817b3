"""``init``: writes a starter manifest, and keeps its credentials out of git."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from skyflowctl.credentials.exposure import work_tree
from skyflowctl.errors import RefusedError, UsageError
from skyflowctl.manifest.starter import starter_text
from skyflowctl.version import semver

_IGNORED = "credentials/"
_SAME = {"credentials", "/credentials", "credentials/", "/credentials/"}


@dataclass(frozen=True, slots=True)
class Started:
    """The result of ``init``.

    Args:
        manifest: the file that was written.
        replaced: the file existed and ``force`` was given.
        ignore_file: the ``.gitignore`` to which ``credentials/`` was added; None: there is no git
            work tree, or the line was there.
    """

    manifest: Path
    replaced: bool
    ignore_file: Path | None

    def done(self) -> tuple[str, ...]:
        """Return one line for each step that was done."""
        lines = [f"{'replaced' if self.replaced else 'wrote'} {self.manifest}"]
        if self.ignore_file:
            lines.append(f"added {_IGNORED} to {self.ignore_file}")
        return tuple(lines)


def init(path: str = "mounts.yaml", *, force: bool = False) -> Started:
    """Write a starter manifest.

    Args:
        path: the file to write; its folder must exist.
        force: replace an existing file.

    Raises:
        RefusedError: the file exists and ``force`` is not given. Nothing was written.
        UsageError: it cannot be written there, or is not the name of a file.
    """
    _check_name(path)
    manifest = Path(path)
    was_there = os.path.lexists(manifest)
    if was_there and not force:
        raise RefusedError(
            f"{manifest} is there already",
            why="init never overwrites what you wrote",
            fix="name another file with -f, or replace it with --force",
            code="file-exists",
        )
    try:
        _write(manifest, starter_text(semver()), replace=was_there)
        return Started(manifest, was_there, _ignore_credentials(manifest.absolute().parent))
    except OSError as error:
        raise UsageError.of_file(
            f"cannot write {error.filename or manifest}",
            error,
            fix="check the folder and its permissions",
            code="not-writable",
        ) from None


def _check_name(path: str) -> None:
    if path == "-":
        why = "- means standard input, but init writes a file"
    elif not path or path.endswith("/") or Path(path).is_dir():
        why = "it is empty, or names a folder"
    elif not path.isprintable():
        why = "it holds a character that does not print"
    else:
        return
    raise UsageError(
        "-f is not a file name",
        why=why,
        fix="for example -f mounts.yaml, or leave it out",
        code="bad-file-name",
    )


def _write(path: Path, text: str, *, replace: bool) -> None:
    if not replace:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as written:
        written.write(text)
    temporary = Path(written.name)
    temporary.chmod(0o644)
    temporary.replace(path)


def _ignore_credentials(folder: Path) -> Path | None:
    if work_tree(folder) is None:
        return None
    ignore_file = folder / ".gitignore"
    text = ignore_file.read_text(encoding="utf-8") if ignore_file.exists() else ""
    if _SAME & {line.strip() for line in text.splitlines()}:
        return None
    gap = "" if not text or text.endswith("\n") else "\n"
    with ignore_file.open("a", encoding="utf-8") as file:
        file.write(f"{gap}{_IGNORED}\n")
    return ignore_file
