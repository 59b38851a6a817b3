"""Whether a decoded record holds what its fields are declared to hold."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@cache
def _hints(record: type) -> Mapping[str, Any]:
    return get_type_hints(record)


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a declared type, down to the fields of a dataclass."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(one, get_args(hint)[0]) for one in value)
    if hint in (int, bool):
        return type(value) is hint  # True is an int to Python, and no number here
    return isinstance(value, origin or hint) and (not is_dataclass(value) or _fields_fit(value))


def _fields_fit(record: Any) -> bool:
    kind: type = type(record)
    return all(fits(getattr(record, name), hint) for name, hint in _hints(kind).items())
