"""Executes the actions for engines, policies, login methods and login roles."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.errors import RefusedError
from skyflowctl.planner import access, fields
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind
from skyflowctl.vault.errors import BadRequestError, ConflictError, SilentlyIgnoredError
from skyflowctl.vault.live import LiveAccess
from skyflowctl.vault.system_api import SystemApi


def write_access(action: Action, server: SystemApi) -> None:
    """Create or update one object, and read it back.

    Raises:
        RefusedError: another client changed it after the plan was made.
        SilentlyIgnoredError: the server accepted the write but not all of its fields.
        VaultError: any other failure.
    """
    before = _live(action, server)
    if not differing(action, before):
        return  # an earlier run, or a write whose reply was lost, did this
    refuse_if_changed(action, before)
    is_tune = action.kind in _TUNED and action.action is ActionType.UPDATE
    path = f"{action.path}/tune" if is_tune else action.path
    try:
        server.access.write(path, action.body)
    except BadRequestError as error:
        if differing(action, _live(action, server)):
            raise _conflict(action, error) from None
        return
    check_written(action, _live(action, server))


def check_written(action: Action, now: Mapping[str, Any] | None) -> None:
    """Raise if a field that was read back does not have the desired value.

    Raises:
        SilentlyIgnoredError: it does not.
    """
    ignored = differing(action, now)
    if ignored:
        raise ignored_by_server(action, ignored)


def ignored_by_server(action: Action, names: list[str]) -> SilentlyIgnoredError:
    """Return the error about fields that the server accepted and ignored."""
    return SilentlyIgnoredError(
        f"the server accepted and ignored {', '.join(names)}: {action.path}",
        why="the value that was read back differs: this server does not support it, or "
        "another client wrote meanwhile",
        fix="run the command again; if it fails again, remove these fields from the manifest",
        path=action.path,
    )


def _conflict(action: Action, error: BadRequestError) -> BadRequestError | ConflictError:
    if not error.says("check-and-set"):
        return error
    return ConflictError(
        f"{action.path} was not written: another client wrote it meanwhile",
        why="its version is not the one that the plan saw",
        fix="run the command again and look at the new plan",
        path=action.path,
    )


def differing(action: Action, now: Mapping[str, Any] | None) -> list[str]:
    """Return the fields of an action that do not have the desired value."""
    if now is None:
        return [change.field for change in action.changes] or ["the object"]
    return [
        change.field
        for change in _readable(action)
        if not fields.same(change.field, now.get(change.field), change.after)
    ]


def _readable(action: Action) -> list[Change]:
    """Return the changes of fields that the server returns."""
    if not action.is_by_path:
        return list(action.changes)
    return [change for change in action.changes if change.field in action.body["fields"]]


def refuse_if_changed(action: Action, now: Mapping[str, Any] | None) -> None:
    """Refuse to write over a change that the plan did not show.

    Raises:
        RefusedError: a field has neither the value that the plan saw nor the desired one.
    """
    if action.action is ActionType.CREATE:
        moved = ["it exists now"] if now is not None else []
    elif now is None:
        moved = ["it is gone"]
    else:
        moved = [
            change.field
            for change in _readable(action)
            if not fields.same(change.field, now.get(change.field), change.before)
            and not fields.same(change.field, now.get(change.field), change.after)
        ]
    if moved:
        raise RefusedError(
            f"{action.path} is not as the plan showed it: {', '.join(moved)}",
            why="another apply or a manual change wrote it after the plan was made",
            fix="run the command again and look at the new plan",
            code="object-changed",
        )


_TUNED = frozenset({ObjectKind.LOGIN_METHOD, ObjectKind.ENGINE})


def _live(action: Action, server: SystemApi) -> dict[str, Any] | None:
    """Return the live fields of an action's object; None if it does not exist."""
    found = access_object(action, server)
    return None if found is None else access.live_fields(found)


def access_object(action: Action, server: SystemApi) -> access.LiveObject | None:
    """Read the object of an action; None if it does not exist."""
    live = _READS.get(action.kind, _object)(action.path, server)
    return access.live_object(action.kind, action.path, live)


def _engine(path: str, server: SystemApi) -> LiveAccess:
    name = path.removeprefix("sys/mounts/")
    found = server.mount(name)
    return LiveAccess(engines={name: found} if found else {})


def _policy(path: str, server: SystemApi) -> LiveAccess:
    found = server.access.policy(path.rpartition("/")[2])
    return LiveAccess(policies={found.name: found} if found else {})


def _login_method(_path: str, server: SystemApi) -> LiveAccess:
    return LiveAccess(login_methods=server.access.login_methods())


def _object(path: str, server: SystemApi) -> LiveAccess:
    found = server.access.object(path)
    return LiveAccess(objects={path: found} if found is not None else {})


_READS: Mapping[ObjectKind, Callable[[str, SystemApi], LiveAccess]] = {
    ObjectKind.ENGINE: _engine,
    ObjectKind.POLICY: _policy,
    ObjectKind.LOGIN_METHOD: _login_method,
}
