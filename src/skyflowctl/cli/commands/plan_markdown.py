"""A plan for a review: as Markdown, with each change as a diff, and its drift for SARIF."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.commands.plan_diff import field_diffs, is_short
from skyflowctl.cli.commands.plan_users import (
    action_key,
    logs_line,
    user_lines,
    users_by_action,
)
from skyflowctl.cli.commands.plan_view import (
    action_title,
    plan_refusal,
    show_drift,
    summary_pieces,
)
from skyflowctl.cli.commands.review import Reviewed, add_problems, captured
from skyflowctl.cli.console import Styled
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.markdown import MarkdownPage
from skyflowctl.cli.printed_commands import shell_words
from skyflowctl.errors import Problem
from skyflowctl.planner.messages import drift_title
from skyflowctl.planner.plan import ObjectKind

if TYPE_CHECKING:
    from skyflowctl.sarif import SarifFinding

# Deletions come first: a page that is too long is cut at its end.
_PARTS = (("delete", "-", True), ("update", "!", False), ("create", "+", False))


def plan_page(result: CommandResult, page: MarkdownPage, server: str) -> None:
    """Fill a page with a plan, or with what prevented one.

    Args:
        result: of the command.
        page: the page.
        server: the address of the server; empty: none was asked.
    """
    data = result.data
    if "summary" not in data:
        page.paragraph("### skyflowctl: the plan failed")
        add_problems(page, result)
        return
    pieces = summary_pieces(data, names=False)
    page.paragraph("### skyflowctl: the plan")
    page.paragraph("".join(one.text if isinstance(one, Styled) else one for one in pieces))
    _add_table(data, page)
    if refusal := plan_refusal(data):
        page.paragraph(f"**{refusal[0].upper()}{refusal[1:]}.**")
    page.block([f"server  {server}", *_saved_lines(data.get("saved"))])
    if logs := logs_line(data):
        page.block([logs])
    users, log = users_by_action(data), data.get("impact", {}).get("log")
    add_problems(page, result)
    for part, sign, is_open in _PARTS:
        changes = [
            [*_diff(one, sign), *_users(users.get(action_key(one)), log)]
            for one in data["actions"]
            if _part(one) == part
        ]
        page.fold(f"to {part}", changes, "diff", is_open=is_open)
    drift = [captured(partial(show_drift, {"drift": [one]})) for one in data["drift"]]
    page.fold("drifted", drift, is_open=True)


def plan_findings(result: CommandResult, reviewed: Reviewed) -> Iterator["SarifFinding"]:
    """Yield the drift; its kind is the rule, and its mount in the manifest is the place."""
    from skyflowctl.sarif import SarifFinding

    for one in result.data.get("drift", ()):
        title = drift_title(one["kind"], one["path"], one["since"], one["by"])
        where = reviewed.mounts.get(one["mount"])
        problem = Problem(one["kind"], title, one["reason"], one["fix"], where)
        yield SarifFinding("warning", problem, one["path"])


def _part(action: Mapping[str, Any]) -> str:
    name = str(action["action"])
    return name if name in {"create", "delete"} else "update"


def _add_table(data: Mapping[str, Any], page: MarkdownPage) -> None:
    numbers = Counter((one["kind"], _part(one)) for one in data["actions"])
    kinds = [one.value for one in ObjectKind if any(kind == one for kind, _ in numbers)]
    parts = ("create", "update", "delete")
    rows = [
        [kind.replace("_", " "), *(numbers[kind, part] or "" for part in parts)] for kind in kinds
    ]
    page.table(["", *parts], rows)


def _diff(action: Mapping[str, Any], sign: str) -> Iterator[str]:
    """Yield an action as lines of a diff, whose signs are in the first column."""
    yield f"{sign} {action_title(action)}"
    for one in field_diffs(action):
        found = one.lines()
        # Of a new or deleted object every line is a change, and has its sign.
        whole = one.before is one.after and sign != "!"
        lines = [(sign if whole else mark, text) for mark, text in found]
        if is_short(found):
            yield from (f"{mark}     {one.name}: {text}" for mark, text in lines)
        else:
            yield f"{sign if whole else ' '}     {one.name}:"
            yield from (f"{mark}       {text}" for mark, text in lines)


def _users(affected: Mapping[str, Any] | None, log: Mapping[str, Any] | None) -> list[str]:
    lines = user_lines(affected, log) if affected else ()
    return [f"#     {label:<9}  {text}" for label, text in lines]


def _saved_lines(saved: Mapping[str, Any] | None) -> list[str]:
    if not saved:
        return []
    command = f"skyflowctl apply {shell_words([saved['path']])}"
    return [f"saved   {saved['path']}, valid until {saved['expires_at']}", f"apply   {command}"]
