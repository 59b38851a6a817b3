"""The outcome of a rotation, as JSON and as text."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from skyflowctl.cli.commands.rotate.progress import STYLES, said, steps_json
from skyflowctl.cli.console import Piece, Styled, Terminal
from skyflowctl.cli.envelope import problem_json
from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.rotation.model import MountOutcome, Result, StepName
from skyflowctl.text import counted

_KEY_COLUMNS = 10
_UNWELL = {Result.REFUSED.value, Result.FAILED.value, Result.PENDING.value}


def outcome_json(outcome: MountOutcome, due: str, margin: timedelta) -> dict[str, Any]:
    """Return one mount's data for JSON, without the commands for the next steps.

    Args:
        outcome: its outcome.
        due: why it was due; empty: not due, or not checked.
        margin: how long its old key is kept after its last token.
    """
    # A skipped mount was not asked whether it serves; show what is known.
    untouched = outcome.result is Result.NOT_DUE
    return {
        "name": outcome.name,
        "path": outcome.path,
        "result": outcome.result.value,
        "from": outcome.from_key,
        "to": outcome.to_key,
        "live_key_id": outcome.live_key_id,
        "serves": None if untouched and outcome.serves else outcome.serves,
        "due": due,
        "steps": steps_json(outcome.steps),
        "old_tokens_valid_until": outcome.old_tokens_valid_until,
        "retire_after": _retire_after(outcome, margin),
        "warnings": [problem_json(one) for one in outcome.warnings],
        "errors": [problem_json(one) for one in outcome.problems],
    }


def _retire_after(outcome: MountOutcome, margin: timedelta) -> str:
    until = outcome.old_tokens_valid_until
    if outcome.result is not Result.ROTATED or not until:
        return ""
    # Whole seconds, rounded up, for use in at or in a calendar.
    moment = parse_rfc3339(until) + margin + timedelta(milliseconds=999)
    return rfc3339(moment.replace(microsecond=0))


def show_outcomes(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the outcomes: a block for one mount, a line each for several."""
    mounts: Sequence[Mapping[str, Any]] = data["mounts"]
    if all(one["result"] == Result.NOT_DUE and one["serves"] is not False for one in mounts):
        terminal.line(Styled("Nothing is due.", "bold green"), f" {counted(len(mounts), 'mount')}")
    elif len(mounts) == 1:
        _block(mounts[0], terminal)
    else:
        _lines(mounts, terminal)


def _block(one: Mapping[str, Any], terminal: Terminal) -> None:
    terminal.line(one["name"], " ", Styled(_title(one), _style(one)))
    terminal.fields(_facts(one), indent="  ")
    for name in ("next", "back"):
        if one[name]:
            terminal.line("  ", Styled(f"{name:<8}", "dim"), one[name])


def _title(one: Mapping[str, Any]) -> str:
    words = {
        Result.ROTATED.value: "is rotated",
        Result.ROLLED_BACK.value: "is rolled back",
        Result.RETIRED.value: "has no old key left",
        Result.WOULD_ROTATE.value: "can be rotated; nothing was written",
        Result.REFUSED.value: "is refused; nothing was changed",
        Result.PENDING.value: "waits for an approval",
        Result.FAILED.value: "failed",
        Result.NOT_DUE.value: "has no credential",
    }
    made = {step["name"] for step in one["steps"]}
    if one["result"] == Result.ROLLED_BACK and StepName.ROLLBACK not in made:
        return "is live already with that key; nothing was changed"
    return words[one["result"]]


def _style(one: Mapping[str, Any]) -> str:
    return STYLES[Result(one["result"])] if one["serves"] is not False else "bold red"


def _facts(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if one["from"] or one["to"]:
        facts = [("from", one["from"]), ("to", one["to"])]
    if one["live_key_id"] != one["to"] or one["result"] in _UNWELL:
        facts.append(("live", one["live_key_id"] or "not known"))
    if one["serves"] is False and one["live_key_id"]:
        facts.append(("serves", "no: its live key mints for no role"))
    if one["old_tokens_valid_until"]:
        facts.append(("tokens", f"old ones live until {one['old_tokens_valid_until']}"))
    if one["next"] and one["retire_after"]:
        facts.append(("retire", f"the old key from {one['retire_after']} on; --wait waits for it"))
    if one["next"] and "--kept-copy-only" in one["next"]:
        facts.append(("then", f"delete key {one['from']} in Skyflow Studio: no operator is named"))
    return [(f"{name:<6}", value) for name, value in facts]


def _lines(mounts: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    columns = {
        "MOUNT": [one["name"] for one in mounts],
        "RESULT": [said(one["result"]) for one in mounts],
        "FROM": [_short(one["from"]) for one in mounts],
        "TO": [_short(one["to"]) for one in mounts],
        "LIVE": [_short(one["live_key_id"]) for one in mounts],
        "OLD TOKENS UNTIL": [_whole_seconds(one["old_tokens_valid_until"]) for one in mounts],
    }
    for spare in ("LIVE" if columns["LIVE"] == columns["TO"] else "TO", "FROM"):
        if _columns_of(columns) > terminal.width:
            del columns[spare]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    styled: list[list[Piece]] = [
        [name, Styled(result, _style(one)), *rest]
        for (name, result, *rest), one in zip(rows, mounts, strict=True)
    ]
    terminal.table(list(columns), styled)


def _columns_of(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(max(map(len, (name, *values))) + 2 for name, values in columns.items()) - 2


def _whole_seconds(moment: str) -> str:
    return rfc3339(parse_rfc3339(moment).replace(microsecond=0)) if moment else ""


def _short(key_id: str) -> str:
    """Return enough of a key id to distinguish keys; JSON has all of it."""
    return key_id if len(key_id) <= _KEY_COLUMNS else f"{key_id[: _KEY_COLUMNS - 1]}…"
