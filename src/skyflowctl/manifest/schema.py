"""Finds the published JSON Schema, and builds the validator from it."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel beside the code; in an editable install at the repository's root.
_FOLDERS = (_PACKAGE / "schemas", _PACKAGE.parents[1] / "schemas")


@cache
def schema_text(name: str = "mounts") -> str:
    """Return a schema as published: the manifest's, or ``saved-plan``."""
    places = [folder / f"{name}.schema.json" for folder in _FOLDERS]
    place = next((place for place in places if place.is_file()), places[0])
    return place.read_text(encoding="utf-8")


def schema_difference(document: Any, name: str) -> str:
    """Return the first place where a document does not fit a published schema; empty: it fits."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(schema_text(name)))
    error = next(validator.iter_errors(document), None)
    return "" if error is None else error.json_path.removeprefix("$.").replace("$", "the file")


@cache
def published_schema() -> dict[str, Any]:
    """Return the schema as published, parsed."""
    schema: dict[str, Any] = json.loads(schema_text())
    return schema


@cache
def inlined_schema() -> dict[str, Any]:
    """Return the schema with every reference inlined (none is recursive).

    Resolving the references again for each value takes a third of jsonschema's time.
    """
    whole = published_schema()
    expanded: dict[str, Any] = _expand(whole, whole["$defs"])
    return expanded


def consumer_rule(kind: str) -> Mapping[str, Any]:
    """Return the schema of a consumer of this type of login method; its references are kept."""
    rule: Mapping[str, Any] = published_schema()["$defs"][f"{kind}_consumer"]
    return rule


def definition_of(reference: str, definitions: Mapping[str, Any]) -> Any:
    """Return the part of the schema that a ``$ref`` names."""
    return reduce(getitem, reference.removeprefix("#/$defs/").split("/"), definitions)


def _expand(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_expand(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    own = {
        key: value if key == "examples" else _expand(value, definitions)
        for key, value in part.items()
        if key not in ("$ref", "$defs")
    }
    if "$ref" in part:
        return {**_expand(definition_of(part["$ref"], definitions), definitions), **own}
    return own


def rule_at(path: tuple[str | int, ...]) -> Mapping[str, Any]:
    """Return the schema's rule for the value at a path; empty if there is no single one."""
    rule: Any = inlined_schema()
    for part in path:
        if isinstance(part, int):
            rule = rule.get("items")
        else:
            rule = rule.get("properties", {}).get(part, rule.get("additionalProperties"))
        if not isinstance(rule, dict):
            return {}
    found: dict[str, Any] = rule
    return found


class Violation(NamedTuple):
    """One place where data breaks the schema.

    Args:
        keyword: the schema keyword that is violated.
        path: the path of the value.
        instance: the value; with ``of_name``, the name of an entry of the value.
        limit: the value of the keyword.
        rule: the schema object that contains the keyword.
        missing: the missing key, for the keyword ``required``.
        of_name: whether it concerns the name of an entry.
    """

    keyword: str
    path: tuple[str | int, ...]
    instance: Any
    limit: Any
    rule: Mapping[str, Any]
    missing: str = ""
    of_name: bool = False


def violations(data: Any) -> Iterator[Violation]:
    """Yield every violation of the schema in the data."""
    for error in _validator().iter_errors(data):
        yield Violation(
            keyword=error.validator,
            path=tuple(error.absolute_path),
            instance=error.instance,
            limit=error.validator_value,
            rule=error.schema,
            # jsonschema reports each missing key as a separate error and names it in the message.
            missing=error.message.split("'")[1] if error.validator == "required" else "",
            of_name="propertyNames" in error.relative_schema_path,
        )


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator, validators

    make: Any = validators.extend  # untyped in the stubs
    return make(Draft202012Validator, {"pattern": _pattern})(_asserted(inlined_schema()))


def _asserted(part: Any) -> Any:
    """Drop the examples: validation visits every keyword, even those without effect."""
    if isinstance(part, dict):
        return {key: _asserted(value) for key, value in part.items() if key != "examples"}
    return part


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # JSON Schema's $ matches only at the end; Python's also before a last newline.
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern, re.ASCII)


def matches(pattern: str, text: str) -> bool:
    """Return whether a text matches a pattern of the schema."""
    return _compiled(pattern).search(text) is not None


def _pattern(_: object, pattern: str, instance: object, rule: object) -> Iterator[Exception]:  # noqa: ARG001 - jsonschema calls it with four
    from jsonschema import ValidationError

    if isinstance(instance, str) and not matches(pattern, instance):
        yield ValidationError("another form")
