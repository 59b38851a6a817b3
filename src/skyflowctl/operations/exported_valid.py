"""Takes out of an exported manifest what ``validate`` would refuse, and names each part."""

from collections.abc import Callable
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.manifest.load import text_problems
from skyflowctl.operations.exported_objects import BY_HAND
from skyflowctl.operations.exported_settings import Warn

_Keys = tuple[str, ...]
_DEPTHS = {
    "audit_devices": 2,
    "auth": 4,
    "engines": 4,
    "groups": 2,
    "namespaces": 2,
    "policies": 2,
    "quotas": 2,
}
"""By section: how many keys lead to an entry that is left out as a whole."""
_CONSUMER = 7
_ENTRY = 4


def valid_parts(data: dict[str, Any], text: Callable[[], str], warn: Warn) -> None:
    """Remove every entry that has a problem from ``data``, until none is left.

    What is removed can make others invalid: a role of a connection. Problems of a mount are left.
    """
    while True:
        taken = {keys: one for one in text_problems(text()) if (keys := _entry(one))}
        removed = [_taken_out(data, keys, one, warn) for keys, one in taken.items()]
        if not any(removed):
            return


def _entry(problem: Problem) -> _Keys:
    """Return the keys of the smallest part that can be left out; empty: there is none."""
    pointer = (problem.where and problem.where.pointer) or ""
    keys = tuple(one.replace("~1", "/").replace("~0", "~") for one in pointer.split("/")[1:])
    if keys[:1] == ("mounts",) and keys[4:5] == ("consumers",) and len(keys) >= _CONSUMER:
        return keys[:_CONSUMER]
    return keys[: _DEPTHS.get(keys[0], 0)] if len(keys) > 1 else ()


def _taken_out(data: dict[str, Any], keys: _Keys, problem: Problem, warn: Warn) -> bool:
    parents: list[dict[str, Any]] = [data]
    for key in keys[:-1]:
        inner = parents[-1].get(key)
        if not isinstance(inner, dict):
            return False
        parents.append(inner)
    if parents[-1].pop(keys[-1], None) is None:
        return False
    if len(keys) >= _ENTRY and not parents[-1]:
        del parents[-2][keys[-2]]
    warn("/".join(keys), "was left out", problem.summary, BY_HAND)
    return True
