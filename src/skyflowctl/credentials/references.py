"""Parses references to secrets on a command line: ``file:PATH``, ``env:NAME`` …"""

from pathlib import Path

from skyflowctl.errors import UsageError, Where
from skyflowctl.manifest.model import Reference

FORMS = "file:PATH, env:NAME, keyring:SERVICE/USERNAME, or a path with a slash or .json"


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
    if _is_path(text):
        return _file(text, flag)
    raise UsageError(
        f"{flag} is no reference",
        why="a secret is never an argument, only the place where it is found",
        fix=f"give {FORMS}",
        code="bad-reference",
    )


def as_word(reference: Reference | None) -> str:
    """Return a reference as written on a command line; empty if it has no such form."""
    if reference is None or reference.scheme not in ("file", "env", "keyring"):
        return ""
    return f"{reference.scheme}:{'/'.join(reference.target)}"


def _is_path(text: str) -> bool:
    plain = text.isprintable() and len(text) < 1024 and not text.lstrip().startswith(("{", "-----"))
    return plain and ("/" in text or text.endswith(".json"))


def _file(path: str, flag: str) -> Reference:
    absolute = Path(path).expanduser().absolute()
    return Reference("file", (str(absolute),), f"{flag} {path}", Where())
