"""Help texts and the OpenAPI document, both from the declared routes."""

from typing import Any

from skyflowctl.engine.contract import Operation
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.routing import Match, PathOperation, Route, Router
from skyflowctl.version import semver

_SCHEMAS: dict[FieldType, dict[str, Any]] = {
    FieldType.TEXT: {"type": "string"},
    FieldType.SECRET: {"type": "string", "format": "password", "writeOnly": True},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.INTEGER: {"type": "integer", "minimum": 0},
    FieldType.DURATION: {"type": "integer", "minimum": 0, "format": "seconds"},
    FieldType.TEXTS: {"type": "array", "items": {"type": "string"}},
    FieldType.CTX: {
        "oneOf": [
            {"type": "string"},
            {
                "type": "object",
                "additionalProperties": {
                    "oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]
                },
            },
        ]
    },
}
_METHODS = {
    Operation.READ: "get",
    Operation.LIST: "get",
    Operation.UPDATE: "post",
    Operation.DELETE: "delete",
}
_OVERVIEW = """\
The skyflow secrets engine mints Skyflow bearer tokens. A mount stores one service-account
credential (config). Each role names one Skyflow role. Read creds/<role> to get a token;
write data tokens to sign/<role> to get them signed."""


def help_reply(router: Router, match: Match | None) -> dict[str, Any]:
    """Return the answer to a help request for one path, or for the mount (None)."""
    routes = (match.route,) if match else router.routes
    text = _path_text(match.route) if match else _overview(router)
    return {"help": text, "see_also": [], "openapi": openapi(routes)}


def openapi(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the OpenAPI 3.0.2 document of these routes; its paths are relative to the mount."""
    paths: dict[str, Any] = {}
    for route in routes:
        for operation, action in route.actions.items():
            slash = "/" if operation is Operation.LIST else ""
            item = paths.setdefault(f"/{route.template}{slash}", _path_item(route))
            item[_METHODS[operation]] = _operation(route, operation, action)
    return {
        "openapi": "3.0.2",
        "info": {
            "title": "skyflow secrets engine",
            "description": "Mints Skyflow bearer tokens.",
            "version": semver().removeprefix("v"),
            "license": {"name": "Apache-2.0"},
        },
        "paths": paths,
    }


def _path_item(route: Route) -> dict[str, Any]:
    item: dict[str, Any] = {"description": route.summary}
    if route.variable:
        parameter = {
            "name": route.variable,
            "in": "path",
            "required": True,
            "description": route.segment,
            "schema": {"type": "string"},
        }
        item["parameters"] = [parameter]
    return item


def _operation(route: Route, operation: Operation, action: PathOperation) -> dict[str, Any]:
    words = route.template.replace("{", "").replace("}", "").split("/")
    described: dict[str, Any] = {
        "summary": action.summary,
        "operationId": "-".join(["skyflow", operation.value, *words]),
        "tags": ["secrets"],
        "responses": {"200": {"description": "OK"}},
    }
    if operation is Operation.UPDATE:
        if action.fields:
            described["requestBody"] = _body(action)
    elif action.fields:
        described["parameters"] = [_parameter(field) for field in action.fields]
    return described


def _body(action: PathOperation) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: _schema(field) for field in action.fields},
    }
    required = [field.name for field in action.fields if field.required]
    if required:
        schema["required"] = required
    return {"content": {"application/json": {"schema": schema}}}


def _parameter(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "in": "query",
        "description": field.description,
        "required": field.required,
        # A query has no objects.
        "schema": {"type": "string"} if field.kind is FieldType.CTX else dict(_SCHEMAS[field.kind]),
    }


def _schema(field: Field) -> dict[str, Any]:
    default = {} if field.default is None else {"default": field.default}
    return {**_SCHEMAS[field.kind], "description": field.description, **default}


def _overview(router: Router) -> str:
    width = max(len(route.template) for route in router.routes)
    lines = [f"    {route.template:<{width}}  {route.summary}" for route in router.routes]
    return "\n".join([_OVERVIEW, "", "PATHS", "", *lines, ""])


def _path_text(route: Route) -> str:
    blocks = [route.template, "", route.summary, "", route.description]
    for operation, action in route.actions.items():
        word = "write" if operation is Operation.UPDATE else operation.value
        blocks += ["", f"{word.upper()}: {action.summary}"]
        for field in action.fields:
            blocks += ["", f"    {field.name} ({_note(field)})", f"        {field.description}"]
    return "\n".join([*blocks, ""])


def _note(field: Field) -> str:
    notes = [{"texts": "list of strings", "ctx": "string or object"}.get(field.kind, field.kind)]
    if field.required:
        notes.append("required")
    if field.default is not None:
        notes.append(f"default: {str(field.default).lower()}")
    return ", ".join(notes)
