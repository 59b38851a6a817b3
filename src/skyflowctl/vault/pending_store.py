"""Stores of parked requests, kept from one command to the next: a file, or the OS keyring.

A stored wrapping token is as powerful as its write. So the file must belong to this user
alone and is never opened through a link, and an entry is deleted once it is used or gone.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import InvalidInputError, RefusedError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.private_files import (
    locked_private,
    make_private_folder,
    open_private,
    read_private,
    write_private,
)
from skyflowctl.secret import Secret

PENDING_FORMAT = "skyflowctl-pending/1"
SERVICE = "skyflowctl pending requests"
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A parked request, with everything that is needed to run it once it is approved.

    Args:
        token: the wrapping token; unwrapping it runs the request.
        accessor: identifies the request to an approver, and runs nothing.
        method: of the request.
        path: of the request, below ``/v1/``.
        version: of a catalog entry; empty for any other object.
        namespace: that the path is relative to.
        digest: of the method, path and body.
        before: digest of the object when the request was parked.
        run: the run that sent it.
        scope: the manifest whose apply sent it; empty for any other command.
        cluster: the cluster's id.
        plan: digest of the saved plan whose apply sent it; empty for any other command.
        expires_at: RFC 3339, the earlier of the wrapping token's end and the login's.
    """

    token: Secret = field(repr=False)
    accessor: str
    method: str
    path: str
    version: str
    namespace: str
    digest: str
    before: str
    run: str
    scope: str
    cluster: str
    expires_at: str
    plan: str = ""

    @classmethod
    def parse(cls, raw: Any) -> "StoredRequest":
        """Return the entry that a JSON object describes.

        Raises:
            ValueError: the object describes no entry.
        """
        names = cls.__dataclass_fields__
        raw = {"plan": "", **raw} if isinstance(raw, dict) else raw  # 1.0 wrote none
        if not isinstance(raw, dict) or not all(isinstance(raw.get(one), str) for one in names):
            raise ValueError("no stored request")
        parse_rfc3339(raw["expires_at"])
        return cls(**{one: raw[one] for one in names} | {"token": Secret(raw["token"])})

    def to_json(self) -> dict[str, str]:
        """Return the JSON object, with its token revealed."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**fields, "token": self.token.reveal()}


StoreChange = Callable[[list[StoredRequest]], list[StoredRequest]]


class PendingStore(Protocol):
    """Keeps parked requests after a command has ended."""

    @property
    def kind(self) -> Literal["keyring", "file"]:
        """Its name in the output."""

    def load(self) -> list[StoredRequest]:
        """Return the stored requests.

        Raises:
            SkyflowctlError: the store cannot be read.
        """

    def change(self, change: StoreChange) -> None:
        """Replace the stored requests, locked against other processes.

        Raises:
            SkyflowctlError: the store cannot be written.
        """


class Keyring(Protocol):
    """The OS keyring; ``skyflowctl.credentials.schemes.keyring`` is one."""

    def is_safe(self) -> bool:
        """Whether it keeps secrets."""

    def stored(self, service: str, username: str) -> Secret | None:
        """Return an entry, or None."""

    def store(self, service: str, username: str, secret: Secret) -> None:
        """Write or replace an entry."""

    def forget(self, service: str, username: str) -> None:
        """Remove an entry."""


def decode_entries(text: str) -> list[StoredRequest]:
    """Return the entries of a stored text; an empty text has none.

    Raises:
        ValueError: the text has another format.
    """
    if not text:
        return []
    whole = json.loads(text)
    if not isinstance(whole, dict) or whole.get("format") != PENDING_FORMAT:
        raise ValueError("another format")
    return [StoredRequest.parse(raw) for raw in whole["requests"]]


def encode_entries(entries: Sequence[StoredRequest]) -> str:
    """Return the text of these entries."""
    return json.dumps({"format": PENDING_FORMAT, "requests": [one.to_json() for one in entries]})


class FileStore:
    """Parked requests in a file of the user's choice; it is removed with its last entry.

    Args:
        path: of the file.
        marks: the folder that notes such files for :func:`noted_files`; None: nothing is noted.
    """

    kind: Literal["keyring", "file"] = "file"

    def __init__(self, path: Path, marks: Path | None = None) -> None:
        self._path = path
        self._marks = marks

    def load(self) -> list[StoredRequest]:
        """Return the stored requests; empty if there is no file."""
        try:
            descriptor = open_private(self._path, os.O_RDONLY, secret=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unsafe(self._path, error) from None
        with os.fdopen(descriptor, "rb") as file:
            return self._entries(file.read(_MAX_BYTES + 1))

    def change(self, change: StoreChange) -> None:
        """Replace the file atomically; after a kill, either the old or the new file is complete."""
        with _locked(self._path) as descriptor:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                entries = change(self._entries(file.read(_MAX_BYTES + 1)))
            try:
                if entries:
                    self._note()
                    write_private(self._path, encode_entries(entries))
                else:
                    self._path.unlink(missing_ok=True)
            except OSError as error:
                raise _unsafe(self._path, error) from None

    def _note(self) -> None:
        """Note the file's path; without it, only ``logout`` does not know of the file."""
        if self._marks is not None:
            with contextlib.suppress(OSError):
                make_private_folder(self._marks)
                write_private(self._marks / _digest(str(self._path)), str(self._path))

    def _entries(self, raw: bytes) -> list[StoredRequest]:
        try:
            if len(raw) > _MAX_BYTES:
                raise ValueError("too large")
            return decode_entries(raw.decode())
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidInputError(
                f"{self._path} holds no pending requests",
                why="the file is damaged or has another format",
                fix="name another file with --pending",
                code="pending-file-invalid",
            ) from None


