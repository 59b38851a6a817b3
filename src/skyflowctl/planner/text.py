"""A plan as plain lines: what the command line prints without colours, and tests compare."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.planner.plan import Action, ActionType, Change, Plan

SIGNS = {
    ActionType.CREATE: "+",
    ActionType.UPDATE: "~",
    ActionType.DELETE: "-",
    ActionType.REPLACE_CREDENTIAL: "!",
    ActionType.PLUGIN_UPGRADE: "^",
}
"""One character per kind of action, at the start of its line."""

_SELF_EXPLAINING = frozenset({ActionType.REPLACE_CREDENTIAL, ActionType.PLUGIN_UPGRADE})


def lines(plan: Plan) -> list[str]:
    """Return the whole plan: its actions, its warnings, its summary."""
    text: list[str] = []
    for action in plan.actions:
        text += [title(action), *(f"    {change_text(change)}" for change in action.changes)]
    text += warning_lines(plan.warnings)
    return [*text, summary_line(plan)]


def title(action: Action) -> str:
    """Return one action in one line, without its changes."""
    words = action.action.value.replace("_", " ")
    kind = action.kind.value.replace("_", " ")
    what = "" if action.action in _SELF_EXPLAINING else f" {kind}"
    return f"{SIGNS[action.action]} {words}{what} {place(action)}"


def place(action: Action) -> str:
    """Return where an action happens in the reader's terms, which is not always its API path."""
    path = action.path.removeprefix("sys/mounts/").removesuffix("/tune")
    return path.removeprefix("sys/config/auditing/request-headers/")


def change_text(change: Change) -> str:
    """Return one change as ``field: before -> after``, or ``field: after`` when new."""
    if change.before is None:
        return f"{change.field}: {_value(change.after)}"
    return f"{change.field}: {_value(change.before)} -> {_value(change.after)}"


def warning_lines(warnings: Iterable[Problem]) -> Iterator[str]:
    """Yield each warning with its cause and its remedy."""
    for warning in warnings:
        yield f"warning: {warning.summary}"
        if warning.why:
            yield f"    why: {warning.why}"
        if warning.fix:
            yield f"    fix: {warning.fix}"


def summary_line(plan: Plan) -> str:
    """Return the counts in one line."""
    counts = plan.summary()
    left = left_out_text(len(plan.left_out) + len(plan.unreadable))
    if plan.empty and not left:
        number = counts["unchanged"]
        what = "1 object is" if number == 1 else f"{number} objects are"
        return f"Nothing to do: {what} as the manifest says."
    named = [f"{counts[name]} to {name}" for name in ("create", "update", "delete")]
    return f"Plan: {', '.join(named)}, {counts['unchanged']} unchanged.{left}"


def left_out_text(number: int) -> str:
    """Return the end of a summary line when mounts are left out; empty when none is."""
    if not number:
        return ""
    what = "1 mount is" if number == 1 else f"{number} mounts are"
    return f" {what} left out: see the messages."


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
