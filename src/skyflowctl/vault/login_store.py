"""The logins that ``login`` made: tokens in the OS keyring, everything else in a file.

The file holds no secret. It tells who is logged in without a look into the keyring, which may ask
the user to unlock it, and which cluster a token belongs to.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import InvalidInputError, RefusedError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.private_files import (
    locked_private,
    make_private_folder,
    open_private,
    write_private,
)
from skyflowctl.secret import Secret
from skyflowctl.vault.contexts import ContextEntry
from skyflowctl.vault.pending_store import Keyring

LOGIN_SERVICE = "skyflowctl login"
_FORMAT = "skyflowctl-logins/1"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """A login, without its token.

    Args:
        context: the context that it belongs to.
        address: of the server that issued the token.
        namespace: in which it was issued.
        cluster: the id of the server's cluster.
        accessor: names the token without revealing it.
        user: the server's display name.
        policies: what the token may do.
        method: how it was made.
        minted: whether ``login`` made the token; False: the user gave it.
        renewable: whether the server renews it.
        ttl: its whole life in seconds; 0: it never ends.
        expires_at: RFC 3339; empty: never.
    """

    context: str
    address: str
    namespace: str
    cluster: str
    accessor: str
    user: str
    policies: tuple[str, ...]
    method: str
    minted: bool
    renewable: bool
    ttl: int
    expires_at: str

    @property
    def key(self) -> str:
        """The keyring's name of the token: it differs for another address or cluster."""
        return f"{self.context} {self.address} {self.cluster}"

    @classmethod
    def parse(cls, raw: Any) -> "LoginRecord":
        """Return the record that a JSON object describes.

        Raises:
            ValueError: it describes none.
        """
        kinds: dict[str, type] = {"policies": list, "minted": bool, "renewable": bool, "ttl": int}
        names = cls.__dataclass_fields__
        if not isinstance(raw, dict) or set(raw) != set(names):
            raise ValueError("no login")
        if not all(isinstance(raw[name], kinds.get(name, str)) for name in names):
            raise ValueError("no login")
        if raw["expires_at"]:
            parse_rfc3339(raw["expires_at"])
        return cls(**{**raw, "policies": tuple(map(str, raw["policies"]))})


class LoginStore:
    """The logins of this user on this machine.

    Args:
        path: the file; it and its folder need not exist.
        keyring: the OS keyring.
    """

    def __init__(self, path: Path, keyring: Keyring) -> None:
        self._path = path
        self._keyring = keyring

    def records(self) -> list[LoginRecord]:
        """Return all logins, also those that have expired.

        Raises:
            RefusedError: the file is a link, another user's, or open to others.
            InvalidInputError: it is damaged.
        """
        try:
            descriptor = open_private(self._path, os.O_RDONLY, secret=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unsafe(error) from None
        try:
            return self._parsed(descriptor)
        finally:
            os.close(descriptor)

    def find(self, context: ContextEntry) -> LoginRecord | None:
        """Return the login of a context, made at the address and in the namespace it has now."""
        wanted = (context.name, context.address, context.namespace)
        found = (
            one for one in self.records() if (one.context, one.address, one.namespace) == wanted
        )
        return next(found, None)

    def token(self, record: LoginRecord) -> Secret | None:
        """Return the token of a login; None if the keyring has none.

        Raises:
            RefusedError: the keyring cannot be used.
        """
        with _usable():
            return self._keyring.stored(LOGIN_SERVICE, record.key)

    def check_keyring(self) -> None:
        """Refuse, before a token is made, if there is no keyring to store it in.

        Raises:
            RefusedError: there is none, or it stores plain text.
        """
        if not self._keyring.is_safe():
            raise _no_keyring("none runs, or the one that is set up stores plain text")

    def save(self, record: LoginRecord, token: Secret) -> list[LoginRecord]:
        """Store a login; return the logins of the context that it replaces.

        Raises:
            SkyflowctlError: the keyring or the file cannot be written.
        """
        replaced: list[LoginRecord] = []

        def change(now: list[LoginRecord]) -> list[LoginRecord]:
            replaced[:] = [one for one in now if one.context == record.context]
            with _usable():
                self._keyring.store(LOGIN_SERVICE, record.key, token)
            return [one for one in now if one.context != record.context] + [record]

        self._change(change)
        return replaced

    def forget(self, record: LoginRecord) -> None:
        """Remove a login and its token from this machine.

        Raises:
            SkyflowctlError: the keyring or the file cannot be written.
        """

        def change(now: list[LoginRecord]) -> list[LoginRecord]:
            with _usable():
                self._keyring.forget(LOGIN_SERVICE, record.key)
            return [one for one in now if one.key != record.key]

        self._change(change)

    def _change(self, change: Callable[[list[LoginRecord]], list[LoginRecord]]) -> None:
        """Replace the records atomically, locked against other processes."""
        try:
            make_private_folder(self._path.parent)
            with locked_private(self._path, secret=True) as descriptor:
                after = change(self._parsed(descriptor))
                write_private(self._path, _encode(after))
        except OSError as error:
            raise self._unsafe(error) from None

    def _parsed(self, descriptor: int) -> list[LoginRecord]:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        try:
            if len(raw) > _MOST_BYTES:
                raise ValueError("too large")
            whole = json.loads(raw) if raw.strip() else {"format": _FORMAT, "logins": []}
            if whole["format"] != _FORMAT:
                raise ValueError("another format")
            return [LoginRecord.parse(one) for one in whole["logins"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidInputError(
                f"{self._path} holds no logins",
                why="the file is damaged or has another format",
                fix="remove it, and log in again; the tokens in the keyring expire by themselves",
                code="logins-invalid",
            ) from None

    def _unsafe(self, error: OSError) -> RefusedError:
        return RefusedError(
            f"the logins cannot be used: {self._path}",
            why=f"{os_reason(error)}; who writes this file decides where your tokens go",
            fix="make it a regular file of yours with mode 0600, or remove it and log in again",
            code="logins-unsafe",
        )


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    """Turn an error of the keyring into one that names the alternatives.

    Raises:
        RefusedError: the keyring is locked, does not answer, or cannot be used.
    """
    try:
        yield
    except InvalidInputError as error:
        problem = error.problems[0]
        raise _no_keyring(f"{problem.summary}: {problem.why}") from error


def _no_keyring(why: str) -> RefusedError:
    return RefusedError(
        "the OS keyring cannot keep the token of a login",
        why=f"{why}; skyflowctl writes no token to a file",
        fix="unlock or start one (such as gnome-keyring); or set BAO_ADDR and BAO_TOKEN, use a "
        "token helper, or give --token-file; or use a login that takes no person: each command "
        "then makes its own",
        code="no-keyring",
    )


def _encode(records: Sequence[LoginRecord]) -> str:
    return json.dumps({"format": _FORMAT, "logins": [asdict(one) for one in records]}, indent=2)