def noted_files(marks: Path) -> list[Path]:
    """Return the files of parked requests that a folder notes; forget those that are gone."""
    found = []
    for mark in sorted(marks.glob("*")):
        with contextlib.suppress(OSError, ValueError):
            file = Path(read_private(mark))
            if file.exists():
                found.append(file)
            else:
                mark.unlink()
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


class KeyringStore:
    """Parked requests of one cluster in the OS keyring.

    An empty file in the state folder marks that the keyring has an entry. Without it the
    keyring is neither loaded nor unlocked.

    Args:
        cluster: its id.
        folder: the folder of the marks; created when needed.
        keyring: the keyring with the entries.
    """

    kind: Literal["keyring", "file"] = "keyring"

    def __init__(self, cluster: str, folder: Path, keyring: Keyring) -> None:
        self._cluster = cluster
        self._keyring = keyring
        self._mark = folder / _digest(cluster)

    def load(self) -> list[StoredRequest]:
        """Return the stored requests."""
        if not self._mark.exists():
            return []
        found = self._keyring.stored(SERVICE, self._cluster)
        try:
            return decode_entries(found.reveal() if found else "")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidInputError(
                "the OS keyring's entry of pending requests is damaged",
                why="it does not have the format of skyflowctl, and was not changed",
                fix=f"look at the entry {SERVICE!r} of user {self._cluster!r}, remove it, or name "
                "a file with --pending",
                code="pending-keyring-invalid",
            ) from None

    def change(self, change: StoreChange) -> None:
        """Replace the cluster's entry; an entry that cannot be read is not overwritten."""
        if not self._keyring.is_safe():
            raise RefusedError(
                "this machine has no OS keyring",
                why="none is installed, or it cannot store secrets",
                fix="name a file with --pending, or unlock an OS keyring",
                code="no-keyring",
            )
        try:
            make_private_folder(self._mark.parent)
        except OSError as error:
            raise _unsafe(self._mark.parent, error) from None
        with _locked(self._mark):
            # If the keyring fails, the mark stays, and the next command looks again.
            kept = change(self.load())
            if kept:
                self._keyring.store(SERVICE, self._cluster, Secret(encode_entries(kept)))
            else:
                self._keyring.forget(SERVICE, self._cluster)
                self._mark.unlink(missing_ok=True)


class CachedStore:
    """A store that is read once, and again only for a change. Safe for threads."""

    def __init__(self, inner: PendingStore) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._entries: list[StoredRequest] | None = None

    @property
    def kind(self) -> Literal["keyring", "file"]:
        """The inner store's."""
        return self._inner.kind

    def load(self) -> list[StoredRequest]:
        """Return the stored requests that this process knows."""
        with self._lock:
            if self._entries is None:
                self._entries = self._inner.load()
            return list(self._entries)

    def change(self, change: StoreChange) -> None:
        """Replace the currently stored requests, even if they changed since they were read."""
        left: list[StoredRequest] = []

        def noted(entries: list[StoredRequest]) -> list[StoredRequest]:
            left[:] = change(entries)
            return left

        with self._lock:
            self._inner.change(noted)
            self._entries = left


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Lock a private file of this user against every other process.

    Raises:
        RefusedError: the file is a link, another user's, or open to others.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(locked_private(path, secret=True))
        except OSError as error:
            raise _unsafe(path, error) from None
        yield descriptor


def _unsafe(path: Path, error: OSError) -> RefusedError:
    missing = isinstance(error, FileNotFoundError)
    reason = "its folder does not exist" if missing else os_reason(error)
    return RefusedError(
        f"{path} cannot store pending requests",
        why=f"{reason}; a stored request can change the server",
        fix="name a new file in a folder of your own with --pending",
        code="pending-file-unsafe",
    )
