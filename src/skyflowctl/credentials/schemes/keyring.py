"""``keyring``: secrets in this machine's keyring."""

from typing import TYPE_CHECKING

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyring.backend import KeyringBackend


def read(service: str, username: str) -> Secret:
    """Return an entry's password.

    Raises:
        UnresolvedReferenceError: there is no usable keyring (``keyring-unavailable``, which
            names the backend), or it has no such entry.
    """
    backend = _backend()
    from keyring.errors import KeyringError

    try:
        password = backend.get_password(service, username)
    except (KeyringError, OSError, RuntimeError):
        # Every backend has its own error texts, which may quote the entry.
        raise _unavailable(_name(backend)) from None
    if not password:
        raise UnresolvedReferenceError(
            f"the keyring has no entry for service {service}, user {username}",
            why=f"asked was {_name(backend)}",
            fix=f"store it: keyring set {service} {username}",
            code="reference-missing",
        )
    return Secret(password)


def _backend() -> "KeyringBackend":
    try:
        # Imported here because it takes 0.2 s, and most commands need no keyring.
        import keyring

        return keyring.get_keyring()
    except (ImportError, AttributeError, RuntimeError) as error:
        # The backend that PYTHON_KEYRING_BACKEND names does not exist.
        raise _unavailable(f"none ({type(error).__name__})") from None


def _name(backend: "KeyringBackend") -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def _unavailable(backend: str) -> UnresolvedReferenceError:
    return UnresolvedReferenceError(
        "this machine has no usable keyring",
        why=f"the backend is {backend}",
        fix="unlock or install one, or use a reference of kind file or env",
        code="keyring-unavailable",
    )


def is_safe() -> bool:
    """Whether this machine has a real keyring that keeps secrets.

    This uses the package's own priorities: its backends for the keyrings of operating systems have
    a priority of at least 1, and those that write plain-text files have a lower one.
    """
    try:
        return float(_backend().priority) >= 1
    except Exception:  # noqa: BLE001 - a backend may fail in any way, and then is none
        return False


def stored(service: str, username: str) -> Secret | None:
    """Return an entry that :func:`store` wrote, or None.

    Raises:
        UnresolvedReferenceError: the keyring cannot be used.
    """
    found = _done(lambda backend: backend.get_password(service, username))
    return Secret(str(found)) if found else None


def store(service: str, username: str, secret: Secret) -> None:
    """Write or replace an entry.

    Raises:
        UnresolvedReferenceError: the keyring cannot be used.
    """
    _done(lambda backend: backend.set_password(service, username, secret.reveal()))


def forget(service: str, username: str) -> None:
    """Remove an entry; a missing one is no error.

    Raises:
        UnresolvedReferenceError: the keyring cannot be used.
    """
    if stored(service, username) is not None:
        _done(lambda backend: backend.delete_password(service, username))


def _done(work: "Callable[[KeyringBackend], object]") -> object:
    backend = _backend()
    try:
        return work(backend)
    except Exception:  # noqa: BLE001 - every backend fails in its own way, and may quote
        raise _unavailable(_name(backend)) from None
