"""Long lines cut down before anything of them is kept."""

from typing import Any

import msgspec

from skyflowctl.audit.entries import Entry

LONG_LINE_BYTES = 16 << 10
"""Entries of longer lines are cut. A real one with the largest ctx has about 4 KB."""
TEXT_MAX = 1024
"""What is kept of a text: the longest real one is an error message of a few hundred."""
ITEMS_MAX = 64


def clipped(entry: Entry) -> Entry:
    """Return the entry with every text cut to what a real one can hold."""
    _cut(entry)
    return entry


def _cut(value: msgspec.Struct) -> None:
    for name in value.__struct_fields__:
        setattr(value, name, _any(getattr(value, name)))


def _any(value: Any) -> Any:
    if isinstance(value, str):
        return value[:TEXT_MAX]
    if isinstance(value, msgspec.Struct):
        _cut(value)
        return value
    if isinstance(value, list):
        return [_any(each) for each in value[:ITEMS_MAX]]
    if isinstance(value, dict):
        return _mapping(value)
    return value


def _mapping(value: dict[Any, Any]) -> Any:
    """Cut metadata; a ctx that is no flat object of a sane size becomes its text's start."""
    flat = all(not isinstance(each, (dict, list)) for each in value.values())
    if flat and len(value) <= ITEMS_MAX:
        return {key[:TEXT_MAX]: _any(each) for key, each in value.items()}
    if not flat:
        return msgspec.json.encode(value).decode(errors="replace")[:TEXT_MAX]
    return dict(list(value.items())[:ITEMS_MAX])
