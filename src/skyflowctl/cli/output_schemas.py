"""The published schemas of the commands' data, used to find a field."""

from collections.abc import Iterator, Mapping
from typing import Any


def field_places(command: str) -> dict[str, str]:
    """Return the fields of a command's data, each with the jq expression that picks it.

    If several fields have one name, the outermost counts. Empty if no schema is published.
    """
    import json
    from pathlib import Path

    package = Path(__file__).resolve().parents[1]
    name = f"{command.replace(' ', '-')}.schema.json"
    # In a wheel next to the code; in an editable install at the repository's top.
    for top in (package, package.parents[1]):
        file = top / "schemas" / "output" / name
        if file.is_file():
            schema = json.loads(file.read_text(encoding="utf-8"))
            return _outermost(_fields(schema, ".data"))
    return {}


def _fields(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """Yield the names and places of all fields below a place."""
    for one in (schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        for name, below in one.get("properties", {}).items():
            yield name, f"{place}.{name}"
            yield from _fields(below, f"{place}.{name}")
        if isinstance(one.get("items"), dict):
            yield from _fields(one["items"], f"{place}[]")
        if one is not schema:
            yield from _fields({"oneOf": one.get("oneOf", ())}, place)


def _outermost(found: Iterator[tuple[str, str]]) -> dict[str, str]:
    places: dict[str, str] = {}
    for name, place in found:
        if name not in places or _depth(place) < _depth(places[name]):
            places[name] = place
    return places


def _depth(place: str) -> int:
    return place.count(".") + place.count("[")
