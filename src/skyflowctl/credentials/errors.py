"""The error of every scheme: a reference that cannot be resolved."""

from skyflowctl.errors import InvalidInputError, RefusedError


class UnresolvedReferenceError(InvalidInputError):
    """A reference cannot be resolved; the problem's code has the reason.

    Codes: ``reference-missing`` (no such file or entry), ``reference-unset`` (an
    environment variable), ``reference-unreadable`` (it exists but cannot be read, or is no
    text), ``reference-empty``, ``reference-forbidden`` (by the server),
    ``reference-without-server``, ``keyring-unavailable``.
    No message contains a part of the secret. The code that reads the manifest adds the
    position.
    """

    default_code = "reference-unreadable"


class ReferenceNotAllowedError(RefusedError):
    """The command line does not allow a reference of the manifest; nothing was run or read."""

    default_code = "reference-not-allowed"


class ServerFileReferenceError(UnresolvedReferenceError):
    """The secret is in a file on the server, which only the engine reads."""

    default_code = "server-file"
