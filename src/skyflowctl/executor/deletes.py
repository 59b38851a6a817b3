"""Executes the deletions of a plan, after everything else, and each one only as it was planned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skyflowctl.errors import PartlyDoneError, Problem, RefusedError
from skyflowctl.executor.access_steps import access_object
from skyflowctl.executor.events import ActionSkipped, ApplyListener
from skyflowctl.executor.outcome import ActionResult, ActionStatus, ApplyOutcome
from skyflowctl.planner import fields
from skyflowctl.planner.plan import Action, ObjectKind, Plan
from skyflowctl.planner.prune import mount_deletion, object_path, role_deletion
from skyflowctl.planner.prune_access import access_deletion
from skyflowctl.planner.prune_namespaces import not_empty
from skyflowctl.vault.errors import ForbiddenError, NotFoundError, PluginMissingError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.kv import is_kv2
from skyflowctl.vault.live import LiveAccess, LiveMount


def without_deletes(plan: Plan) -> Plan:
    """Return the plan's other actions, which are carried out first."""
    deletes = set(map(id, plan.deletes))
    return replace(plan, actions=tuple(one for one in plan.actions if id(one) not in deletes))


def carry_out_deletes(
    plan: Plan,
    outcome: ApplyOutcome,
    execute: Callable[[Plan], ApplyOutcome],
    on_event: ApplyListener | None = None,
    *,
    reason: Problem | None = None,
) -> ApplyOutcome:
    """Carry out a plan's deletions in reverse order of the stages, and return the whole outcome.

    None is begun if another action is not done. A stage is not begun if an earlier one failed.

    Args:
        plan: the plan.
        outcome: the outcome of its other actions.
        execute: carries out a part of the plan.
        on_event: gets an event for each deletion that is not begun.
        reason: why none may be begun, although every action is done.
    """
    results = list(outcome.results)
    interrupted = outcome.interrupted
    for kind in reversed(ObjectKind):
        stage = tuple(one for one in plan.deletes if one.kind is kind)
        problem = reason or (_not_done(results) if stage else None)
        if problem is None:
            part = execute(replace(plan, actions=stage, settings={})) if stage else None
            results += part.results if part else ()
            interrupted = interrupted or (part is not None and part.interrupted)
            continue
        for action in stage:
            results.append(ActionResult(action, _not_begun(results), problem=problem))
            if on_event:
                on_event(ActionSkipped(action, problem))
    return replace(outcome, results=tuple(results), interrupted=interrupted)


def _not_done(results: Sequence[ActionResult]) -> Problem | None:
    left = [one for one in results if one.result != "done"]
    if not left:
        return None
    return Problem(
        "deletes-not-begun",
        f"nothing is deleted after {left[0].action.path}, which is {left[0].result}",
        "deletions begin only after everything else is done",
        "fix what the other messages name, then run the same command again",
    )


def _not_begun(results: Sequence[ActionResult]) -> ActionStatus:
    """Return ``waiting`` if only approvals are missing, else ``skipped``."""
    words = {one.result for one in results}
    held = words & {"pending", "waiting"} and not words & {"failed", "skipped"}
    return "waiting" if held else "skipped"


def delete_object(action: Action, gateway: Gateway) -> None:
    """Delete one object if it is as the plan showed it; a missing one is already deleted.

    A DELETE has no check-and-set, so the object is read right before it, and again after it.

    Raises:
        RefusedError: another client changed the object after the plan was made.
        PartlyDoneError: the server accepted the deletion, and the object still exists.
    """
    now = _live(action, gateway)
    if now is None:
        return
    _refuse_if_changed(action, now)
    _DELETES[action.kind](action, gateway)
    if _live(action, gateway) is not None:
        raise PartlyDoneError(
            f"{object_path(action)} still exists after it was deleted",
            why="the server accepted the deletion; another client may have created it anew",
            fix="run the command again and look at the new plan",
            code="not-deleted",
        )


