"""Merges several manifest files to one tree: maps by key; any other value is replaced."""

from collections.abc import Sequence
from functools import reduce

from skyflowctl.manifest.nodes import YamlNode

# A single value in the form of a map: a later file replaces all of it, because a merge could
# combine two schemes (file and env) in one reference.
_WHOLE_VALUES = frozenset({"credentials", "operator_token", "probe"})
_NAMED_BY_USER = frozenset({"mounts", "roles"})


def merge(roots: Sequence[YamlNode]) -> YamlNode:
    """Return one tree; a later root takes precedence. Values keep their own file and position."""
    return reduce(lambda left, right: _merge(left, right, names_are_free=False), roots)


def _merge(left: YamlNode, right: YamlNode, *, names_are_free: bool) -> YamlNode:
    if not isinstance(left.value, dict) or not isinstance(right.value, dict):
        return right
    merged = dict(left.value)
    for key, value in right.value.items():
        earlier = merged.get(key)
        is_whole = key in _WHOLE_VALUES and not names_are_free
        if earlier is None or is_whole:
            merged[key] = value
        else:
            free = key in _NAMED_BY_USER and not names_are_free
            merged[key] = _merge(earlier, value, names_are_free=free)
    return left._replace(value=merged)
