"""A plan as text: + creates, ~ changes, - removes, field by field."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from skyflowctl.cli.commands.plan_diff import FieldDiff, field_diffs
from skyflowctl.cli.commands.plan_users import (
    action_key,
    logs_line,
    user_lines,
    users_by_action,
)
from skyflowctl.cli.console import Piece, Styled, Terminal, broken, columns, safe
from skyflowctl.cli.envelope import problem_json
from skyflowctl.planner.messages import drift_title
from skyflowctl.planner.plan import (
    LEFT_OUT,
    NEEDS_ADOPTION,
    NEEDS_MOVE,
    PRUNE_REFUSED,
    UNREADABLE,
    Plan,
)
from skyflowctl.text import counted, listed
from skyflowctl.vault.permissions import MISSING_PERMISSIONS

_SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "delete": ("-", "red"),
    "move": ("~", "blue"),
    "replace_credential": ("~", "magenta"),
    "plugin_upgrade": ("~", "blue"),
}
_INDENT = "    "
_WIDEST = 32
"""A longer field name has no column of its own."""
_LEAST = 20
"""A value gets at least so many columns, on however narrow a terminal."""
_ARROW = 3
_USERS_WIDTH = 11
_DIFF_STYLES = {"-": "red", "+": "green", " ": "dim"}
_NOT_BEGUN = {"pending": 0, "waiting": 0, "failed": 0}
_WORDS = {
    "move": " (move)",
    "replace_credential": " (new credential)",
    "plugin_upgrade": " (plugin upgrade)",
}


def plan_json(plan: Plan, impact: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a plan's data for JSON, with who is affected by it if that is known."""
    data = {
        "actions": [action.to_json() for action in plan.actions],
        "drift": [{**asdict(one), "kind": one.kind.value} for one in plan.drift],
        "warnings": [problem_json(warning) for warning in plan.warnings],
        "not_compared": [
            {"mount": name, "objects": number} for name, number in plan.not_compared.items()
        ],
        "summary": {**plan.summary(), **_NOT_BEGUN},
    }
    return data if impact is None else {**data, "impact": impact}


