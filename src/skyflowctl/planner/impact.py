"""Which actions of a plan touch what applications use: roles, mounts and credentials."""

from collections.abc import Iterator, Mapping

from skyflowctl.frozen import dataclass
from skyflowctl.planner.plan import Action, ActionType, ObjectKind, Plan, own_path

ROLE, MOUNT, CREDENTIAL = "role", "mount", "credential"

_NO_EFFECT = frozenset({"ctx_probe", "description", "tags", "passthrough_request_headers"})
"""Fields whose change no application notices."""
_NO_EFFECT_PREFIXES = ("options.", "audit_")
_KEY_FIELDS = frozenset({"client_id", "key_id", "server_file"})


@dataclass(frozen=True, slots=True)
class Affected:
    """A role, a mount or a credential that a plan removes or changes.

    Args:
        kind: :data:`ROLE`, :data:`MOUNT` or :data:`CREDENTIAL`.
        action: the action that does it.
        path: of the mount, as it is now.
        roles: the names of the affected roles, as far as the action has them; empty: all of the
            mount's.
    """

    kind: str
    action: Action
    path: str
    roles: tuple[str, ...] = ()


def affected(plan: Plan) -> Iterator[Affected]:
    """Yield what a plan removes or changes for applications, in the plan's order.

    A change of descriptions, tags, marks or audit settings alone is none.
    """
    former = {
        str(one.body["to"]): str(one.body["from"])
        for one in plan.actions
        if one.action is ActionType.MOVE
    }
    for action in plan.actions:
        if action.action is ActionType.CREATE or not _has_effect(action):
            continue
        if action.kind is ObjectKind.ROLE:
            path, _, role = action.path.rpartition("/roles/")
            yield Affected(ROLE, action, former.get(path, path), (role,))
        elif action.kind is ObjectKind.MOUNT:
            yield Affected(MOUNT, action, _mount_path(action, former), _deleted_roles(action))
        elif action.kind is ObjectKind.CONFIG:
            path = action.path.removesuffix("/config")
            yield Affected(CREDENTIAL, action, former.get(path, path))


def _has_effect(action: Action) -> bool:
    if action.action is ActionType.DELETE:
        return True
    names = {one.field for one in action.changes}
    if action.kind is ObjectKind.CONFIG:
        # A credential where there was none takes nothing from anybody.
        return any(one.field in _KEY_FIELDS and one.before for one in action.changes)
    return any(not one.startswith(_NO_EFFECT_PREFIXES) for one in names - _NO_EFFECT)


def _mount_path(action: Action, former: Mapping[str, str]) -> str:
    if action.action is ActionType.MOVE:
        return str(action.body["from"])
    path = own_path(action.path).removesuffix("/tune")
    return former.get(path, path)


def _deleted_roles(action: Action) -> tuple[str, ...]:
    """Return the roles that a deleted mount has."""
    found = [one.before for one in action.changes if one.field == "roles"]
    return tuple(role for roles in found for role in roles or ())
