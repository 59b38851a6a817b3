"""``file``: a secret in a file on this machine."""

import os
import stat

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.secret import Secret

SECRET_MAX_BYTES = 64 * 1024


def read(path: str) -> Secret:
    """Return a file's text.

    Args:
        path: the absolute path; the manifest's loader has resolved relative ones.

    Raises:
        UnresolvedReferenceError: the file does not exist, or it is no regular file, not
            readable, larger than 64 KiB, empty, or no UTF-8 text.
    """
    raw = _content(path)
    if len(raw) > SECRET_MAX_BYTES:
        raise UnresolvedReferenceError(
            f"{path} is larger than {SECRET_MAX_BYTES // 1024} KiB",
            why="no credential and no token is that large",
            fix="check the reference's path",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        # "from None": the cause contains the file's bytes.
        raise UnresolvedReferenceError(
            f"{path} is not UTF-8 text",
            why="credentials and tokens are UTF-8 text",
            fix="use the file as it was given out",
        ) from None
    if not text.strip():
        raise UnresolvedReferenceError(
            f"{path} is empty",
            why="it holds nothing but blanks",
            fix="put the secret into it",
            code="reference-empty",
        )
    return Secret(text)


def _content(path: str) -> bytes:
    try:
        # Not blocking: a pipe with this name is refused without a wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UnresolvedReferenceError(
            f"there is no file {path}",
            why="the reference leads there; a relative path in a manifest counts from its folder",
            fix="put the secret there, or correct the reference",
            code="reference-missing",
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _unreadable(path, "it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:  # noqa: PTH123 - an open descriptor
            return file.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    finally:
        os.close(descriptor)


def _unreadable(path: str, why: str | None) -> UnresolvedReferenceError:
    return UnresolvedReferenceError(
        f"cannot read {path}",
        why=why or "its name cannot be used",
        fix="check its permissions and the reference's path",
    )
