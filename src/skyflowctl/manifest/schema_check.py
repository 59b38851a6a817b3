"""Decides whether data fits the published schema.

jsonschema, which explains what is wrong, takes longer to import than a small command takes to run;
a valid manifest never needs it. A property test holds both to the same answers.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Sized
from functools import cache
from typing import Any, TypeAlias

from skyflowctl.manifest.schema import definition_of, matches, published_schema

_Check: TypeAlias = Callable[[Any], bool]
"""Returns whether a value fits one part of the schema."""

_NOTES = frozenset({"$schema", "$id", "$defs", "title", "description", "examples"})
"""Keywords that only describe."""


def fits_schema(data: Any) -> bool:
    """Return whether plain data of a manifest fits the schema."""
    return _whole_check()(data)


@cache
def _whole_check() -> _Check:
    return compile_check(published_schema())


def compile_check(schema: Mapping[str, Any]) -> _Check:
    """Return the check for a schema whose references lead to its own ``$defs``.

    Raises:
        ValueError: the schema uses a keyword that has no check here.
    """
    return _Compiler(schema.get("$defs", {})).check(schema)


class _Compiler:
    """Makes a function of each part of a schema; a part that is referenced is made once."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._referenced: dict[str, _Check] = {}

    def check(self, rule: Any) -> _Check:
        if isinstance(rule, bool):
            return lambda _: rule
        checks = [self._keyword(keyword, rule) for keyword in rule if keyword not in _NOTES]
        return checks[0] if len(checks) == 1 else _every(checks)

    def _keyword(self, keyword: str, rule: Mapping[str, Any]) -> _Check:
        limit = rule[keyword]
        if keyword in _PLAIN:
            return _PLAIN[keyword](limit)
        if keyword == "$ref":
            return self._reference(limit)
        if keyword == "properties":
            return _properties({name: self.check(one) for name, one in limit.items()})
        if keyword == "additionalProperties":
            return _other_properties(frozenset(rule.get("properties", ())), self.check(limit))
        if keyword == "anyOf":
            return _any([self.check(one) for one in limit])
        if keyword not in _OF_ONE_CHECK:
            message = f"the schema's keyword {keyword} has no check"
            raise ValueError(message)
        return _OF_ONE_CHECK[keyword](self.check(limit))

    def _reference(self, target: str) -> _Check:
        if target not in self._referenced:
            self._referenced[target] = self.check(definition_of(target, self._definitions))
        return self._referenced[target]


def _every(checks: Sequence[_Check]) -> _Check:
    def check(value: Any) -> bool:
        for one in checks:  # noqa: SIM110 - all() with a generator takes longer
            if not one(value):
                return False
        return True

    return check


def _any(checks: Sequence[_Check]) -> _Check:
    return lambda value: any(one(value) for one in checks)


# -- keywords with a plain value --


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float  # not isinstance: a bool is an int


def _is_integer(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


_TYPES: Mapping[str, _Check] = {
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "number": _is_number,
    "integer": _is_integer,
}


def _type(names: str | Sequence[str]) -> _Check:
    if isinstance(names, str):
        return _TYPES[names]
    return _any([_TYPES[name] for name in names])


def _pattern(pattern: str) -> _Check:
    return lambda value: not isinstance(value, str) or matches(pattern, value)


def _enum(options: Iterable[Any]) -> _Check:
    allowed = frozenset(map(_identity, options))
    return lambda value: _identity(value) in allowed


def _identity(value: Any) -> Hashable:
    """Return what equals only that of an equal value: JSON tells 1 from true, but not from 1.0."""
    if isinstance(value, list):
        return (list, *map(_identity, value))
    if isinstance(value, dict):
        return frozenset((key, _identity(one)) for key, one in value.items())
    return isinstance(value, bool), value


def _unique(wanted: bool) -> _Check:
    return lambda value: (
        not wanted
        or not isinstance(value, list)
        or len({_identity(one) for one in value}) == len(value)
    )


def _required(names: Sequence[str]) -> _Check:
    return lambda value: not isinstance(value, dict) or all(name in value for name in names)


def _at_least(kind: type[Sized]) -> Callable[[int], _Check]:
    return lambda limit: lambda value: not isinstance(value, kind) or len(value) >= limit


def _at_most(kind: type[Sized]) -> Callable[[int], _Check]:
    return lambda limit: lambda value: not isinstance(value, kind) or len(value) <= limit


_PLAIN: Mapping[str, Callable[[Any], _Check]] = {
    "type": _type,
    "pattern": _pattern,
    "enum": _enum,
    "const": lambda only: _enum([only]),
    "uniqueItems": _unique,
    "required": _required,
    "minimum": lambda limit: lambda value: not (_is_number(value) and value < limit),
    "maximum": lambda limit: lambda value: not (_is_number(value) and value > limit),
    "minLength": _at_least(str),
    "maxLength": _at_most(str),
    "minItems": _at_least(list),
    "maxItems": _at_most(list),
    "minProperties": _at_least(dict),
    "maxProperties": _at_most(dict),
}


# -- keywords with a schema --


def _properties(checks: Mapping[str, _Check]) -> _Check:
    def check(value: Any) -> bool:
        if isinstance(value, dict):
            for name, one in value.items():
                if name in checks and not checks[name](one):
                    return False
        return True

    return check


def _other_properties(named: frozenset[str], other: _Check) -> _Check:
    return lambda value: (
        not isinstance(value, dict)
        or all(name in named or other(one) for name, one in value.items())
    )


_OF_ONE_CHECK: Mapping[str, Callable[[_Check], _Check]] = {
    "items": lambda item: lambda value: not isinstance(value, list) or all(map(item, value)),
    "propertyNames": lambda name: (
        lambda value: not isinstance(value, dict) or all(map(name, value))
    ),
    "not": lambda other: lambda value: not other(value),
}
