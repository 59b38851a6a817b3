"""Moves a mount, and checks that it is the same afterwards."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.errors import PartlyDoneError, Problem
from skyflowctl.planner import fields
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.gateway import Gateway

_AGAIN = "then run the same command again: it does the rest at the new path"


def move_mount(former: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:
    """Move a mount, and compare its settings, config and roles before and after.

    Returns:
        A warning if the mount does not serve afterwards.

    Raises:
        PartlyDoneError: it was moved, and it is not the same, or cannot be read.
        VaultError: it was not moved.
    """
    before = _content(gateway, former)
    gateway.sys.move_mount(former, path)
    try:
        after = _content(gateway, path)
    except VaultError as error:
        cause = error.problems[0]
        raise PartlyDoneError(
            f"{former} was moved to {path}, and cannot be read there",
            why=f"{cause.summary}: {cause.why}" if cause.why else cause.summary,
            fix=f"allow this login to read {path}/config and {path}/roles, {_AGAIN}",
            code="moved-unread",
        ) from error
    changed = sorted(name for name in before if before[name] != after.get(name))
    if changed:
        raise PartlyDoneError(
            f"{former} was moved to {path}, and is not the same there: {', '.join(changed)}",
            why="another client wrote it meanwhile, or the server did not move all of it",
            fix=f"compare 'skyflowctl mount show {path}' with what is expected, {_AGAIN}",
            code="moved-changed",
        )
    return _unhealthy(path, gateway) if after["configured"] else ()


def _content(gateway: Gateway, path: str) -> Mapping[str, Any]:
    """Return what must not change with the path; empty if nothing is mounted there."""
    mount = gateway.sys.mount(path)
    if mount is None:
        return {}
    config = gateway.engine(path).config()
    return {
        **fields.live_mount(mount),
        "type": mount.type,
        "configured": config.configured,
        "key_id": config.key_id,
        "config version": config.version,
        "credential version": config.credential_version,
        "roles": gateway.engine(path).roles(),
    }


def _unhealthy(path: str, gateway: Gateway) -> tuple[Problem, ...]:
    """Return a warning if the mount's health is not good right after the move."""
    try:
        state = gateway.engine(path).health(refresh=True).state
    except VaultError as error:
        state = error.problems[0].summary
    if state in {"ok", "unproven"}:
        return ()
    return (
        Problem(
            "moved-unhealthy",
            f"{path} was moved, and is not healthy: {state}",
            "its config and its roles are the same as before",
            f"'skyflowctl health {path}' asks again and shows the reason",
        ),
    )
