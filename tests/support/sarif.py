"""What SARIF 2.1.0 asks of the logs that we write, written down from the standard.

The official schema is not in this repository. This one is stricter for what we use: it allows no
property that we do not write, and all names and values are those of the official schema.
"""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

_TEXT = {"type": "string", "minLength": 1}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_MESSAGE = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": _TEXT},
    "additionalProperties": False,
}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


_INDEX = {"type": "integer", "minimum": 0}
_TAXONOMY_REFERENCE = _closed(["name", "index"], name=_TEXT, index=_INDEX)
_RELATIONSHIP = _closed(
    ["target", "kinds"],
    target=_closed(
        ["id", "index", "toolComponent"],
        id=_TEXT,
        index=_INDEX,
        toolComponent=_TAXONOMY_REFERENCE,
    ),
    kinds=_list({"const": "relevant"}, minItems=1, uniqueItems=True),
)
_TAXONOMY = _closed(
    ["name", "shortDescription", "taxa"],
    name=_TEXT,
    shortDescription=_MESSAGE,
    taxa=_list(_closed(["id", "shortDescription"], id=_TEXT, shortDescription=_MESSAGE)),
)
_RULE = _closed(
    ["id", "name", "shortDescription", "fullDescription", "defaultConfiguration"],
    id={"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
    name={"type": "string", "pattern": "^[A-Z][A-Za-z0-9]*$"},
    shortDescription=_MESSAGE,
    fullDescription=_MESSAGE,
    help=_MESSAGE,
    defaultConfiguration=_closed(["level"], level=_LEVEL),
    relationships=_list(_RELATIONSHIP, minItems=1, uniqueItems=True),
)
_COUNT = {"type": "integer", "minimum": 1}
_PHYSICAL = _closed(
    ["artifactLocation"],
    artifactLocation=_closed(
        ["uri"],
        # RFC 3986: no blank, no backslash, and no letter outside ASCII.
        uri={"type": "string", "pattern": "^[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]+$"},
    ),
    region=_closed(["startLine"], startLine=_COUNT, startColumn=_COUNT),
)
_LOGICAL = _closed(
    ["name", "fullyQualifiedName"], name=_TEXT, fullyQualifiedName=_TEXT, kind={"const": "resource"}
)
_LOCATION = {
    **_closed([], physicalLocation=_PHYSICAL, logicalLocations=_list(_LOGICAL, minItems=1)),
    "minProperties": 1,
}
_RESULT = {
    **_closed(
        ["ruleId", "ruleIndex", "kind", "level", "message", "locations", "partialFingerprints"],
        ruleId=_TEXT,
        ruleIndex={"type": "integer", "minimum": 0},
        kind={"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
        level=_LEVEL,
        rank={"type": "number", "minimum": 0, "maximum": 100},
        message=_MESSAGE,
        locations=_list(_LOCATION, minItems=1),
        partialFingerprints={"type": "object", "additionalProperties": _TEXT, "minProperties": 1},
        properties={"type": "object"},
    ),
    # 3.27.9 and 3.27.10: a kind other than fail goes with the level none, and fail with another.
    "oneOf": [
        {"properties": {"kind": {"const": "fail"}, "level": {"not": {"const": "none"}}}},
        {"properties": {"kind": {"not": {"const": "fail"}}, "level": {"const": "none"}}},
    ],
}
_NOTIFICATION = _closed(
    ["message"],
    level=_LEVEL,
    message=_MESSAGE,
    associatedRule=_closed(["id", "index"], id=_TEXT, index={"type": "integer", "minimum": 0}),
)
_INVOCATION = _closed(
    ["executionSuccessful"],
    executionSuccessful={"type": "boolean"},
    exitCode={"type": "integer"},
    toolExecutionNotifications=_list(_NOTIFICATION),
)
_DRIVER = _closed(
    ["name", "rules"],
    name=_TEXT,
    semanticVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+([-+].+)?$"},
    rules=_list(_RULE, uniqueItems=True),
    supportedTaxonomies=_list(_TAXONOMY_REFERENCE, minItems=1, uniqueItems=True),
)
_RUN = _closed(
    ["tool", "invocations", "results", "columnKind"],
    tool=_closed(["driver"], driver=_DRIVER),
    taxonomies=_list(_TAXONOMY, minItems=1, uniqueItems=True),
    invocations=_list(_INVOCATION, minItems=1),
    results=_list(_RESULT),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)
SCHEMA = _closed(
    ["$schema", "version", "runs"],
    **{"$schema": {"type": "string", "pattern": "/sarif-schema-2\\.1\\.0\\.json$"}},
    version={"const": "2.1.0"},
    runs=_list(_RUN, minItems=1),
)


def checked_log(text: str) -> dict[str, Any]:
    """Parse a log, hold it to the standard, and return its only run."""
    log = json.loads(text)
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(log)
    (run,) = log["runs"]
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(ids)) == len(ids)
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
    for notification in run["invocations"][0]["toolExecutionNotifications"]:
        rule = notification["associatedRule"]
        assert ids[rule["index"]] == rule["id"]
    prints = [json.dumps(one["partialFingerprints"]) for one in run["results"]]
    assert len(set(prints)) == len(prints)
    return run
