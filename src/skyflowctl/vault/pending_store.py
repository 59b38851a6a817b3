"""Where parked requests are kept until somebody has approved them: a file, or the keyring.

What is kept can do the write that it stands for, so the file is its owner's alone, never a
link, and an entry goes as soon as it is used or gone.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import InvalidInput, Refused, SkyflowctlError
from skyflowctl.secret import Secret
from skyflowctl.secretrefs import keyring

FORMAT = "skyflowctl-pending/1"
SERVICE = "skyflowctl pending requests"
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request that the server holds, and what is needed to have it run.

    Args:
        token: the wrapping token; unwrapping it runs the request.
        accessor: names the request to an approver.
        method: of the request.
        path: of the request, below ``/v1/``.
        version: of a catalog entry, where it is one; else empty.
        namespace: that the path is relative to.
        digest: of what was sent.
        before: of the object as it was when the request was parked.
        run: the run that sent it.
        cluster: the cluster's id.
        expires_at: when it can no longer run, RFC 3339; the earlier end of the wrapping
            token and the login.
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
    cluster: str
    expires_at: str

    @classmethod
    def parse(cls, raw: Any) -> "StoredRequest":
        """Return the entry that a JSON object stands for.

        Raises:
            ValueError: it is none.
        """
        names = cls.__dataclass_fields__
        if not isinstance(raw, dict) or not all(isinstance(raw.get(one), str) for one in names):
            raise ValueError("no stored request")
        parse_rfc3339(raw["expires_at"])
        return cls(**{one: raw[one] for one in names} | {"token": Secret(raw["token"])})

    def to_json(self) -> dict[str, str]:
        """Return the JSON object, with its token revealed."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**fields, "token": self.token.reveal()}


Change = Callable[[list[StoredRequest]], list[StoredRequest]]


class PendingStore(Protocol):
    """Keeps parked requests over the end of a command."""

    @property
    def kind(self) -> Literal["keyring", "file"]:
        """What the output calls it."""

    def load(self) -> list[StoredRequest]:
        """Return what is kept.

        Raises:
            SkyflowctlError: it cannot be read.
        """

    def change(self, change: Change) -> None:
        """Replace what is kept; no other process changes it meanwhile.

        Raises:
            SkyflowctlError: it cannot be written.
        """


def decode(text: str) -> list[StoredRequest]:
    """Return the entries of a stored text; an empty one has none.

    Raises:
        ValueError: it is of another kind.
    """
    if not text:
        return []
    whole = json.loads(text)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError("another format")
    return [StoredRequest.parse(raw) for raw in whole["requests"]]


def encode(entries: Sequence[StoredRequest]) -> str:
    """Return the text of these entries."""
    return json.dumps({"format": FORMAT, "requests": [one.to_json() for one in entries]})


class FileStore:
    """Parked requests in a file that the user named; gone with its last entry."""

    kind: Literal["keyring", "file"] = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[StoredRequest]:
        """Return what is kept; a file that does not exist keeps nothing."""
        try:
            descriptor = _opened(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return []
        with os.fdopen(descriptor, "rb") as file:
            return self._entries(file.read(_MAX_BYTES + 1))

    def change(self, change: Change) -> None:
        """Replace the file by a whole new one; a kill leaves the old or the new."""
        with _locked(self._path) as descriptor:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                entries = change(self._entries(file.read(_MAX_BYTES + 1)))
            if entries:
                replace_file(self._path, encode(entries))
            else:
                self._path.unlink(missing_ok=True)

    def _entries(self, raw: bytes) -> list[StoredRequest]:
        try:
            if len(raw) > _MAX_BYTES:
                raise ValueError("too large")
            return decode(raw.decode())
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidInput(
                f"{self._path} holds no pending requests",
                why="it is a file of another kind, or damaged",
                fix="name another file with --pending",
                code="pending-file-invalid",
            ) from None


class KeyringStore:
    """Parked requests of one cluster in the OS keyring.

    A mark without a secret in the state folder says that there is something, so that a
    keyring is neither loaded nor unlocked for those who have no pending request.

    Args:
        cluster: its id.
        folder: of the marks; is made when it is needed.
    """

    kind: Literal["keyring", "file"] = "keyring"

    def __init__(self, cluster: str, folder: Path) -> None:
        self._cluster = cluster
        self._mark = folder / hashlib.sha256(cluster.encode()).hexdigest()[:32]

    def load(self) -> list[StoredRequest]:
        """Return what is kept."""
        if not self._mark.exists():
            return []
        found = keyring.stored(SERVICE, self._cluster)
        try:
            return decode(found.reveal() if found else "")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidInput(
                "the OS keyring's entry of pending requests is damaged",
                why="it is not in the form that skyflowctl writes, and is left as it is",
                fix=f"look at the entry {SERVICE!r} of user {self._cluster!r}, remove it, or name "
                "a file with --pending",
                code="pending-keyring-invalid",
            ) from None

    def change(self, change: Change) -> None:
        """Replace the cluster's entry."""
        if not keyring.is_safe():
            raise Refused(
                "this machine has no OS keyring",
                why="none is installed, or none that keeps secrets",
                fix="name a file with --pending, or unlock an OS keyring",
                code="no-keyring",
            )
        with contextlib.suppress(OSError):
            self._mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._mark):
            # What could not be read or written is looked for again: the mark stays.
            kept = change(self.load())
            if kept:
                keyring.store(SERVICE, self._cluster, Secret(encode(kept)))
            else:
                keyring.forget(SERVICE, self._cluster)
                self._mark.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Write a file that is whole at any time, and nobody else's to read.

    Raises:
        Refused: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, 0o600), "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    except OSError as error:
        raise _unsafe(path, error.strerror or "it cannot be written") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold a file, made if there is none, against every other process."""
    while True:
        descriptor = _opened(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path still leads to this file, and not to one that replaced it."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _opened(path: Path, flags: int) -> int:
    """Open a file that is this user's alone.

    Raises:
        FileNotFoundError: there is none, and it was not to be made.
        Refused: it is a link, another user's, or open to others.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        if flags & os.O_CREAT:
            raise _unsafe(path, "its folder does not exist") from None
        raise
    except (OSError, ValueError) as error:
        link = path.is_symlink()
        raise _unsafe(path, "it is a link" if link else _reason(error)) from None
    wrong = _wrong_with(os.fstat(descriptor))
    if wrong:
        os.close(descriptor)
        raise _unsafe(path, wrong)
    return descriptor


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or "its name cannot be used"


def _wrong_with(info: os.stat_result) -> str:
    if not stat.S_ISREG(info.st_mode):
        return "it is no regular file"
    if info.st_uid != os.geteuid():
        return "it belongs to another user"
    if info.st_nlink > 1:
        return "it has a second name (a hard link)"
    return "others may read or write it" if info.st_mode & 0o077 else ""


def _unsafe(path: Path, why: str) -> SkyflowctlError:
    return Refused(
        f"{path} cannot keep pending requests",
        why=f"{why}; what is kept there can change the server",
        fix="name a new file in a folder of your own with --pending",
        code="pending-file-unsafe",
    )
