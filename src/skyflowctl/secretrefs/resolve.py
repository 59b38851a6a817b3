"""From a reference to its secret: one function for every scheme."""

from collections.abc import Callable, Mapping, Sequence

from skyflowctl.secret import Secret
from skyflowctl.secretrefs import env, file, keyring
from skyflowctl.secretrefs.unresolved import UnresolvedReference

_READERS: Mapping[str, Callable[..., Secret]] = {
    "file": file.read,
    "env": env.read,
    "keyring": keyring.read,
}


def resolve(scheme: str, target: Sequence[str]) -> Secret:
    """Return the secret that a reference names.

    Args:
        scheme: ``file``, ``env`` or ``keyring``.
        target: the scheme's parts: (absolute path,), (variable,) or (service, username).

    Raises:
        UnresolvedReference: it leads to no secret; its code says why.
    """
    reader = _READERS.get(scheme)
    if reader is None:
        raise UnresolvedReference(
            f"the reference {scheme} is not supported by this version of skyflowctl",
            why="only a later version can follow it",
            fix="use file, env or keyring",
            code="unsupported-reference",
        )
    return reader(*target)
