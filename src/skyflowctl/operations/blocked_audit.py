"""Finds out that the server's audit devices stop every request, and which of them it is.

The server answers ``sys/health`` all the same, and nothing that it must record first: 500 at once
if every device fails, nothing at all if one of them blocks, however many others there are
(measured on OpenBao 2.7.2). The list of its devices cannot be read then either.
"""

import errno
import os
import re
import select
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import AUDIT_PLACES, DeclaredObject
from skyflowctl.vault.errors import (
    AuditBlockedError,
    OutcomeUnknownError,
    ServerUnreachableError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.namespaces import NAMESPACE_HEADER
from skyflowctl.vault.transport import Request
from skyflowctl.vault.waits import within

PROBE_SECONDS = 7.0
"""A blocked device is named within 10 s."""
AGAIN_SECONDS = 2.0
_FULL_SECONDS = 0.5
_RECORDED = "sys/internal/ui/mounts"
"""Every node answers it itself, from memory, and records it. Requests that a token must allow are
forwarded to the leader if they have none (measured on OpenBao 2.7.2)."""

_FAILED = re.compile(r'audit: backend failed to log \w+: backend=(\S+?)/ error="?([^"\n]*)')
RECORD_FAILED = "internal error"
"""What the server answers to a request that no audit device could record."""
_FIX = (
    "on its node: free space on its disk, or start what reads its pipe or socket, or restore its "
    "folder; then send SIGHUP to the server, which opens its files anew. A second device helps "
    "when one fails, but not when one blocks"
)
_EITHER = "the server hangs, or one of its audit devices blocks"
UNTOLD = f"no answer to another audited request within {AGAIN_SECONDS:g} s either: {_EITHER}"
SILENT_FIX = (
    "see on its node whether the server's process runs and what its log says; --deadline waits "
    "longer for a slow server"
)
UNTOLD_FIX = f"{SILENT_FIX}; for an audit device, {_FIX}"


@dataclass(frozen=True, slots=True)
class AuditSuspects:
    """What is known about the server's audit devices without asking it.

    Args:
        declared: the manifest's.
        local: whether the server at the address runs on this machine.
        server_log: the server's log, if it can be read here.
    """

    declared: tuple[DeclaredObject, ...] = ()
    local: bool = False
    server_log: Path | None = None


def refuse_blocked_audit(gateway: Gateway, suspects: AuditSuspects, deadline: float | None) -> None:
    """Raise an error if a node answers no request that it must record.

    Its audit devices are blamed only for what was seen: an internal error, or a pipe that is full.

    Args:
        gateway: to a node that has just answered ``sys/health``.
        suspects: what is known about its devices.
        deadline: the seconds for one mount.

    Raises:
        AuditBlockedError: with the devices, as far as they are known.
        ServerUnreachableError: the whole node hangs, or a device that cannot be seen from here.
    """
    limit = PROBE_SECONDS if deadline is None else min(PROBE_SECONDS, deadline)
    begun = time.monotonic()
    error = _recorded_request(gateway, limit)
    # A connection that ends at once tells nothing of audit devices.
    if isinstance(error, OutcomeUnknownError) and time.monotonic() - begun > limit - 0.5:
        why = f"it answers sys/health, and no audited request within {limit:g} s"
        found = _seen_here(gateway, suspects, _reason_to_block)
        if found:
            raise _stopped(f"{why}: the audit device {'; '.join(found)}")
        names = _listed(suspects)
        may_be = f"; the manifest's audit devices: {names}" if names else ""
        summary = "the server answers no audited request"
        raise ServerUnreachableError(summary, why=f"{why}: {_EITHER}{may_be}", fix=UNTOLD_FIX)
    if error is not None and error.says(RECORD_FAILED):
        found = _in_server_log(gateway, suspects, limit)
        found = found or _seen_here(gateway, suspects, _reason_to_fail)
        why = "it answers every request that it must record with an internal error"
        raise _stopped(f"{why}: {_who_fails(suspects, found)}")


def answers_recorded(gateway: Gateway) -> bool:
    """Return whether a node still answers a request that it must record."""
    return _recorded_request(gateway, AGAIN_SECONDS) is None


def _stopped(why: str) -> AuditBlockedError:
    return AuditBlockedError("the server's audit devices stop every request", why=why, fix=_FIX)


def _recorded_request(gateway: Gateway, limit: float) -> VaultError | None:
    """Send one request that a node answers itself, without a token, and return how it failed."""
    client = gateway.transport.as_login(None)
    try:
        with within(limit):
            client.send(Request("GET", _RECORDED, headers={NAMESPACE_HEADER: ""}))
    except VaultError as error:
        return error
    finally:
        client.close()
    return None


def _who_fails(suspects: AuditSuspects, found: list[str]) -> str:
    if found:
        return f"the audit device {'; '.join(found)}"
    names = _listed(suspects)
    if len(suspects.declared) == 1:
        return f"the manifest's only audit device fails, {names}"
    if names:
        return f"all of them fail: {names}"
    return (
        "an audit device fails; its name is in the server's configuration, because the list of "
        "devices cannot be read now"
    )


def _listed(suspects: AuditSuspects) -> str:
    return ", ".join(_title(one) for one in suspects.declared)


def _title(one: DeclaredObject) -> str:
    kind = one.fields["type"]
    return f"{_name(one)} ({one.fields.get(f'options.{AUDIT_PLACES[kind]}', kind)})"


def _name(one: DeclaredObject) -> str:
    return one.path.rpartition("/")[2]


def _in_server_log(gateway: Gateway, suspects: AuditSuspects, limit: float) -> list[str]:
    """Return what the server says about each device that fails one more request."""
    log = suspects.server_log
    if log is None:
        return []
    try:
        start = log.stat().st_size
        _recorded_request(gateway, limit)
        with log.open("rb") as stream:
            stream.seek(start)
            said = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [f"{name} fails: {text}" for name, text in dict(_FAILED.findall(said)).items()]


def _seen_here(
    gateway: Gateway, suspects: AuditSuspects, reason: Callable[[str], str]
) -> list[str]:
    """Return the devices whose file shows why it takes nothing more; nothing is written to it."""
    here = is_here(gateway.transport.server.address)
    return list(_unwritable(suspects.declared, reason)) if here else []


def is_here(address: str) -> bool:
    """Return whether a server runs on this machine, so that its files can be looked at."""
    return urlsplit(address).hostname in {"127.0.0.1", "::1", "localhost"}


def lost_records(suspects: AuditSuspects) -> list[Problem]:
    """Return a warning for each declared file that was deleted while a process here writes to it.

    A server goes on writing to such a file, which nobody can read (measured on OpenBao 2.7.2).
    Processes whose open files this user may not see are not known.
    """
    found = []
    for one in suspects.declared if suspects.local else ():
        path = str(one.fields.get("options.file_path", ""))
        # Also where this user may not look, which Path.exists() reports as an error.
        gone = path.startswith("/") and not os.path.exists(path)  # noqa: PTH110
        if gone and (process := _writer(path)):
            found.append(
                Problem(
                    "audit-file-deleted",
                    f"the records of the audit device {_name(one)} are lost: {path} was deleted",
                    f"process {process} still writes to it, and nobody can read that",
                    "send SIGHUP to the server, which makes the folder and the file anew",
                )
            )
    return found


def _writer(path: str) -> str:
    """Return the id of a process that has a deleted file open; empty: none is known."""
    for process in _names("/proc"):
        folder = f"/proc/{process}/fd"
        for name in _names(folder) if process.isdigit() else ():
            with suppress(OSError):  # it was closed just now
                if str(Path(folder, name).readlink()) == f"{path} (deleted)":
                    return process
    return ""


def _names(folder: str) -> list[str]:
    """Return the names in a folder; none if it cannot be read, or is gone."""
    with suppress(OSError):
        return [one.name for one in Path(folder).iterdir()]
    return []


def _unwritable(devices: Iterable[DeclaredObject], reason: Callable[[str], str]) -> Iterator[str]:
    for one in devices:
        path = str(one.fields.get("options.file_path", ""))
        said = reason(path) if path.startswith("/") else ""
        if said:
            yield f"{_name(one)} ({path}): {said}"


def _reason_to_fail(path: str) -> str:
    """Return why a file takes nothing more; empty: it does, or this cannot be seen."""
    try:
        full = stat.S_ISREG(Path(path).stat().st_mode) and os.statvfs(path).f_bavail == 0
    except OSError:
        return ""
    return "its disk is full" if full else _reason_to_block(path)


def _reason_to_block(path: str) -> str:
    """Return why a pipe takes nothing more; empty: it does, or this cannot be seen."""
    try:
        if not stat.S_ISFIFO(Path(path).stat().st_mode):
            return ""
        opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        return "nobody has this pipe open to read it" if error.errno == errno.ENXIO else ""
    try:
        taken = select.select([], [opened], [], _FULL_SECONDS)[1]
    finally:
        os.close(opened)
    return "" if taken else "this pipe is full, and nobody reads it"
