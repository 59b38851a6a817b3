"""From a reference to its secret: one function for every scheme."""

from collections.abc import Callable, Mapping, Sequence

from skyflowctl.secret import Secret
from skyflowctl.secretrefs import env, file, keyring
from skyflowctl.secretrefs.unresolved import ServerFileReferenceError, UnresolvedReferenceError

_READERS: Mapping[str, Callable[..., Secret]] = {
    "file": file.read,
    "env": env.read,
    "keyring": keyring.read,
}


def resolve(scheme: str, target: Sequence[str]) -> Secret:
    """Return the secret that a reference names.

    Args:
        scheme: ``file``, ``env`` or ``keyring``; ``server_file`` is never read here.
        target: the scheme's parts: (absolute path,), (variable,) or (service, username).

    Raises:
        UnresolvedReferenceError: it leads to no secret; its code says why.
    """
    if scheme == "server_file":
        raise ServerFileReferenceError(
            f"{target[0]} is a file on the server",
            why="the engine reads it when it is written, and gives it to nobody",
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
