"""``keyring``: secrets in this machine's keyring."""

import contextlib
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyring.backend import KeyringBackend


_SECONDS = 60.0
"""The time limit for one answer of a keyring: a person may have to type a password into it."""
_T = TypeVar("_T")


def read(service: str, username: str) -> Secret:
    """Return an entry's password.

    Raises:
        UnresolvedReferenceError: there is no usable keyring (``keyring-unavailable``, which
            names the backend), or it has no such entry.
    """
    found = stored(service, username)
    if found is None:
        raise UnresolvedReferenceError(
            f"the keyring has no entry for service {service}, user {username}",
            why=f"asked was {_name(_backend())}",
            fix=f"store it: keyring set {service} {username}",
            code="reference-missing",
        )
    return found


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
        return _in_time(lambda: float(_backend().priority) >= 1)
    except Exception:  # noqa: BLE001 - a backend may fail in any way, and then is none
        return False


def stored(service: str, username: str) -> Secret | None:
    """Return an entry that :func:`store` wrote, or None.

    Raises:
        UnresolvedReferenceError: the keyring cannot be used.
    """
    found = _done(lambda backend: backend.get_password(service, username))
    return Secret(str(found)) if found else None


def stored_unasked(service: str, username: str) -> Secret | None:
    """Return an entry only if reading it cannot make the keyring ask the user for anything.

    That can be known of a Secret Service alone (GNOME, KeePassXC): another backend, or a locked
    one, gives None.

    Raises:
        Exception: the service does not answer; it may also hang.
    """
    backend = _backend()
    first = next(iter(getattr(backend, "backends", [backend])))  # the chainer tries its backends
    if not type(first).__module__.endswith("backends.SecretService"):
        return None
    # Loaded by the backend already.
    import secretstorage

    with contextlib.closing(secretstorage.dbus_init()) as bus:
        if secretstorage.get_collection_by_alias(bus, "default").is_locked():
            return None
    found = first.get_password(service, username)
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
    backend = _in_time(_backend)
    try:
        return _in_time(lambda: work(backend))
    except UnresolvedReferenceError:
        raise
    except Exception as error:  # noqa: BLE001 - every backend fails in its own way, and may quote
        if type(error).__name__ == "KeyringLocked":
            raise UnresolvedReferenceError(
                "the keyring is locked",
                why=f"it was not unlocked; the backend is {_name(backend)}",
                fix="unlock it, as your desktop does at login (gnome-keyring-daemon --unlock on a "
                "machine without one), and run the command again",
                code="keyring-unavailable",
            ) from None
        raise _unavailable(_name(backend)) from None


def _in_time(work: "Callable[[], _T]") -> "_T":
    """Return the result of a call to the keyring, which may hang.

    Raises:
        UnresolvedReferenceError: there is none in time; the call is given up.
        Exception: the call's own error.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            future.set_exception(error)

    # A daemon: a call that hangs does not keep the process.
    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(_SECONDS)
    except TimeoutError:
        if future.done():
            raise
        raise UnresolvedReferenceError(
            f"the keyring did not answer within {_SECONDS:.0f} s",
            why="it may wait for its password in a window that you do not see",
            fix="unlock it, and run the command again",
            code="keyring-timeout",
        ) from None
