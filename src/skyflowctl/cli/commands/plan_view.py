"""A plan as text: + creates, ~ changes, - removes, field by field."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from skyflowctl.cli.console import Piece, Styled, Terminal, broken, packed, show
from skyflowctl.cli.envelope import problem_json
from skyflowctl.clock import span_text
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
from skyflowctl.vault.certificates import pem_summary

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
_SPANS = ("ttl", "period", "interval", "lease")
"""The ends of the names of fields in seconds."""
_NOT_BEGUN = {"pending": 0, "waiting": 0, "failed": 0}
_WORDS = {
    "move": " (move)",
    "replace_credential": " (new credential)",
    "plugin_upgrade": " (plugin upgrade)",
}


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan's data for JSON."""
    return {
        "actions": [action.to_json() for action in plan.actions],
        "drift": [{**asdict(one), "kind": one.kind.value} for one in plan.drift],
        "warnings": [problem_json(warning) for warning in plan.warnings],
        "not_compared": [
            {"mount": name, "objects": number} for name, number in plan.not_compared.items()
        ],
        "summary": {**plan.summary(), **_NOT_BEGUN},
    }


def show_plan(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write a plan to stdout."""
    for action in data["actions"]:
        _show_action(action, terminal)
    show_drift(data, terminal)
    if data["actions"] or data["drift"]:
        terminal.line()
    terminal.line(*summary_pieces(data))
    if refusal := _refusal(data):
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


def summary_pieces(data: Mapping[str, Any]) -> Sequence[Piece]:
    """Return the last line of a plan."""
    counts = data["summary"]
    codes = [warning["code"] for warning in data["warnings"]]
    left_out = sum(code in LEFT_OUT for code in codes)
    drift = f", {counts['drift']} drifted" if counts["drift"] else ""
    unread = any(code in UNREADABLE for code in codes)
    if not (data["actions"] or left_out or unread or drift):
        return no_changes(data)
    return (
        Styled("Plan:", "bold"),
        f" {counts['create']} to create, {counts['update']} to update,",
        f" {counts['delete']} to delete, {counts['unchanged']} unchanged",
        Styled(drift + not_compared_line(data), "bold yellow"),
        ".",
    )


def _refusal(data: Mapping[str, Any]) -> str:
    """Return that an apply refuses the plan as a whole; empty: it does not."""
    codes = [warning["code"] for warning in data["warnings"]]
    if left_out := sum(code in LEFT_OUT for code in codes):
        left = counted(left_out, "object is", "objects are")
        return f"apply refuses the whole plan, because {left} left out"
    stops = {NEEDS_ADOPTION, NEEDS_MOVE, *PRUNE_REFUSED}
    return "apply refuses the whole plan" if stops.intersection(codes) else ""


def no_changes(data: Mapping[str, Any]) -> Sequence[Piece]:
    """Return the line of a plan or an apply without changes."""
    same = counted(data["summary"]["unchanged"], "object matches", "objects match")
    doubt = Styled(not_compared_line(data), "bold yellow")
    return (Styled("No changes.", "bold green"), f" {same} the manifest", doubt, ".")


def not_compared_line(data: Mapping[str, Any]) -> str:
    """Return how many objects were not compared, of which mounts or which; empty: all were."""
    number = data["summary"]["not_compared"]
    names = listed([one["mount"] for one in data["not_compared"]])
    return f", {number} not compared ({names})" if number else ""


def _show_action(action: Mapping[str, Any], terminal: Terminal) -> None:
    sign, style = _SIGNS[action["action"]]
    title = f"{sign} {action['kind']} {action['path']}"
    terminal.line(Styled(title, style), Styled(_WORDS.get(action["action"], ""), "dim"))
    changes = action["changes"]
    left = max((len(one["field"]) for one in changes if len(one["field"]) <= _WIDEST), default=0)
    for change in changes:
        before, after = change["before"], change["after"]
        if action["action"] == "create" and before is None:
            values: list[Piece] = [_value(change["field"], after)]
        elif action["action"] == "delete":
            values = [_value(change["field"], before)]
        else:
            old, new = (_value(change["field"], one) for one in (before, after))
            values = [Styled(old, "red"), "→", Styled(new, "green")]
        _show_change(change["field"], values, left, terminal)


def _value(name: str, value: Any) -> str:
    """Return a field's value for people: seconds as a span, a certificate by its name."""
    return show(_readable(name, value))


def _readable(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(name, one) for one in value]
    if isinstance(value, str) and "-----BEGIN " in value:
        return pem_summary(value) or value
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith(_SPANS):
        return span_text(value)
    return value


def _show_change(name: str, values: Sequence[Piece], left: int, terminal: Terminal) -> None:
    """Write one field; a long one has its values on the lines below its name."""
    used = (
        len(_INDENT)
        + left
        + 2
        + sum(len(one if isinstance(one, str) else one.text) + 1 for one in values)
    )
    if len(name) <= left and used <= terminal.width:
        spaced = [piece for one in values for piece in (one, " ")][:-1]
        terminal.line(_INDENT, Styled(name.ljust(left), "dim"), "  ", *spaced)
        return
    terminal.line(_INDENT, Styled(name, "dim"))
    packed(terminal, values, _INDENT * 2)
