"""``env``: a secret in an environment variable."""

import os
from collections.abc import Mapping

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.secret import Secret


def read(name: str, environ: Mapping[str, str] | None = None) -> Secret:
    """Return a variable's value.

    Args:
        name: the variable's name.
        environ: the environment to read; this process's by default.

    Raises:
        UnresolvedReferenceError: the variable is not set (``reference-unset``), or blank.
    """
    value = (os.environ if environ is None else environ).get(name)
    if value is None:
        raise UnresolvedReferenceError(
            f"the environment variable {name} is not set",
            why="the environment of this command does not have it",
            fix=f"set {name} to the secret",
            code="reference-unset",
        )
    if not value.strip():
        raise UnresolvedReferenceError(
            f"the environment variable {name} is empty",
            why="it is set, and holds nothing but blanks",
            fix=f"set {name} to the secret",
            code="reference-empty",
        )
    return Secret(value)
