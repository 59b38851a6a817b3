"""The one error of every scheme: a reference that leads to no secret."""

from skyflowctl.errors import InvalidInputError


class UnresolvedReferenceError(InvalidInputError):
    """A reference leads nowhere; the problem's code says which way it failed.

    Codes: ``reference-missing`` (no such file or entry), ``reference-unset`` (an
    environment variable), ``reference-unreadable`` (there, but not to be read or no
    text), ``reference-empty``, ``keyring-unavailable``, ``unsupported-reference``.
    No message holds a part of what was found. Whoever knows the manifest adds the
    position.
    """

    default_code = "reference-unreadable"


class ServerFileReferenceError(UnresolvedReferenceError):
    """The secret is in a file on the server, which the engine alone reads."""

    default_code = "server-file"
