"""Protects keys in this process: no core dump, no debugger, no swap. Also open files."""

import contextlib
import ctypes
import os
import resource

from skyflowctl.frozen import dataclass

# <linux/prctl.h>, <sys/mman.h>. Pages are locked when they are first used (Linux 4.4):
# locking all that is mapped would make every thread's whole stack resident.
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14

_FILES_A_MOUNT = 6
"""Descriptors that one mount needs: its storage connection, and a connection to the token
service for each exchange at a time (measured on 1,000 mounts whose 5 roles were just tried)."""
_FILES_RESERVED = 64


@dataclass(frozen=True, slots=True)
class ProcessProtection:
    """The state of the process: each True is a way for its memory to leave it."""

    core_dumps: bool
    dumpable: bool
    swappable: bool

    def to_json(self) -> dict[str, bool]:
        """Return the values as config read shows them."""
        return {name: getattr(self, name) for name in self.__slots__}


def protect_process() -> ProcessProtection:
    """Close these ways as far as possible for this process, and return the state.

    Memory is locked only if there is no limit on it: with a limit, an allocation beyond it would
    fail later and end the process.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    locked = _may_lock() and library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    return ProcessProtection(
        core_dumps=resource.getrlimit(resource.RLIMIT_CORE)[0] != 0,
        dumpable=library.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0,
        swappable=not locked,
    )


def _may_lock() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - lean
            capabilities = next(line for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return False
    return bool(int(capabilities.split()[1], 16) >> _CAP_IPC_LOCK & 1)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class TooManyFilesError(Exception):
    """One more mount could run out of open files; the message names the limit to raise."""


def check_room_for_mount(mounts: int) -> None:
    """Check that the limit of open files has room for one more mount.

    Args:
        mounts: the number of mounts that this process already serves.

    Raises:
        TooManyFilesError: there is no room.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return
    probe = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)  # the lowest free number
    os.close(probe)
    if probe + _FILES_A_MOUNT + _FILES_RESERVED > limit:
        raise TooManyFilesError(
            f"the plugin process serves {mounts} mounts and may open {limit} files, too few for "
            f"one more: raise the limit of the server (LimitNOFILE={2 * limit} with systemd) and "
            "restart it, or register the plugin without --shared"
        )