def _refuse_if_changed(action: Action, now: Action) -> None:
    before = {change.field: change.before for change in action.changes}
    after = {change.field: change.before for change in now.changes}
    moved = [
        name
        for name in sorted({*before, *after})
        if not fields.same(name, before.get(name), after.get(name))
    ]
    if not moved and action.cas != now.cas:
        moved = ["version"]
    if moved:
        raise RefusedError(
            f"{object_path(action)} is not as the plan showed it: {', '.join(moved)}",
            why="another apply or a manual change wrote it after the plan was made",
            fix="run the command again and look at the new plan",
            code="object-changed",
        )


def _live(action: Action, gateway: Gateway) -> Action | None:
    """Return the deletion of the object as it is now; None if it does not exist."""
    return _READS[action.kind](action, gateway)


def _role(action: Action, gateway: Gateway) -> Action | None:
    path, _, name = action.path.partition("/roles/")
    found = gateway.engine(path).role(name)
    return role_deletion(action.mount, path, found) if found else None


def _mount(action: Action, gateway: Gateway) -> Action | None:
    path = object_path(action)
    found = gateway.sys.mount(path)
    if found is None:
        return None
    return readable_mount_deletion(found, gateway)


def readable_mount_deletion(mount: LiveMount, gateway: Gateway) -> Action:
    """Return the deletion of a mount, without its contents if they cannot be read."""
    engine = gateway.engine(mount.path)
    try:
        return mount_deletion(mount, engine.roles(), engine.config())
    except (ForbiddenError, NotFoundError, PluginMissingError):
        return mount_deletion(mount, (), None)


def _delete_role(action: Action, gateway: Gateway) -> None:
    path, _, name = action.path.partition("/roles/")
    gateway.engine(path).delete_role(name)


def _delete_mount(action: Action, gateway: Gateway) -> None:
    gateway.sys.disable_mount(object_path(action))


def _access(action: Action, gateway: Gateway) -> Action | None:
    found = access_object(action, gateway.sys)
    return access_deletion(action.kind, action.path, found) if found is not None else None


def _delete_access(action: Action, gateway: Gateway) -> None:
    gateway.sys.access.delete(action.path)


def _engine(action: Action, gateway: Gateway) -> Action | None:
    path = object_path(action)
    found = gateway.sys.mount(path)
    if found is None:
        return None
    stored = gateway.sys.access.kv.secrets(path) if is_kv2(found) else {}
    return access_deletion(action.kind, action.path, found, LiveAccess(secrets=stored))


def _delete_namespace(action: Action, gateway: Gateway) -> None:
    """Delete a namespace if it still is empty, because the server deletes its contents too."""
    left = gateway.sys.namespace_contents(action.path)
    if left:
        raise RefusedError.of((not_empty(action.path, left),))
    gateway.sys.delete_namespace(action.path)


def _secret(action: Action, gateway: Gateway) -> Action | None:
    found = gateway.sys.access.kv.secret(action.body["engine"], action.body["path"])
    return access_deletion(action.kind, action.path, found) if found else None


def _delete_secret(action: Action, gateway: Gateway) -> None:
    gateway.sys.access.kv.delete(action.body["engine"], action.body["path"])


_ACCESS = (
    ObjectKind.POLICY,
    ObjectKind.LOGIN_METHOD,
    ObjectKind.LOGIN_ROLE,
    ObjectKind.GROUP,
    ObjectKind.QUOTA,
    ObjectKind.NAMESPACE,
)
_READS: Mapping[ObjectKind, Callable[[Action, Gateway], Action | None]] = {
    ObjectKind.ROLE: _role,
    ObjectKind.MOUNT: _mount,
    ObjectKind.ENGINE: _engine,
    ObjectKind.SECRET: _secret,
    **dict.fromkeys(_ACCESS, _access),
}
_DELETES: Mapping[ObjectKind, Callable[[Action, Gateway], Any]] = {
    ObjectKind.ROLE: _delete_role,
    ObjectKind.MOUNT: _delete_mount,
    ObjectKind.ENGINE: _delete_mount,
    ObjectKind.SECRET: _delete_secret,
    **dict.fromkeys(_ACCESS, _delete_access),
    ObjectKind.NAMESPACE: _delete_namespace,
}
