"""The dev stack's state between commands: ``dev.json``. It holds no secret."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.errors import SkyflowctlError, UnhealthyError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.private_files import open_private, read_private, write_private


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A started process: its pid, and its start in seconds since the epoch.

    A pid alone may be reused by another process; with its start time it is unique.
    """

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack and the loopback port that it serves on."""

    process: ProcessRecord
    port: int

    @property
    def address(self) -> str:
        """Its address, as clients name it."""
        return f"https://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class DevState:
    """The stack's parts; a part is None before its first start.

    Args:
        server: the OpenBao server.
        emulator: the Skyflow emulator.
        cluster_id: the server's own id, by which it is recognised; new at each start of a
            server that keeps its data in memory.
    """

    server: Part | None = None
    emulator: Part | None = None
    cluster_id: str = ""

    def with_server(self, part: Part, cluster_id: str) -> "DevState":
        """Return the state with this server."""
        return replace(self, server=part, cluster_id=cluster_id)

    def with_emulator(self, part: Part) -> "DevState":
        """Return the state with this emulator."""
        return replace(self, emulator=part)


def load_state(layout: DevLayout) -> DevState:
    """Return the saved state, or an empty one if there is none that is readable.

    The state of a folder that this user did not make here is ignored.
    """
    if not layout.ours:
        return DevState()
    try:
        saved = json.loads(read_private(layout.state))
        return DevState(
            server=_part(saved["server"]),
            emulator=_part(saved["emulator"]),
            cluster_id=str(saved["cluster_id"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return DevState()


def save_state(layout: DevLayout, state: DevState) -> None:
    """Write the state atomically."""
    write_private(layout.state, json.dumps(asdict(state), indent=2) + "\n")


@contextlib.contextmanager
def locked(layout: DevLayout) -> Iterator[None]:
    """Hold the folder's lock, so that two commands never start or stop parts at once.

    Raises:
        RefusedError: the folder is not the dev stack's.
    """
    try:
        descriptor = open_private(layout.lock, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise layout.planted(layout.lock, os_reason(error)) from None
    with os.fdopen(descriptor, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _part(saved: dict[str, object] | None) -> Part | None:
    if saved is None:
        return None
    process = saved["process"]
    if not isinstance(process, dict):
        raise TypeError("no process in the saved part")
    return Part(
        process=ProcessRecord(int(process["pid"]), float(process["started"])),
        port=int(str(saved["port"])),
    )


def not_running() -> SkyflowctlError:
    """Return the error of commands that need a running stack."""
    return UnhealthyError(
        "the dev stack does not run",
        why="its processes have ended, or were never started in this folder",
        fix="start it with 'skyflowctl dev up'",
        code="dev-stack-down",
    )
