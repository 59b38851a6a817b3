"""Mounts an engine and changes its settings; each request is read back.

After a lost reply the mount is read: it is ours if it equals what was sent.
"""

from collections.abc import Mapping
from typing import Any

from skyflowctl.vault import decode
from skyflowctl.vault.errors import (
    BadRequestError,
    OutcomeUnknownError,
    PathInUseError,
    SilentlyIgnoredError,
)
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.transport import Request, Transport


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
