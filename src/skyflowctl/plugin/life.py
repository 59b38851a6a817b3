"""Decides when this process ends, and removes its sockets."""

# ruff: noqa: PTH108, PTH116, PTH118, PTH208 - pathlib, with what it imports, keeps 0.6 MB in every plugin process
import asyncio
import contextlib
import ctypes
import gc
import os
import re
import signal
import socket
import stat
from collections.abc import Callable
from typing import NoReturn

_CHECK_SECONDS = 2.0
_CONNECT_SECONDS = 60.0
_IDLE_SECONDS = 10.0
_SOCKET_NAME = re.compile("sky([0-9]+)-", re.ASCII)


class Life:
    """Ends the process as soon as it is not needed, without waiting.

    A killed server sends no shutdown, and a server whose mount failed may forget its process. So
    the process ends when the server's connection is lost, when its parent is gone, when there was
    no connection for a minute, and when it has served no mount for ten seconds; a server starts it
    again on demand.

    Args:
        socket_path: the plugin's own socket.
        mounts: returns the number of mounts that are set up.
    """

    def __init__(self, socket_path: str, mounts: Callable[[], int]) -> None:
        self._socket_path = socket_path
        self._mounts = mounts
        self._parent = os.getppid()
        self._connected = False

    def connected(self) -> None:
        """Note that the server has connected."""
        self._connected = True

    def host_lost(self, host_sockets: set[str]) -> NoReturn:
        """End because the connection is lost, and remove the server's leftover sockets.

        A server that stops normally calls Shutdown first; a killed one leaves the files of its own
        listeners, which no other process knows.
        """
        for path in host_sockets:
            _unlink_socket(path)
        self.end()

    def end(self) -> NoReturn:
        """End the process at once: the server's other mounts wait for it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket_path)
        os._exit(0)

    def handle_signals(self) -> None:
        """End the process on SIGTERM."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.end)

    async def watch(self) -> NoReturn:
        """Check regularly whether this process is still needed."""
        loop = asyncio.get_running_loop()
        needed_at = loop.time()
        await asyncio.sleep(_CHECK_SECONDS)
        end_start()
        while True:
            if os.getppid() != self._parent:
                self.end()
            if self._mounts():
                needed_at = loop.time()
            allowed = _IDLE_SECONDS if self._connected else _CONNECT_SECONDS
            if loop.time() - needed_at > allowed:
                self.end()
            await asyncio.sleep(_CHECK_SECONDS)


def end_start() -> None:
    """Give back the memory that only the start needed, and turn the garbage collector on.

    The launcher turned it off. What exists now stays, so that no later collection looks at it.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _unlink_socket(path: str) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


def sweep_sockets(directory: str) -> None:
    """Remove the sockets of plugin processes that were killed.

    A socket is removed only if the process in its name is gone and no process listens on it.
    """
    with contextlib.suppress(OSError):  # it cannot be listed
        for found in filter(None, map(_SOCKET_NAME.match, os.listdir(directory))):
            path = os.path.join(directory, found.string)
            if not _is_alive(int(found[1])) and not _listens(path):
                _unlink_socket(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
