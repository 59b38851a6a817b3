"""Which paths a mount has, and which operations each answers.

A route is declared with its fields and its texts; matching a request, the help and the
OpenAPI document all read the same declaration.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from skyflowctl.engine.contract import EngineError, EngineReply, EngineRequest, Operation
from skyflowctl.engine.fields import Field, FieldType, parse_fields
from skyflowctl.engine.names import FOREIGN_NAME, NAME, NAME_RULE
from skyflowctl.frozen import dataclass

NUMBER = re.compile(r"[1-9][0-9]{0,8}")

_BAD_SEGMENT = {
    "name": NAME_RULE,
    "version": "a version is a number from 1",
}
_FORMS = {"name": NAME, "version": NUMBER}
_DELETABLE = {**_FORMS, "name": FOREIGN_NAME}

PAGE_FIELDS = (
    Field("list", FieldType.BOOLEAN, "Set by the server for a list request; has no effect."),
    Field("after", FieldType.TEXT, "Start after this key."),
    Field("limit", FieldType.INTEGER, "At most this many keys; 0 means all."),
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was understood.

    Args:
        request: as it came.
        values: the fields that were given, parsed, and the defaults of others.
        segment: the variable part of the path (a role's name, a version), or empty.
    """

    request: EngineRequest
    values: Mapping[str, Any]
    segment: str = ""


Handler = Callable[[Call], Awaitable[EngineReply]]


@dataclass(frozen=True, slots=True)
class PathOperation:
    """One operation of a path: who answers it, what it takes, what it is for."""

    handler: Handler
    summary: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One path of a mount.

    Args:
        template: such as ``roles/{name}``; at most one variable part, the last.
        summary: what the path is, in one line.
        description: the longer help.
        actions: by operation; a write is declared once, as ``UPDATE``.
        segment: what the variable part means, for help.
    """

    template: str
    summary: str
    description: str
    actions: Mapping[Operation, PathOperation]
    segment: str = ""

    @property
    def variable(self) -> str:
        """The name of the variable part, or empty."""
        _, brace, rest = self.template.partition("{")
        return rest.removesuffix("}") if brace else ""


@dataclass(frozen=True, slots=True)
class Match:
    """A route and the path's variable part."""

    route: Route
    segment: str = ""


class Router:
    """All routes of a mount."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        # A fixed path by itself, a variable one by the folder of its last part.
        self._fixed = {route.template: route for route in self.routes if not route.variable}
        self._variable = {
            route.template.partition("{")[0]: route for route in self.routes if route.variable
        }

    def match(self, path: str, *, deleting: bool = False) -> Match:
        """Return the route of a path, its variable part checked; never folded.

        What another engine left may be deleted under a name that this engine does not accept.

        Raises:
            EngineError: 404 for a path that no route has, 400 for a bad name.
        """
        route = self._fixed.get(path)
        if route is not None:
            return Match(route)
        folder, slash, segment = path.rpartition("/")
        route = self._variable.get(folder + slash)
        if route is None or not segment:
            raise EngineError(404, "unsupported path")
        forms = _DELETABLE if deleting else _FORMS
        if not forms[route.variable].fullmatch(segment):
            raise EngineError(400, _BAD_SEGMENT[route.variable])
        return Match(route, segment)

    def resolve(self, request: EngineRequest) -> tuple[PathOperation, Call]:
        """Return who answers a request, and the request understood.

        Raises:
            EngineError: 404 or 405 for what does not exist, 400 for bad fields.
        """
        operation = request.operation
        # Only lists may end in a slash: another path than the policy's must not pass for it.
        listed = operation is Operation.LIST
        deleting = operation is Operation.DELETE
        path = request.path.removesuffix("/") if listed else request.path
        match = self.match(path, deleting=deleting)
        if operation is Operation.CREATE:
            operation = Operation.UPDATE
        action = match.route.actions.get(operation)
        if action is None:
            raise EngineError(405, "unsupported operation")
        # Only a write has a body; parameters of all others come as text.
        query = operation is not Operation.UPDATE
        values = parse_fields(action.fields, request.data, query=query)
        return action, Call(request, values, match.segment)


def page(keys: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """Return the keys that a list request asks for by ``after`` and ``limit``."""
    after, limit = values.get("after", ""), values.get("limit", 0)
    chosen = [key for key in keys if key > after]
    return chosen[:limit] if limit else chosen
