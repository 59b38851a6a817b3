"""This machine's notes of rotations under way: a cache that spares a wait, never the truth."""

import contextlib
import hashlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Owner:
    """A process, told apart from another that later gets the same number.

    Args:
        pid: its number.
        started: when it started, in the kernel's own count; empty: not known here.
        machine: where that number means something: host, its start, its process space.
    """

    pid: int
    started: str
    machine: str


class FolderJournal:
    """One file for each mount, in a folder that only its owner may read.

    What cannot be read or written makes a note unknown and never fails a rotation.

    Args:
        folder: is made when it is needed.
        scope: what paths of mounts are relative to: the cluster, and the namespace.
    """

    def __init__(self, folder: Path, scope: str) -> None:
        self._folder = folder
        self._scope = scope

    def begin(self, path: str, rotation_id: str) -> None:
        """Note that this process is at this rotation."""
        note = {"scope": self._scope, "path": path, "rotation": rotation_id}
        text = json.dumps({**note, **asdict(_this_process())})
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            _replace(self._file(path), text)

    def end(self, path: str) -> None:
        """Forget it; the rotation is settled."""
        with contextlib.suppress(OSError):
            self._file(path).unlink(missing_ok=True)

    def owner_alive(self, path: str, rotation_id: str) -> bool | None:
        """Tell whether the process that began it still runs; None: it is not known here."""
        try:
            note = json.loads(self._file(path).read_text())
            if (note["scope"], note["path"], note["rotation"]) != (self._scope, path, rotation_id):
                return None
            owner = _Owner(int(note["pid"]), str(note["started"]), str(note["machine"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return _is_alive(owner)

    def _file(self, path: str) -> Path:
        name = hashlib.sha256(f"{self._scope}\n{path}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _replace(file: Path, text: str) -> None:
    """Write a file that is whole at any time, and nobody else's to read."""
    draft = file.with_suffix(f".{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)


def _this_process() -> _Owner:
    return _Owner(os.getpid(), _start_of(os.getpid()), _machine())


def _is_alive(owner: _Owner) -> bool | None:
    """Tell whether a process still runs; None where its number means nothing or may be reused."""
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
    """Return when a process started, in clock ticks since the boot; empty: not told here."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name stands in parentheses and may hold anything; the start is the 20th after.
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """Return a text that is the same only where process numbers mean the same."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        # Containers of one host count their processes each for itself.
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
