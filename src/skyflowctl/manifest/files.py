"""Reads a manifest file and checks its size, encoding and characters, with positions."""

import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from skyflowctl.errors import InvalidInputError, Where
from skyflowctl.manifest.nodes import ManifestFile

MANIFEST_MAX_BYTES = 16 * 1024 * 1024
STDIN = "-"

_NOT_YAML_TEXT = re.compile(
    "[^\\t\\n\\r\\x20-\\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufefe\\uff00-\\ufffd\\U00010000-\\U0010ffff]"
)
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def source_name(name: str) -> str:
    """Return the name of a file in positions."""
    return "<stdin>" if name == STDIN else name


def read_manifest(name: str) -> tuple[ManifestFile, str]:
    """Return a manifest file's source and text; ``-`` is standard input.

    Raises:
        InvalidInputError: the file cannot be read, is larger than 16 MiB, or is no UTF-8 text.
    """
    if name == STDIN:
        source = ManifestFile(source_name(name), str(Path.cwd()))
        return source, _decode(sys.stdin.buffer.read(MANIFEST_MAX_BYTES + 1), source.name)
    source = ManifestFile(name, str(Path(name).absolute().parent))
    return source, _decode(_read_file(name), name)


def _read_file(name: str) -> bytes:
    try:
        # Not blocking, so that a pipe with this name is refused without a wait.
        with open(name, "rb", opener=_open_without_waiting) as file:  # noqa: PTH123 - opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unreadable(name, "it is not a regular file", "pipe it in, with -f -")
            return file.read(MANIFEST_MAX_BYTES + 1)
    except FileNotFoundError:
        is_default = name in ("mounts.yaml", "./mounts.yaml")
        how = "name it with -f FILE" if is_default else "correct its name (-f or SKYFLOWCTL_FILE)"
        raise InvalidInputError(
            f"there is no manifest {name}",
            why="no such file exists" + ("; it is the default" if is_default else ""),
            fix=f"{how}, or write a first one with: skyflowctl init",
            code="manifest-not-found",
            where=Where(name),
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(
            name, getattr(error, "strerror", None) or "its name is not valid"
        ) from None


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _unreadable(
    name: str, why: str, fix: str = "check its name and permissions"
) -> InvalidInputError:
    return InvalidInputError(
        f"cannot read the manifest {name}",
        why=why,
        fix=fix,
        code="manifest-unreadable",
        where=Where(name),
    )


def _decode(raw: bytes, name: str) -> str:
    if len(raw) > MANIFEST_MAX_BYTES:
        raise InvalidInputError(
            f"{name} is larger than {MANIFEST_MAX_BYTES // 1024 // 1024} MiB",
            why="no manifest is that large",
            fix="split it, and pass the parts with several -f",
            code="manifest-too-large",
            where=Where(name),
        )
    if raw.startswith(_WIDE_MARKS):
        raise _not_utf8(name, 1, 1, "it is UTF-16 or UTF-32")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8-sig", errors="replace")
        raise _not_utf8(name, *_position(before), "a byte here is not valid UTF-8") from None
    bad = _NOT_YAML_TEXT.search(text)
    if bad:
        line, column = _position(text[: bad.start()])
        raise InvalidInputError(
            f"a control character (U+{ord(bad[0]):04X}) is not allowed in YAML",
            why="it is unprintable, and YAML parsers treat it differently",
            fix="remove it, or write it as an escape inside double quotes",
            code="bad-character",
            where=Where(name, line, column),
        )
    return text


def _not_utf8(name: str, line: int, column: int, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name} is not UTF-8 text",
        why=why,
        fix="save it as UTF-8",
        code="bad-encoding",
        where=Where(name, line, column),
    )


def _position(before: str) -> tuple[int, int]:
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return len(lines), len(lines[-1]) + 1


def file_set(names: Sequence[str]) -> str:
    """Return one text for a set of files: their paths below the folder that they share.

    The folder itself is not part of it, so that two checkouts have the same text.
    """
    # Not Path.resolve: a link's own name is the one that was given.
    paths = [Path(os.path.abspath(name)) for name in names if name != STDIN]  # noqa: PTH100
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    found = [path.relative_to(shared).as_posix() for path in paths]
    return ",".join(sorted((*found, *(STDIN for name in names if name == STDIN))))
