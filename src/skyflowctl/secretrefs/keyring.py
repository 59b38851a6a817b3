"""``keyring``: a secret in this machine's keyring."""

from typing import TYPE_CHECKING

from skyflowctl.secret import Secret
from skyflowctl.secretrefs.unresolved import UnresolvedReference

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend


def read(service: str, username: str) -> Secret:
    """Return an entry's password.

    Raises:
        UnresolvedReference: there is no usable keyring (``keyring-unavailable``, which
            names the backend), or it has no such entry.
    """
    backend = _backend()
    from keyring.errors import KeyringError

    try:
        password = backend.get_password(service, username)
    except (KeyringError, OSError, RuntimeError):
        # Every backend words its failures in its own way, and may quote the entry.
        raise _unavailable(_name(backend)) from None
    if not password:
        raise UnresolvedReference(
            f"the keyring has no entry for service {service}, user {username}",
            why=f"asked was {_name(backend)}",
            fix=f"store it: keyring set {service} {username}",
            code="reference-missing",
        )
    return Secret(password)


def _backend() -> "KeyringBackend":
    try:
        # Imported here: it takes a fifth of a second, and most commands need no keyring.
        import keyring

        return keyring.get_keyring()
    except (ImportError, AttributeError, RuntimeError) as error:
        # The backend that PYTHON_KEYRING_BACKEND names does not exist.
        raise _unavailable(f"none ({type(error).__name__})") from None


def _name(backend: "KeyringBackend") -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def _unavailable(backend: str) -> UnresolvedReference:
    return UnresolvedReference(
        "this machine has no usable keyring",
        why=f"the backend is {backend}",
        fix="unlock or install one, or use a reference of kind file or env",
        code="keyring-unavailable",
    )
