"""This machine's notes of open rotations: a cache that saves a wait, never the truth."""

import contextlib
import hashlib
import json
import os
import socket
from dataclasses import asdict
from pathlib import Path

from skyflowctl.frozen import dataclass
from skyflowctl.private_files import (
    is_private_folder,
    make_private_folder,
    read_private,
    write_private,
)


@dataclass(frozen=True, slots=True)
class _Owner:
    """A process, distinct from a later one with the same number.

    Args:
        pid: its number.
        started: its start time in the kernel's count; empty: unknown here.
        machine: where that number is valid: the host, its boot, its process namespace.
    """

    pid: int
    started: str
    machine: str


class OwnerFile:
    """One file for each mount, in a folder that only its owner may read.

    A note that cannot be read or written counts as unknown and never fails a rotation. A folder
    that is a link or belongs to another user is not used, with the same result.

    Args:
        folder: created when first needed.
        scope: the cluster and the namespace to which the mounts' paths are relative.
    """

    def __init__(self, folder: Path, scope: str) -> None:
        self._folder = folder
        self._scope = scope

    def begin(self, path: str, rotation_id: str) -> None:
        """Note that this process runs this rotation."""
        note = {"scope": self._scope, "path": path, "rotation": rotation_id}
        text = json.dumps({**note, **asdict(_this_process())})
        with contextlib.suppress(OSError):
            for folder in self._own_folders():
                make_private_folder(folder)
            write_private(self._file(path), text)

    def end(self, path: str) -> None:
        """Delete the note; the rotation has ended."""
        with contextlib.suppress(OSError):
            if self._is_safe():
                self._file(path).unlink(missing_ok=True)

    def owner_alive(self, path: str, rotation_id: str) -> bool | None:
        """Return whether the process that began it still runs; None: unknown here."""
        if not self._is_safe():
            return None
        try:
            note = json.loads(read_private(self._file(path)))
            if (note["scope"], note["path"], note["rotation"]) != (self._scope, path, rotation_id):
                return None
            owner = _Owner(int(note["pid"]), str(note["started"]), str(note["machine"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return _is_alive(owner)

    def _own_folders(self) -> tuple[Path, ...]:
        above = self._folder.parent
        return (above, self._folder) if above.name == "skyflowctl" else (self._folder,)

    def _is_safe(self) -> bool:
        """Whether the folders belong to this user; a note in another user's may be false."""
        return all(is_private_folder(folder) for folder in self._own_folders())

    def _file(self, path: str) -> Path:
        name = hashlib.sha256(f"{self._scope}\n{path}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _this_process() -> _Owner:
    return _Owner(os.getpid(), _start_of(os.getpid()), _machine())


def _is_alive(owner: _Owner) -> bool | None:
    """Return whether a process runs; None if its number is not valid here or may be reused."""
    if owner.pid <= 0 or owner.machine != _machine():
        return None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return None
    started = _start_of(owner.pid)
    return started == owner.started if started and owner.started else None


def _start_of(pid: int) -> str:
    """Return a process's start time in clock ticks since the boot; empty: unknown here."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name is in parentheses and may hold anything; the start is the 20th field after it.
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """Return a text that is equal only where process numbers mean the same."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        # Each container of a host has its own process numbers.
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
