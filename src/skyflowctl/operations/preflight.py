"""What a login must be allowed to do to carry out a plan."""

from collections.abc import Callable, Iterator, Mapping

from skyflowctl.errors import Problem
from skyflowctl.executor.steps import action_mount_path
from skyflowctl.operations.plan import PlanResult
from skyflowctl.operations.upgrade.plan import upgrade_needs
from skyflowctl.planner.plan import Action, ActionType, ObjectKind
from skyflowctl.vault.audit_devices import AUDIT_DEVICES
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.permissions import (
    ANY_WRITE,
    SERVERS_OWN,
    Need,
    permission_problems,
    refuse_without_permission,
)

_READ, _UPDATE, _CREATE, _PATCH = "read", "update", "create", "patch"
_DELETE, _LIST = "delete", "list"
_PLAN = "the plan"


def refuse_unpermitted(planned: PlanResult, gateway: Gateway) -> tuple[Problem, ...]:
    """Refuse a plan that this login may not carry out as a whole; an empty one is not asked about.

    Returns:
        A warning if the login may not ask what it may do.

    Raises:
        NotPermittedError: permissions are missing.
    """
    return refuse_without_permission(gateway, _needs(planned), _PLAN)


def plan_permission_problems(planned: PlanResult, gateway: Gateway) -> tuple[Problem, ...]:
    """Return what this login lacks for a plan, or why that is unknown, as at most one problem."""
    return tuple(permission_problems(gateway, {_PLAN: list(_needs(planned))}).values())


def _needs(planned: PlanResult) -> Iterator[Need]:
    for action in planned.plan.actions:
        if action.action is ActionType.DELETE:
            yield from _deletion(action)
        elif action.action is ActionType.PLUGIN_UPGRADE:
            yield from upgrade_needs(planned.manifest.plugin.name, [action_mount_path(action)])
        elif action.kind is ObjectKind.CONFIG:
            yield from _config(action, planned)
        elif action.is_by_path:
            yield from _by_its_path(action)
        else:
            yield from _NEEDS[action.kind](action)


def _deletion(action: Action) -> Iterator[Need]:
    """The object is read before and after; only its metadata is deleted of a secret."""
    path = action.path
    if action.kind is ObjectKind.SECRET:
        path = f"{action.body['engine']}/metadata/{action.body['path']}"
    yield path, _DELETE
    if action.kind is ObjectKind.LOGIN_METHOD:
        yield "sys/auth", _READ
    else:
        yield path, _READ


def _header(action: Action) -> Iterator[Need]:
    yield action.path, _UPDATE


def _device(action: Action) -> Iterator[Need]:
    yield AUDIT_DEVICES, _READ
    yield action.path, _UPDATE


def _mount(action: Action) -> Iterator[Need]:
    path = f"sys/mounts/{action_mount_path(action)}"
    yield path, _READ
    if action.action is ActionType.CREATE:
        yield path, _UPDATE
        return
    if action.action is ActionType.MOVE:
        former, new = action.body["from"], action.body["to"]
        yield "sys/remount", _UPDATE
        yield f"sys/mounts/{former}", _READ
        for one in (former, new):
            yield f"{one}/config", _READ
            yield f"{one}/roles/", _LIST
        return
    yield f"{path}/tune", _UPDATE


def _role(action: Action) -> Iterator[Need]:
    yield action.path, _CREATE if action.action is ActionType.CREATE else _UPDATE


def _config(action: Action, planned: PlanResult) -> Iterator[Need]:
    live = planned.live.engines.get(action_mount_path(action))
    if live is not None and live.config.configured:
        yield action.path, _UPDATE
    else:  # without an engine, the plan creates the mount: one of ours tells new from changed
        yield action.path, _CREATE if live is None or live.config.api.name == "full" else ANY_WRITE
    if action.action is not ActionType.REPLACE_CREDENTIAL:
        return
    yield action.path, _READ
    if live is not None and live.config.api.has("verify"):
        for step in ("verify", "commit", "rollback"):  # a rotation that fails is rolled back
            yield f"{action.path}/{step}", _UPDATE


def _tuned(action: Action) -> Iterator[Need]:
    """An engine or a login method."""
    new = action.action is ActionType.CREATE
    yield action.path if new else f"{action.path}/tune", _UPDATE
    yield "sys/auth" if action.kind is ObjectKind.LOGIN_METHOD else action.path, _READ


def _written(action: Action) -> Iterator[Need]:
    yield action.path, _READ
    yield action.path, _writes(action)


def _writes(action: Action) -> str:
    """The server's own paths know no ``create``; of the others, only some do."""
    exact = action.action is not ActionType.CREATE or action.path.startswith(SERVERS_OWN)
    return _UPDATE if exact else ANY_WRITE


def _group(action: Action) -> Iterator[Need]:
    yield from _written(action)
    if any(change.field.startswith("alias") and change.after for change in action.changes):
        yield "sys/auth", _READ
        yield "identity/lookup/group", _UPDATE
        yield "identity/group-alias", _UPDATE


def _secret(action: Action) -> Iterator[Need]:
    body = action.body
    marks, new = f"{body['engine']}/metadata/{body['path']}", action.action is ActionType.CREATE
    yield marks, _READ
    if body["custom_metadata"]:
        yield marks, ANY_WRITE if new else _PATCH
    if body["data"]:
        # The metadata was written just before: to the server, the secret is no longer new.
        first = _UPDATE if new and body["custom_metadata"] else ANY_WRITE
        yield action.path, _PATCH if action.cas else first


def _by_its_path(action: Action) -> Iterator[Need]:
    body = action.body
    if body["once"] or body["fields"]:
        yield body["read_path"], _READ
    if action.kind is ObjectKind.NAMESPACE:
        yield action.path, _UPDATE if action.action is ActionType.CREATE else _PATCH
    elif not body["once"] or action.action is ActionType.CREATE:
        yield action.path, _writes(action)
    if body["options"]:
        yield f"{body['owner']}/tune", _UPDATE
    signer = body["fields"].get("signed_by")
    if signer:
        yield f"{signer}/root/sign-intermediate", ANY_WRITE
        yield f"{action.path.partition('/intermediate/')[0]}/intermediate/set-signed", ANY_WRITE


_NEEDS: Mapping[ObjectKind, Callable[[Action], Iterator[Need]]] = {
    ObjectKind.AUDIT_DEVICE: _device,
    ObjectKind.AUDITED_HEADER: _header,
    ObjectKind.MOUNT: _mount,
    ObjectKind.ROLE: _role,
    ObjectKind.ENGINE: _tuned,
    ObjectKind.LOGIN_METHOD: _tuned,
    ObjectKind.SECRET: _secret,
    ObjectKind.POLICY: _written,
    ObjectKind.LOGIN_ROLE: _written,
    ObjectKind.GROUP: _group,
}
