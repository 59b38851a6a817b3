"""``stdin``: a secret on the command's standard input."""

import sys

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.schemes.output import MAX_BYTES, as_secret
from skyflowctl.secret import Secret


def read() -> Secret:
    """Return what standard input gives until its end; a second call gets nothing.

    Raises:
        UnresolvedReferenceError: it is a terminal, which would show the secret, or it cannot be
            read, is empty, larger than 1 MiB or no UTF-8 text.
    """
    if sys.stdin.isatty():
        raise UnresolvedReferenceError(
            "standard input is a terminal",
            why="a terminal shows what is typed",
            fix="send the secret in: COMMAND | skyflowctl …, or skyflowctl … < FILE",
        )
    try:
        raw = sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnresolvedReferenceError(
            "standard input cannot be read",
            why=error.strerror or "the system refused it",
            fix="send the secret in: COMMAND | skyflowctl …, or skyflowctl … < FILE",
        ) from None
    return as_secret(raw, "standard input")
