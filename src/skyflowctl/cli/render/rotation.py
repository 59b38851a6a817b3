"""What a rotation left behind, as data and as people read it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from skyflowctl.cli.envelope import problem_json
from skyflowctl.cli.render.rotation_steps import STYLES, said
from skyflowctl.cli.render.terminal import Piece, Styled, Terminal
from skyflowctl.cli.render.text import counted
from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.rotation.model import MountOutcome, StepName, Word

_KEY_COLUMNS = 12
_WELL = {Word.ROTATED.value, Word.RETIRED.value, Word.WOULD_ROTATE.value, Word.NOT_DUE.value}


def outcome_json(outcome: MountOutcome, due: str, margin: timedelta) -> dict[str, Any]:
    """Return one mount's data for JSON.

    Args:
        outcome: what became of it.
        due: why it was due; empty: it was not, or nobody asked.
        margin: how long its old key outlives its last token.
    """
    return {
        "name": outcome.name,
        "path": outcome.path,
        "result": outcome.result.value,
        "from": outcome.from_key,
        "to": outcome.to_key,
        "live_key_id": outcome.live_key_id,
        "serves": outcome.serves,
        "due": due,
        "steps": [
            {"name": one.name.value, "ms": round(one.ms, 1), "ok": one.ok, "detail": one.detail}
            for one in outcome.steps
        ],
        "old_tokens_valid_until": outcome.old_tokens_valid_until,
        "retire_after": _retire_after(outcome, margin),
        "warnings": [problem_json(one) for one in outcome.warnings],
        "errors": [problem_json(one) for one in outcome.problems],
    }


def _retire_after(outcome: MountOutcome, margin: timedelta) -> str:
    until = outcome.old_tokens_valid_until
    if outcome.result is not Word.ROTATED or not until:
        return ""
    # Whole seconds, rounded up: a time that people type into an at or a calendar.
    moment = parse_rfc3339(until) + margin + timedelta(milliseconds=999)
    return rfc3339(moment.replace(microsecond=0))


def show_outcomes(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write what became of the mounts: a block for one, a line each for several."""
    mounts: Sequence[Mapping[str, Any]] = data["mounts"]
    if all(one["result"] == Word.NOT_DUE for one in mounts):
        terminal.line(Styled("Nothing is due.", "bold green"), f" {counted(len(mounts), 'mount')}")
    elif len(mounts) == 1:
        _block(mounts[0], terminal)
    else:
        _lines(mounts, terminal)


def _block(one: Mapping[str, Any], terminal: Terminal) -> None:
    terminal.line(one["name"], " ", Styled(_title(one), _style(one)))
    terminal.fields(_facts(one), indent="  ")
    for text, line in _next(one):
        terminal.line("  ", Styled(f"{text:<8}", "dim"), line)


def _title(one: Mapping[str, Any]) -> str:
    words = {
        Word.ROTATED.value: "is rotated",
        Word.ROLLED_BACK.value: "is rolled back",
        Word.RETIRED.value: "has no old key any more",
        Word.WOULD_ROTATE.value: "can be rotated; nothing was written",
        Word.REFUSED.value: "is refused; nothing was changed",
        Word.FAILED.value: "failed",
    }
    return words[one["result"]]


def _style(one: Mapping[str, Any]) -> str:
    return STYLES[Word(one["result"])] if one["serves"] else "bold red"


def _facts(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if one["from"] or one["to"]:
        facts = [("from", one["from"]), ("to", one["to"])]
    if one["live_key_id"] not in {"", one["to"]} or one["result"] not in _WELL:
        facts.append(("live", one["live_key_id"] or "not known"))
    if not one["serves"]:
        facts.append(("serves", "no: its live key mints for no role"))
    if one["old_tokens_valid_until"]:
        facts.append(("tokens", f"old ones live until {one['old_tokens_valid_until']}"))
    return [(f"{name:<6}", value) for name, value in facts]


def _next(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a person may want to do now, as command lines."""
    if one["result"] == Word.ROTATED and one["from"]:
        after = f"    (from {one['retire_after']} on)" if one["retire_after"] else ""
        back = [("back", f"skyflowctl rotate --rollback {one['name']}")]
        if any(step["name"] == StepName.DELETE_OLD_KEY and step["ok"] for step in one["steps"]):
            return []  # it is retired already, and there is no way back
        return [("next", f"skyflowctl rotate --retire {one['name']}{after}"), *back]
    return []


def _lines(mounts: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    rows: list[list[Piece]] = [
        [
            one["name"],
            Styled(said(one["result"]), _style(one)),
            _short(one["from"]),
            _short(one["to"]),
            _short(one["live_key_id"]),
            one["old_tokens_valid_until"],
        ]
        for one in mounts
    ]
    terminal.table(["MOUNT", "RESULT", "FROM", "TO", "LIVE", "OLD TOKENS UNTIL"], rows)


def _short(key_id: str) -> str:
    """Return enough of a key id to tell keys apart; JSON has all of it."""
    return key_id if len(key_id) <= _KEY_COLUMNS else f"{key_id[: _KEY_COLUMNS - 1]}…"
