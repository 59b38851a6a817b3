"""Finds out that the server's audit devices stop every request, and which of them it is.

The server answers ``sys/health`` all the same, and nothing that it must record first: 500 at once
if every device fails, nothing at all if one of them blocks, however many others there are
(measured on OpenBao 2.7.2). The list of its devices cannot be read then either.
"""

import os
import re
import select
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import AUDIT_PLACES, DeclaredObject
from skyflowctl.vault.audit_devices import AUDIT_DEVICES
from skyflowctl.vault.errors import AuditBlockedError, OutcomeUnknownError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Request
from skyflowctl.vault.waits import within

PROBE_SECONDS = 7.0
"""A blocked device is named within 10 s. A server that is only slow has answered by then."""

_FAILED = re.compile(r'audit: backend failed to log \w+: backend=(\S+?)/ error="?([^"\n]*)')
_INTERNAL = "internal error"
_FIX = (
    "on its node: free space on its disk, or start what reads its pipe or socket, or restore its "
    "folder; then send SIGHUP to the server, which opens its files anew. A second device helps "
    "when one fails, but not when one blocks"
)


@dataclass(frozen=True, slots=True)
class AuditSuspects:
    """What is known about the server's audit devices without asking it.

    Args:
        declared: the manifest's.
        local: whether the server runs on this machine, so that their files can be looked at.
        server_log: the server's log, if it can be read here.
    """

    declared: tuple[DeclaredObject, ...] = ()
    local: bool = False
    server_log: Path | None = None


def refuse_blocked_audit(gateway: Gateway, suspects: AuditSuspects, deadline: float | None) -> None:
    """Raise an error if the server's audit devices stop every request.

    A request without a token is only recorded and denied, so nothing else can fail in it.

    Args:
        gateway: to a server that has just answered ``sys/health``.
        suspects: what is known about its devices.
        deadline: the seconds for one mount.

    Raises:
        AuditBlockedError: with the devices, as far as they are known.
    """
    limit = PROBE_SECONDS if deadline is None else min(PROBE_SECONDS, deadline)
    begun = time.monotonic()
    error = _recorded_request(gateway, limit)
    # A connection that ends at once tells nothing of audit devices.
    if isinstance(error, OutcomeUnknownError) and time.monotonic() - begun > limit - 0.5:
        why = f"it answers sys/health, and no request that it must record within {limit:g} s"
        raise _stopped(f"{why}: {_who(suspects, _seen_here(suspects), 'blocks')}")
    if error is not None and error.says(_INTERNAL):
        found = _in_server_log(gateway, suspects, limit) or _seen_here(suspects)
        why = "it answers every request that it must record with an internal error"
        raise _stopped(f"{why}: {_who(suspects, found, 'fails')}")


def _stopped(why: str) -> AuditBlockedError:
    return AuditBlockedError("the server's audit devices stop every request", why=why, fix=_FIX)


def _recorded_request(gateway: Gateway, limit: float) -> VaultError | None:
    """Send one request without a token, and return how it failed."""
    client = gateway.transport.as_login(None)
    try:
        with within(limit):
            client.send(Request("GET", AUDIT_DEVICES))
    except VaultError as error:
        return error
    finally:
        client.close()
    return None


def _who(suspects: AuditSuspects, found: list[str], verb: str) -> str:
    if found:
        return f"the audit device {'; '.join(found)}"
    names = [_title(one) for one in suspects.declared]
    if len(names) == 1:
        return f"the manifest's only audit device {verb}, {names[0]}"
    if names:
        which = "one of these audit devices blocks" if verb == "blocks" else "all of them fail"
        return f"{which}: {', '.join(names)}"
    return (
        f"an audit device {verb}; its name is in the server's configuration, because the list of "
        "devices cannot be read now"
    )


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


def _seen_here(suspects: AuditSuspects) -> list[str]:
    """Return the devices whose file shows that it cannot be written; nothing is written to it."""
    return list(_unwritable(suspects.declared)) if suspects.local else []


def lost_records(suspects: AuditSuspects) -> list[Problem]:
    """Return a warning for each declared file that was deleted while a process here writes to it.

    A server goes on writing to such a file, which nobody can read (measured on OpenBao 2.7.2).
    Processes whose open files this user may not see are not known.
    """
    found = []
    for one in suspects.declared if suspects.local else ():
        path = str(one.fields.get("options.file_path", ""))
        if path.startswith("/") and not Path(path).exists() and (process := _writer(path)):
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


def _unwritable(devices: Iterable[DeclaredObject]) -> Iterable[str]:
    for one in devices:
        path = str(one.fields.get("options.file_path", ""))
        reason = _reason(path) if path.startswith("/") else ""
        if reason:
            yield f"{_name(one)} ({path}): {reason}"


def _reason(path: str) -> str:
    """Return why a file takes nothing more; empty: it does, or this cannot be seen."""
    try:
        kind = Path(path).stat().st_mode
        if stat.S_ISFIFO(kind):
            return _reason_of_pipe(path)
        full = stat.S_ISREG(kind) and os.statvfs(path).f_bavail == 0
    except NotADirectoryError:
        return "a part of its path is a file, not a folder"
    except OSError:
        return ""
    return "its disk is full" if full else ""


def _reason_of_pipe(path: str) -> str:
    try:
        opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except PermissionError:
        return ""
    except OSError:
        return "nobody has this pipe open to read it"
    try:
        taken = select.select([], [opened], [], 0)[1]
    finally:
        os.close(opened)
    return "" if taken else "this pipe is full, and nobody reads it"
