"""Formats parts of a plan as text, for its messages and its view."""

import json
from typing import Any

from skyflowctl.planner.plan import Action, Change, DriftKind

_DRIFT_TITLES = {
    DriftKind.UNDECLARED: "is not in the manifest",
    DriftKind.REVOKED: "has been cut off",
    DriftKind.OPEN_ROTATION: "has an open rotation",
    DriftKind.MOVED: "is a mount that the manifest has at another path",
}


def place(action: Action) -> str:
    """Return the object of an action in the reader's terms, which is not always its API path."""
    path = action.path.removeprefix("sys/mounts/").removesuffix("/tune")
    return path.removeprefix("sys/config/auditing/request-headers/")


def change_text(change: Change) -> str:
    """Return one change as ``field: before -> after``, or ``field: after`` when new."""
    if change.before is None:
        return f"{change.field}: {_value(change.after)}"
    return f"{change.field}: {_value(change.before)} -> {_value(change.after)}"


def drift_title(kind: str, path: str, since: str, by: str) -> str:
    """Return one drift in one line, without its cause and fix."""
    if kind == DriftKind.UNDECLARED:
        created = f", created {since}," if since else ""
        return f"{path}{created} {_DRIFT_TITLES[DriftKind.UNDECLARED]}"
    when = f" since {since}" if since else ""
    who = f" by {by}" if by else ""
    return f"{path} {_DRIFT_TITLES[DriftKind(kind)]}{when}{who}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
