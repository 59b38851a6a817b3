"""Mounts an engine, moves it and changes its settings; each request is read back.

After a lost reply the mount is read: it is ours if it equals what was sent.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.retry import Backoff, retry
from skyflowctl.vault import decode
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    PathInUseError,
    SilentlyIgnoredError,
    VaultError,
)
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.transport import Request, Transport

_POLLING = Backoff(first=0.05, longest=1.0)
_SETTLED_SECONDS = 5.0
_MOVED_SECONDS = 60.0


def read_mount(transport: Transport, path: str) -> LiveMount | None:
    """Return one mount's entry, or None if nothing is mounted there."""
    try:
        reply = transport.send(Request("GET", f"sys/mounts/{path}", fresh=True))
    except BadRequestError as error:
        if error.says("No secret engine mount"):
            return None
        raise
    return decode.mount(path, reply.data or {})


def enable(transport: Transport, path: str, fields: Mapping[str, Any]) -> LiveMount:
    """Mount a secrets engine; see :meth:`Gateway.enable_mount`."""
    try:
        _enable(transport, path, fields)
    except OutcomeUnknownError:
        return _enable_again(transport, path, fields)
    except BadRequestError as error:
        return _made_by_another(transport, path, fields, error)
    return _confirmed(transport, path, fields)


def tune(transport: Transport, path: str, fields: Mapping[str, Any]) -> LiveMount:
    """Change a mount in place; see :meth:`Gateway.tune_mount`."""
    transport.send(
        Request("POST", f"sys/mounts/{path}/tune", body=fields, idempotent=True, fresh=True)
    )
    return _confirmed(transport, path, fields)


def _enable(transport: Transport, path: str, fields: Mapping[str, Any]) -> None:
    body = decode.enable_body(fields)
    transport.send(Request("POST", f"sys/mounts/{path}", body=body, fresh=True))


def _made_by_another(
    transport: Transport, path: str, fields: Mapping[str, Any], error: BadRequestError
) -> LiveMount:
    """Return a mount that another client created meanwhile, if it equals the requested one."""
    if not error.says("path is already in use"):
        raise error
    live = read_mount(transport, path)
    if live is None or decode.ignored_fields(live, fields):
        raise PathInUseError.at(path, error) from None
    return live


def _enable_again(transport: Transport, path: str, fields: Mapping[str, Any]) -> LiveMount:
    """Enable after a lost reply: the mount at the path is ours if it equals what was sent."""
    if read_mount(transport, path) is not None:
        return _confirmed(transport, path, fields)
    try:
        _enable(transport, path, fields)
    except BadRequestError as error:
        if not error.says("path is already in use"):
            raise
    return _confirmed(transport, path, fields)


def _confirmed(transport: Transport, path: str, fields: Mapping[str, Any]) -> LiveMount:
    """Read a mount back and compare it, because servers accept fields that they ignore."""
    live = read_mount(transport, path)
    ignored = ["path"] if live is None else decode.ignored_fields(live, fields)
    if live is None or ignored:
        raise SilentlyIgnoredError(
            f"the server accepted and ignored {', '.join(ignored)}: {path}",
            why="it does not change these fields in place, or does not know them",
            fix="check the server's version, or change the field as its documentation describes",
            path=f"sys/mounts/{path}",
        )
    return live


def move(transport: Transport, source: str, target: str) -> None:
    """Move a mount with all that it stores, and wait until the server has done so.

    A mount that is only at its new path counts as moved, so a call may be repeated.

    Raises:
        PathInUseError: a mount is at, above or below the new path.
        BadRequestError: the server refuses the move for another reason.
        OutcomeUnknownError: two replies were lost, and the mount is not at its new path.
        VaultError: the move failed or has not ended.
    """
    try:
        _move(transport, source, target)
    except OutcomeUnknownError:
        if not _is_moved_within(_SETTLED_SECONDS, transport, source, target):
            _move_again(transport, source, target)
    except BadRequestError as error:
        if _is_moved(transport, source, target):
            return  # another run moved it, or this one, and the reply was lost
        if error.says("path already in use"):
            raise PathInUseError.at(target, error) from None
        raise


def _move_again(transport: Transport, source: str, target: str) -> None:
    """Move after a lost reply: a refusal may mean that the first request is being executed."""
    try:
        _move(transport, source, target)
    except BadRequestError:
        if not _is_moved_within(_SETTLED_SECONDS, transport, source, target):
            raise


def _move(transport: Transport, source: str, target: str) -> None:
    """Ask for a move and wait until the server has made it: it moves mounts in the background."""
    body = {"from": source, "to": target}
    reply = transport.send(Request("POST", "sys/remount", body=body, fresh=True))
    status = f"sys/remount/status/{(reply.data or {}).get('migration_id', '')}"

    def state() -> str:
        try:
            found = transport.send(Request("GET", status, fresh=True)).data or {}
            return str((found.get("migration_info") or {}).get("status", ""))
        except (ForbiddenError, NotFoundError):
            # Only the node that makes the move knows its status, and a login may not read it.
            return "success" if _is_moved(transport, source, target) else "in-progress"

    ended = retry(state, lambda found: found != "in-progress", _wait_until(_MOVED_SECONDS))
    if ended == "success":
        return
    raise VaultError(
        f"{source} was not moved to {target}: the server's status is {ended}",
        why="the server makes moves in the background, and this one did not succeed",
        fix=f"search the server's log for {status.rpartition('/')[2]}; then run it again",
        code="move-unfinished",
        path="sys/remount",
    )


def _is_moved_within(seconds: float, transport: Transport, source: str, target: str) -> bool:
    return retry(lambda: _is_moved(transport, source, target), bool, _wait_until(seconds))


def _is_moved(transport: Transport, source: str, target: str) -> bool:
    return read_mount(transport, target) is not None and read_mount(transport, source) is None


def _wait_until(seconds: float) -> Callable[[object, int], bool]:
    """Return a function that waits before the next try; False once so many seconds have passed."""
    ends = time.monotonic() + seconds

    def wait(_last: object, tries: int) -> bool:
        time.sleep(_POLLING.pause(tries))
        return time.monotonic() < ends

    return wait
