"""Executes the actions for groups of people: the group first, then its alias."""

from typing import Any

from skyflowctl.errors import RefusedError
from skyflowctl.executor.access_steps import check_written, differing, refuse_if_changed
from skyflowctl.planner import access, fields
from skyflowctl.planner.plan import Action, ActionType
from skyflowctl.vault.system_api import SystemApi


def write_group(action: Action, server: SystemApi) -> None:
    """Create or update a group, and read it back.

    Raises:
        RefusedError: another client changed it after the plan was made, or another group has its
            alias.
        SilentlyIgnoredError: the server accepted the write but not all of its fields.
        VaultError: any other failure.
    """
    found = server.access.object(action.path)
    before = access.live_fields(found) if found is not None else None
    if not differing(action, before):
        return  # an earlier run, or a write whose reply was lost, did this
    if not _was_cut_short(action, before):
        refuse_if_changed(action, before)
    wanted = fields.as_body(action.changes)
    alias = wanted.pop("alias", None)
    kept = (found or {}).get("metadata") or {}
    body = {**wanted, "metadata": {**kept, **wanted.get("metadata", {})}}
    accessor = _accessor(action, server) if alias else ""
    if alias:
        _refuse_taken(action, accessor, str((found or {}).get("id") or ""), server)
    server.access.write(action.path, body)
    if alias:
        group = server.access.object(action.path) or {}
        name = action.body["alias.name"]
        parts = {"name": name, "mount_accessor": accessor, "canonical_id": group.get("id")}
        server.access.write("identity/group-alias", parts)
    now = server.access.object(action.path)
    check_written(action, access.live_fields(now) if now is not None else None)


def _was_cut_short(action: Action, before: dict[str, Any] | None) -> bool:
    """Whether a lost reply or a killed run left the new group without its alias."""
    if action.action is not ActionType.CREATE or before is None:
        return False
    left = differing(action, before)
    return all(name.startswith("alias.") and not before[name] for name in left)


def _accessor(action: Action, server: SystemApi) -> str:
    method = action.body["alias.login_method"]
    found = server.access.login_methods().get(method)
    if found is None:
        raise RefusedError(
            f"{action.path} was not written: the server has no login method {method}",
            why="it was there when the plan was made",
            fix="run the command again and look at the new plan",
            code="object-changed",
        )
    return found.accessor


def _refuse_taken(action: Action, accessor: str, own_id: str, server: SystemApi) -> None:
    """Refuse to take an alias from another group, which the server would allow.

    Raises:
        RefusedError: another group has it.
    """
    name = action.body["alias.name"]
    holder = server.access.group_of_alias(name, accessor)
    if holder and holder.get("id") != own_id:
        raise RefusedError(
            f"{action.path} was not written: the group {holder.get('name')} has the alias {name}",
            why="an alias belongs to one group, whose members would lose its policies",
            fix=f"delete it first:  bao delete identity/group/name/{holder.get('name')}",
            code="alias-taken",
        )