def show_plan(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write a plan to stdout."""
    users = users_by_action(data)
    for action in data["actions"]:
        show_action(action, terminal)
        if users and (affected := users.get(action_key(action))):
            _show_users(affected, data["impact"]["log"], terminal)
    show_drift(data, terminal)
    if data["actions"] or data["drift"]:
        terminal.line()
    terminal.line(*summary_pieces(data))
    if logs := logs_line(data):
        terminal.wrapped(logs)
    if refusal := plan_refusal(data):
        where = "without -q, the messages say why" if terminal.quiet else "see the messages"
        terminal.line(Styled(f"{refusal}: {where}.", "bold yellow"))


def show_drift(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the drift, with its cause and remedy."""
    for one in data["drift"]:
        title = drift_title(one["kind"], one["path"], one["since"], one["by"])
        terminal.line(Styled(f"! {title}", "yellow"))
        label: list[Piece] = ["    ", Styled("why", "dim"), "  "]
        for part in broken(one["reason"], terminal.width - 9) if one["reason"] else ():
            terminal.line(*label, part)
            label = [" " * 9]
        # A fix is not wrapped, so that its command can be copied.
        terminal.line("    ", Styled("fix", "dim"), f"  {one['fix']}")


def summary_pieces(data: Mapping[str, Any], *, names: bool = True) -> Sequence[Piece]:
    """Return the last line of a plan; without ``names``, in words and numbers of ours alone."""
    counts = data["summary"]
    codes = [warning["code"] for warning in data["warnings"]]
    left_out = sum(code in LEFT_OUT for code in codes)
    drift = f", {counts['drift']} drifted" if counts["drift"] else ""
    unread = any(code in UNREADABLE for code in codes)
    if not (data["actions"] or left_out or unread or drift):
        return no_changes(data, names=names)
    return (
        Styled("Plan:", "bold"),
        f" {counts['create']} to create, {counts['update']} to update,",
        f" {counts['delete']} to delete, {counts['unchanged']} unchanged",
        Styled(drift + not_compared_line(data, names=names), "bold yellow"),
        ".",
    )


def plan_refusal(data: Mapping[str, Any]) -> str:
    """Return that an apply refuses the plan as a whole; empty: it does not."""
    codes = [warning["code"] for warning in data["warnings"]]
    if left_out := sum(code in LEFT_OUT for code in codes):
        left = counted(left_out, "object is", "objects are")
        return f"apply refuses the whole plan, because {left} left out"
    if MISSING_PERMISSIONS in codes:
        return "apply refuses the whole plan with this login"
    stops = {NEEDS_ADOPTION, NEEDS_MOVE, *PRUNE_REFUSED}
    return "apply refuses the whole plan" if stops.intersection(codes) else ""


def no_changes(data: Mapping[str, Any], *, names: bool = True) -> Sequence[Piece]:
    """Return the line of a plan or an apply without changes."""
    same = counted(data["summary"]["unchanged"], "object matches", "objects match")
    doubt = Styled(not_compared_line(data, names=names), "bold yellow")
    return (Styled("No changes.", "bold green"), f" {same} the manifest", doubt, ".")


def not_compared_line(data: Mapping[str, Any], *, names: bool = True) -> str:
    """Return how many objects were not compared, of which mounts or which; empty: all were."""
    number = data["summary"]["not_compared"]
    which = f" ({listed([one['mount'] for one in data['not_compared']])})" if names else ""
    return f", {number} not compared{which}" if number else ""


def action_title(action: Mapping[str, Any]) -> str:
    """Return an action's kind and path, and what is special about it."""
    return f"{action['kind']} {action['path']}{_WORDS.get(action['action'], '')}"


def show_action(action: Mapping[str, Any], terminal: Terminal) -> None:
    """Write one action, field by field."""
    sign, style = _SIGNS[action["action"]]
    title = f"{sign} {action['kind']} {action['path']}"
    terminal.line(Styled(title, style), Styled(_WORDS.get(action["action"], ""), "dim"))
    fields = list(field_diffs(action))
    left = max((len(one.name) for one in fields if len(one.name) <= _WIDEST), default=0)
    for one in fields:
        _show_field(one, left, terminal)


def _columns(text: str) -> int:
    return len(text) if text.isascii() and text.isprintable() else columns(safe(text))


def _show_users(
    affected: Mapping[str, Any], log: Mapping[str, Any] | None, terminal: Terminal
) -> None:
    """Write who is affected by an action, below its fields."""
    style = "yellow" if affected["action"] == "delete" else "cyan"
    room = max(_LEAST, terminal.width - len(_INDENT) - _USERS_WIDTH)
    for label, text in user_lines(affected, log):
        for number, part in enumerate(broken(Styled(text, style), room)):
            shown = label if not number else ""
            terminal.line(_INDENT, Styled(shown.ljust(_USERS_WIDTH), "dim"), part)


def _show_field(one: FieldDiff, left: int, terminal: Terminal) -> None:
    """Write one field; a long one has its values on the lines below its name."""
    used = len(_INDENT) + left + 2 + sum(map(_columns, one.values)) + _ARROW
    if one.values and len(one.name) <= left and used <= terminal.width:
        values: list[Piece] = list(one.values)
        if len(one.values) > 1:
            old, new = one.values
            values = [Styled(old, "red"), " → ", Styled(new, "green")]
        terminal.line(_INDENT, Styled(one.name.ljust(left), "dim"), "  ", *values)
        return
    terminal.line(_INDENT, Styled(one.name, "dim"))
    lines = one.lines()
    plain = all(sign == " " for sign, _ in lines)
    for sign, text in lines:
        piece = text if plain else Styled(text, _DIFF_STYLES[sign])
        lead: Piece = Styled(f"{_INDENT}  {sign} ", _DIFF_STYLES[sign])
        # Only blanks inside a line break it: those at its start are the text's own indentation.
        for part in broken(piece, max(_LEAST, terminal.width - len(_INDENT) * 2)):
            terminal.line(lead, part)
            lead = _INDENT * 2
