"""A posture report as text: findings, the worst first, then the checks that passed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from skyflowctl.audit.evidence import Table
from skyflowctl.cli.console import Piece, Styled, Terminal, columns, safe
from skyflowctl.cli.help import wrap
from skyflowctl.posture.model import CheckStatus, Finding, PostureReport, Severity
from skyflowctl.text import counted

_STYLES = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "info": "dim",
}
_LEFT = 10
_NAME = 6
_TEXT = 76


def posture_json(report: PostureReport, server: str) -> dict[str, Any]:
    """Return a report's data for JSON."""
    return {
        "server": server,
        "findings": [_finding_json(one) for one in report.findings],
        "checks": [
            {
                "id": one.check.id,
                "title": one.check.title,
                "result": one.result.value,
                "wants": one.wants,
            }
            for one in report.checks
        ],
        "summary": {
            **{grade.value: report.count(grade) for grade in Severity},
            "not_checked": sum(one.unchecked for one in report.findings),
            "checks_not_made": report.not_made(),
        },
    }


def _finding_json(one: Finding) -> dict[str, Any]:
    return {
        "check": one.check,
        "grade": one.grade.value,
        "subject": {"kind": one.subject.kind, "name": one.subject.name},
        "summary": one.summary,
        "reason": one.reason,
        "evidence": list(one.evidence),
        "fix": one.fix,
        "where": asdict(one.where) if one.where else None,
        "unchecked": one.unchecked,
    }


def posture_tables(data: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the tables of an evidence folder: findings, checks, and controls if asked for."""
    findings = [
        [
            one["grade"],
            one["check"],
            one["subject"]["name"],
            one["summary"],
            one["reason"],
            one["fix"],
        ]
        for one in data["findings"]
    ]
    checks = [[one["id"], one["title"], one["result"]] for one in data["checks"]]
    tables = [
        Table("findings", ("grade", "check", "subject", "summary", "reason", "fix"), findings),
        Table("checks", ("id", "title", "result"), checks),
    ]
    if data["profile"]:
        controls = [
            [data["profile"]["standard"], one["id"], one["title"], each["id"], each["result"]]
            for one in data["profile"]["controls"]
            for each in one["checks"]
        ]
        names = ("standard", "control", "title", "check", "result")
        tables.append(Table("controls", names, controls))
    return tuple(tables)


def show_posture(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write a report to stdout."""
    for one in data["findings"]:
        if not one["unchecked"]:
            _show_finding(one, terminal)
    missed = [one for one in data["findings"] if one["unchecked"]]
    if missed:
        _show_missed(missed, terminal)
    _show_checks(data["checks"], terminal)
    if data.get("profile"):
        _show_profile(data["profile"], terminal)
    _show_summary(data, terminal)


def _show_finding(one: Mapping[str, Any], terminal: Terminal) -> None:
    grade = one["grade"]
    label = Styled(grade.upper().ljust(_LEFT), _STYLES[grade])
    wrapped_after((label,), _LEFT, Styled(one["summary"], "bold"), terminal)
    parts = [("why", [one["reason"]]), ("seen", one["evidence"]), ("fix", one["fix"].split("\n"))]
    for name, lines in parts:
        for number, line in enumerate(line for line in lines if line):
            part = Styled((name if not number else "").ljust(_NAME), "dim")
            wrapped_after((" " * _LEFT, part), _LEFT + _NAME, line, terminal)
    where = one["where"]
    if where and where["file"]:
        place = ":".join(str(part) for part in (where["file"], where["line"]) if part)
        terminal.line(" " * _LEFT, Styled("in".ljust(6), "dim"), place)
    terminal.line()


def wrapped_after(before: Sequence[Piece], left: int, text: Piece, terminal: Terminal) -> None:
    """Write a text after a label of ``left`` columns, wrapped to the width of a terminal."""
    plain = safe(text.text if isinstance(text, Styled) else text)
    room = max(30, terminal.width - left)
    fits = not terminal.interactive_out or columns(plain) <= room
    for number, line in enumerate([plain] if fits else wrap(plain, room)):
        shown = Styled(line, text.style) if isinstance(text, Styled) else line
        terminal.line(*([" " * left] if number else before), shown)


def _show_missed(missed: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    terminal.line(Styled(f"NOT CHECKED: {counted(len(missed), 'part')}", "bold yellow"))
    for one in missed:
        text = one["summary"].removeprefix("not checked: ")
        wrapped_after(("  ", Styled(one["check"].ljust(16), "dim"), "  "), 20, text, terminal)
        if not one["fix"].startswith("path "):
            wrapped_after((" " * 20,), 20, Styled(one["reason"], "dim"), terminal)
    lines = sorted({one["fix"] for one in missed if one["fix"].startswith("path ")})
    if lines:
        terminal.line()
        terminal.line("  This policy, on the login that asks, lets them be checked:")
        for line in lines:
            terminal.line("    ", line)
    terminal.line()


def _show_checks(checks: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    good = [one["title"] for one in checks if one["result"] == CheckStatus.OK.value]
    room = max(30, min(_TEXT, terminal.width - _LEFT - _NAME))
    for number, line in enumerate(wrap("; ".join(good), room)):
        name = "In order" if number == 0 else ""
        terminal.line(Styled(name.ljust(_LEFT + _NAME), "green"), line)
    for one in checks:
        if one["result"] == CheckStatus.SKIPPED.value:
            text = f"{one['title']}: needs {one['wants']}"
            label = Styled("Not asked".ljust(_LEFT + _NAME), "dim")
            wrapped_after((label,), _LEFT + _NAME, text, terminal)
    terminal.line()


def _show_profile(profile: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the controls, each with the checks that support it."""
    terminal.line(Styled(profile["standard"], "bold"))
    width = max(columns(one["id"]) for one in profile["controls"])
    for one in profile["controls"]:
        checks = ", ".join(f"{each['id']} {each['result']}" for each in one["checks"])
        label = Styled(one["id"].ljust(width), "bold")
        wrapped_after(("  ", label, "  "), width + 4, one["title"], terminal)
        wrapped_after((" " * (width + 4),), width + 4, checks, terminal)
    wrapped_after(("  ",), 2, profile["note"], terminal)
    terminal.line()


def _show_summary(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the counts and of how many checks; what does not fit stands on a line of its own."""
    counts = data["summary"]
    parts = [(grade.value, counts[grade.value]) for grade in Severity]
    asked = sum(one["result"] != CheckStatus.SKIPPED.value for one in data["checks"])
    bad = any(number for grade, number in parts if grade in {"critical", "high", "medium"})
    line: list[Piece] = [Styled("Posture:", "bold")]
    for number, (grade, many) in enumerate(parts):
        style = _STYLES[grade] if many else "dim"
        line += [", " if number else " ", Styled(f"{many} {grade}", style)]
    missed = counts["not_checked"]
    made: list[Piece] = [f"{counted(asked, 'check')} of {data['server']}."]
    if missed:
        left = f"{counts['checks_not_made']} of {counted(asked, 'check')} could not be made"
        made = [Styled(left, "yellow"), f" in full, at {data['server']}."]
    if not bad and not missed:
        made.append(Styled(" This place is in order.", "bold green"))
    used = sum(columns(one.text if isinstance(one, Styled) else one) for one in (*line, *made))
    if terminal.interactive_out and used + 2 > terminal.width:
        terminal.line(*line, ".")
        terminal.line(*made)
    else:
        terminal.line(*line, ". ", *made)
