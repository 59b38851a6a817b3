"""A plan as plain lines: what the command line prints without colours, and tests compare."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.planner.plan import Action, ActionType, Change, Drift, DriftKind, Plan
from skyflowctl.text import counted

SIGNS = {
    ActionType.CREATE: "+",
    ActionType.UPDATE: "~",
    ActionType.DELETE: "-",
    ActionType.REPLACE_CREDENTIAL: "!",
    ActionType.PLUGIN_UPGRADE: "^",
}
"""One character per kind of action, at the start of its line."""

_DRIFT_TITLES = {
    DriftKind.UNDECLARED: "is not in the manifest",
    DriftKind.REVOKED: "has been cut off",
    DriftKind.OPEN_ROTATION: "has an open rotation",
    DriftKind.MOVED: "is a mount that was moved by hand",
}
_SELF_EXPLAINING = frozenset({ActionType.REPLACE_CREDENTIAL, ActionType.PLUGIN_UPGRADE})


def lines(plan: Plan) -> list[str]:
    """Return the whole plan: its actions, its warnings, its summary."""
    text: list[str] = []
    for action in plan.actions:
        text += [title(action), *(f"    {change_text(change)}" for change in action.changes)]
    text += drift_lines(plan.drift)
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


def drift_lines(drift: Iterable[Drift]) -> Iterator[str]:
    """Yield each drift with its cause and its remedy."""
    for one in drift:
        yield f"drift: {drift_title(one.kind, one.path, one.since, one.by)}"
        if one.reason:
            yield f"    why: {one.reason}"
        yield f"    fix: {one.fix}"


def drift_title(kind: str, path: str, since: str, by: str) -> str:
    """Return one drift in one line, without its cause and remedy."""
    when = f" since {since}" if since else ""
    who = f" by {by}" if by else ""
    return f"{path} {_DRIFT_TITLES[DriftKind(kind)]}{when}{who}"


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
    if plan.clean:
        number = counts["unchanged"]
        what = counted(number, "object is", "objects are")
        return f"Nothing to do: {what} as the manifest says."
    named = [f"{counts[name]} to {name}" for name in ("create", "update", "delete")]
    drift = f", {counts['drift']} drifted" if counts["drift"] else ""
    left = left_out_text(len(plan.left_out), len(plan.unreadable))
    return f"Plan: {', '.join(named)}, {counts['unchanged']} unchanged{drift}.{left}"


def left_out_text(left_out: int, unread: int) -> str:
    """Return the end of a summary line when mounts are left out, or were not compared in full."""
    text = ""
    if left_out:
        what = counted(left_out, "mount is", "mounts are")
        text += f" {what} left out: see the messages."
    if unread:
        what = counted(unread, "mount was", "mounts were")
        text += f" {what} not compared in full: see the messages."
    return text


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
