"""Opens files and folders that only this user may access, without following links.

Another user may have planted files in a cloned repository or a shared temporary folder. Every
function here raises ``OSError``, with the reason in ``strerror``, for a link, for another user's
file, or for another type of file.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_BEGINNING = 1 << 16
_USUAL = {"CACHE": "~/.cache", "CONFIG": "~/.config", "STATE": "~/.local/state"}


def user_folder(kind: str) -> Path:
    """Return skyflowctl's folder of a kind in the user's home: CACHE, CONFIG or STATE, as XDG
    defines them. It need not exist."""
    named = Path(os.environ.get(f"XDG_{kind}_HOME", ""))
    # The XDG rule: ignore a relative path, which would be in the working folder.
    home = named if named.is_absolute() else Path(_USUAL[kind]).expanduser()
    return home / "skyflowctl"


def open_private(path: Path, flags: int, *, secret: bool = False) -> int:
    """Open a regular file of this user; a new one is 0600.

    Args:
        path: of the file.
        flags: of ``os.open``.
        secret: refuse a file that others may read or write.

    Raises:
        OSError: it cannot be opened, or it is a link, another user's or no regular file.
    """
    try:
        # Not blocking: a pipe with this name is refused without a wait.
        descriptor = os.open(path, flags | _NO_FOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _explained(path, error) from None
    except ValueError:
        raise OSError(errno.EINVAL, "its name cannot be used") from None
    info = os.fstat(descriptor)
    reason = _unsafe(info, stat.S_ISREG, "it is not a regular file")
    if secret and not reason and info.st_mode & 0o077:
        reason = "others may read or write it"
    if reason:
        os.close(descriptor)
        raise _refusal(path, reason)
    return descriptor


@contextlib.contextmanager
def locked_private(path: Path, *, secret: bool = False) -> Iterator[int]:
    """Lock a file of this user against every other process; create it if it does not exist.

    If another process removes or replaces the file while this one waits, the new file is
    opened.

    Raises:
        OSError: as for :func:`open_private`.
    """
    while True:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT, secret=secret)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _leads_to(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def read_private(path: Path) -> str:
    """Return the text of a file of this user.

    Raises:
        OSError: as for :func:`open_private`.
    """
    with os.fdopen(open_private(path, os.O_RDONLY)) as stream:
        return stream.read()


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically; a link at ``path`` is replaced.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(open_private(draft, flags), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def check_replaceable(path: Path, is_own: Callable[[bytes], bool]) -> None:
    """Check that nothing of others is lost if a file is replaced.

    Args:
        path: of the file.
        is_own: whether the beginning of a file, up to 64 KiB, is an earlier output.

    Raises:
        OSError: there is something that is neither empty nor an earlier output, or no file.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _refusal(path, "it is no regular file")
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except FileNotFoundError:
        return
    if beginning and not is_own(beginning):
        raise _refusal(path, "it holds something else")


def make_private_folder(path: Path) -> None:
    """Create a folder of mode 0700, or set that mode on this user's existing folder.

    Raises:
        OSError: it cannot be created, or it is a link, another user's or no folder.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
    except OSError as error:
        raise _explained(path, error) from None
    try:
        reason = _unsafe(os.fstat(descriptor), stat.S_ISDIR, "it is no folder")
        if reason:
            raise _refusal(path, reason)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def is_private_folder(path: Path) -> bool:
    """Return whether a folder exists, is no link, and belongs to this user."""
    try:
        return not _unsafe(path.lstat(), stat.S_ISDIR, "it is no folder")
    except (OSError, ValueError):
        return False


def planted_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every link and every file of another user below a folder, with the reason.

    Raises:
        OSError: a folder below it cannot be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # a running process has just removed it
            reason = _unsafe(info, lambda _mode: True, "")
            if reason:
                yield Path(entry.path), reason
            elif stat.S_ISDIR(info.st_mode):
                yield from planted_below(Path(entry.path))


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _unsafe(info: os.stat_result, is_type: Callable[[int], bool], wrong_type: str) -> str:
    if stat.S_ISLNK(info.st_mode):
        return "it is a link"
    if info.st_uid != os.geteuid():
        return "it belongs to another user"
    if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
        return "it has a second name (a hard link)"
    return "" if is_type(info.st_mode) else wrong_type


def _explained(path: Path, error: OSError) -> OSError:
    """Return the error, with "it is a link" as its reason for ELOOP or ENOTDIR."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST) and path.is_symlink():
        return _refusal(path, "it is a link")
    return error


def _refusal(path: Path, reason: str) -> OSError:
    return OSError(errno.EPERM, reason, str(path))
