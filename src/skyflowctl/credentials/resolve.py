"""Resolves references of every scheme to their secrets."""

from collections.abc import Callable, Mapping, Sequence

from skyflowctl.credentials.errors import ServerFileReferenceError, UnresolvedReferenceError
from skyflowctl.credentials.schemes import env, file, keyring
from skyflowctl.errors import Where
from skyflowctl.manifest.model import Reference
from skyflowctl.secret import Secret

_READERS: Mapping[str, Callable[..., Secret]] = {
    "file": file.read,
    "env": env.read,
    "keyring": keyring.read,
}


def resolve_reference(reference: Reference, subject: str) -> Secret:
    """Return the secret that a reference names.

    Args:
        reference: read again at each call; ``server_file`` is never read here.
        subject: a description of the secret, for messages, such as ``the credential of order``.

    Raises:
        UnresolvedReferenceError: it cannot be resolved; the text names the reference, and the
            code has the reason.
    """
    try:
        return read_secret(reference.scheme, reference.target)
    except UnresolvedReferenceError as error:
        cause = error.problems[0]
        raise type(error)(
            f"{subject} ({reference.text}) could not be resolved",
            why=f"{cause.summary}: {cause.why}" if cause.why else cause.summary,
            fix=cause.fix,
            code=cause.code,
            where=position(reference),
        ) from None


def position(reference: Reference) -> Where | None:
    """Return the position of the reference; None for one from the command line."""
    return reference.where if reference.where.file else None


def read_secret(scheme: str, target: Sequence[str]) -> Secret:
    """Return the secret at a scheme's target.

    Args:
        scheme: ``file``, ``env`` or ``keyring``.
        target: the scheme's parts: (absolute path,), (variable,) or (service, username).

    Raises:
        UnresolvedReferenceError: it cannot be resolved; its code has the reason.
    """
    if scheme == "server_file":
        raise ServerFileReferenceError(
            f"{target[0]} is a file on the server",
            why="only the engine reads it, and no answer returns it",
            fix="use the command that has the server read it: 'skyflowctl apply' or 'rotate'",
            code="server-file",
        )
    reader = _READERS.get(scheme)
    if reader is None:
        raise UnresolvedReferenceError(
            f"the reference {scheme} is not supported by this version of skyflowctl",
            why="only a later version can follow it",
            fix="use file, env or keyring",
            code="unsupported-reference",
        )
    return reader(*target)
