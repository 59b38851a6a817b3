"""Parses references to secrets on a command line: ``file:PATH``, ``env:NAME`` …"""

import re
from pathlib import Path

from skyflowctl.errors import UsageError, Where
from skyflowctl.manifest.model import Reference

FORMS = (
    "file:PATH, env:NAME, keyring:SERVICE/USERNAME, vault:PATH#FIELD, - for standard input,"
    " or a path with a slash or .json"
)
_SECRET_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)+", re.ASCII)


def parse_reference(text: str, flag: str) -> Reference:
    """Return the reference in a flag's value; a relative path is relative to the current folder.

    A value without a scheme that has a slash or ends in ``.json`` is a file's path.

    Args:
        text: the value. No message repeats it, because it may be the secret itself, given by
            mistake.
        flag: the flag, such as ``--credentials``, for messages.

    Raises:
        UsageError: the value is no reference.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "file" and rest:
        return _file(rest, flag)
    if colon and scheme == "env" and rest.isidentifier():
        return Reference("env", (rest,), f"{flag} env:{rest}", Where())
    if colon and scheme == "keyring":
        service, _, username = rest.rpartition("/")
        if service and username:
            return Reference("keyring", (service, username), f"{flag} keyring:{rest}", Where())
    if colon and scheme == "vault":
        path, _, name = rest.partition("#")
        if _SECRET_PATH.fullmatch(path) and name and name.isprintable():
            return Reference("vault", (path, name), f"{flag} vault:{path}#{name}", Where())
    elif text == "-":
        return Reference("stdin", (), f"{flag} -", Where())
    elif _is_path(text):
        return _file(text, flag)
    raise UsageError(
        f"{flag} is no reference",
        why="a secret is never an argument, only the place where it is found",
        fix=f"give {FORMS}",
        code="bad-reference",
    )


def as_word(reference: Reference | None) -> str:
    """Return a reference as written on a command line; empty if it has no such form."""
    if reference is not None and reference.scheme == "stdin":
        return "-"
    if reference is not None and reference.scheme == "vault":
        return f"vault:{'#'.join(reference.target)}"
    if reference is None or reference.scheme not in ("file", "env", "keyring"):
        return ""
    return f"{reference.scheme}:{'/'.join(reference.target)}"


def _is_path(text: str) -> bool:
    plain = text.isprintable() and len(text) < 1024 and not text.lstrip().startswith(("{", "-----"))
    return plain and ("/" in text or text.endswith(".json"))


def _file(path: str, flag: str) -> Reference:
    absolute = Path(path).expanduser().absolute()
    return Reference("file", (str(absolute),), f"{flag} {path}", Where())
