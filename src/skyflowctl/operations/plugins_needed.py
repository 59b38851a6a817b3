"""Refuses a plan whose engines, login methods or connections the server has no plugin for."""

from collections.abc import Iterator, Sequence

from skyflowctl.errors import InvalidInputError, Problem
from skyflowctl.planner.desired import DesiredObject
from skyflowctl.planner.plan import Action, ActionType, ObjectKind, Plan
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway

_MOUNTED = {ObjectKind.ENGINE: "secret", ObjectKind.LOGIN_METHOD: "auth"}
_NAMES = {"secret": "secrets engine", "auth": "login method", "database": "database plugin"}
_EVERYWHERE = frozenset({("secret", "kv"), ("secret", "database"), ("auth", "approle")})
"""Built into every server. No catalog lists the database engine (measured on OpenBao 2.7.2)."""


def check_plugins(made: Plan, desired: Sequence[DesiredObject], gateway: Gateway) -> None:
    """Ask the server's catalog about what the plan would make; one request, only if needed.

    Raises:
        InvalidInputError: a plugin is not there. If this login may not read the catalog, the server
            decides.
    """
    needed = [
        (path, kind, name)
        for action in made.actions
        for path, kind, name in _needed(action)
        if (kind, name) not in _EVERYWHERE
    ]
    if not needed:
        return
    try:
        there = gateway.sys.catalog.names()
    except ForbiddenError:
        return
    where = {one.path: one.where for one in desired}
    missing = [
        Problem(
            "plugin-not-registered",
            f"the server has no {_NAMES[kind]} {name!r}, which {path} needs",
            f"its plugin catalog has {', '.join(sorted(there[kind])) or 'none'}",
            "take it out of the manifest, or register its plugin on the server first",
            where.get(path),
        )
        for path, kind, name in needed
        if name not in there.get(kind, (name,))
    ]
    if missing:
        raise InvalidInputError.of(missing)


def _needed(action: Action) -> Iterator[tuple[str, str, str]]:
    """Yield path, kind and name of each plugin without which an action fails."""
    if action.kind in _MOUNTED and action.action is ActionType.CREATE:
        yield action.path, _MOUNTED[action.kind], str(action.body["type"])
    if action.kind is ObjectKind.OBJECT and "plugin_name" in action.body["fields"]:
        yield action.path, "database", str(action.body["fields"]["plugin_name"])
