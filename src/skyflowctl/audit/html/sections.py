"""The page's tables: anomalies, usage, changes, sources and method."""

from datetime import datetime

from skyflowctl.audit.ctx import is_hash
from skyflowctl.audit.html.tables import Cell, HeadedColumn, table
from skyflowctl.audit.html.text import (
    NONE_CELL,
    amount,
    app_name,
    name,
    number,
    stamp,
    text,
    time_cell,
)
from skyflowctl.audit.model import ChangeKind, CredentialChange, FieldChange, RequestOutcome
from skyflowctl.audit.report_model import Report, Tally, Unusual, UnusualKind, Usage
from skyflowctl.text import size

KINDS = {
    UnusualKind.ROLE_ID_CHANGED: "Role ID changed manually",
    UnusualKind.ROOT_TOKEN: "Root token used",
    UnusualKind.UNDECLARED_ROLE: "Undeclared role",
    UnusualKind.FAILURE_JUMP: "Surge in failures",
    UnusualKind.FIRST_SEEN_APP: "New application",
    UnusualKind.OUTSIDE_USUAL_HOURS: "Outside usual hours",
    UnusualKind.CTX_OUTSIDE_PATTERN: "Context outside pattern",
}
CHANGES = {
    ChangeKind.WRITE: "Credential written",
    ChangeKind.ROTATION_OPENED: "Rotation opened",
    ChangeKind.ROTATION_WRITTEN: "Rotation: new key written",
    ChangeKind.ROTATION_COMMITTED: "Rotation committed",
    ChangeKind.ROLLBACK: "Rolled back",
    ChangeKind.KEPT_DESTROYED: "Kept credential destroyed",
    ChangeKind.REVOKED: "Credential revoked",
    ChangeKind.ROLE_WRITTEN: "Role written",
    ChangeKind.ROLE_DELETED: "Role deleted",
    ChangeKind.MOUNT_ENABLED: "Mount enabled",
    ChangeKind.MOUNT_DISABLED: "Mount disabled",
    ChangeKind.MOUNT_TUNED: "Mount tuned",
    ChangeKind.MOUNT_MOVED: "Mount moved",
    ChangeKind.POLICY_WRITTEN: "Policy written",
    ChangeKind.POLICY_DELETED: "Policy deleted",
    ChangeKind.PLUGIN_REGISTERED: "Plugin registered",
    ChangeKind.PLUGIN_REMOVED: "Plugin removed",
    ChangeKind.PLUGIN_RELOADED: "Plugin reloaded",
    ChangeKind.AUDIT_DEVICE_ENABLED: "Audit device enabled",
    ChangeKind.AUDIT_DEVICE_DISABLED: "Audit device disabled",
    ChangeKind.SNAPSHOT_RESTORED: "Snapshot restored",
    ChangeKind.ROOT_TOKEN_GENERATED: "Root token generated",
    ChangeKind.ROOT_TOKEN_USED: "Root token used",
}
OUTCOMES = {
    RequestOutcome.GRANTED: "Done",
    RequestOutcome.DENIED: "Denied",
    RequestOutcome.REFUSED: "Refused",
    RequestOutcome.FAILED: "Failed",
    RequestOutcome.UNKNOWN: "Unknown",
    RequestOutcome.CONFLICT: "Conflict",
    RequestOutcome.PENDING: "Awaiting approval",
}


def unusual(report: Report) -> str:
    """Return the findings, and the rules by which they are detected."""
    if not report.unusual:
        return f"{_nothing(report)}{_rules(report)}"
    columns = [
        HeadedColumn("Anomaly"),
        HeadedColumn("Application"),
        HeadedColumn("Mount"),
        HeadedColumn("Role"),
        HeadedColumn("Details", wide=True),
        HeadedColumn("Requests", "number"),
        HeadedColumn("First (UTC)", "time"),
        HeadedColumn("Last (UTC)", "time"),
    ]
    rows = [_finding(each) for each in report.unusual]
    return table("unusual-table", "anomalies", columns, rows) + _rules(report)


def _nothing(report: Report) -> str:
    applied = sum(not rule.not_applied for rule in report.rules)
    if not applied:
        return '<p class="empty">No rule could be applied, so no anomalies could be detected.</p>'
    return (
        '<p class="empty">No anomalies were detected by the '
        f"{amount(applied, 'rule')} that could be applied.</p>"
    )


def _rules(report: Report) -> str:
    """Return how anomalies are detected, and which rules could not be applied."""
    applied = "".join(
        f"<li><strong>{KINDS[rule.kind]}:</strong> {text(rule.text)}</li>"
        for rule in report.rules
        if not rule.not_applied
    )
    skipped = "".join(
        f"<li><strong>{KINDS[rule.kind]}:</strong> {text(rule.not_applied)}</li>"
        for rule in report.rules
        if rule.not_applied
    )
    missing = f'<h3>Rules not applied</h3><ul class="limits">{skipped}</ul>' if skipped else ""
    return (
        f'{missing}<details class="rules"><summary>How anomalies are detected</summary>'
        f"<ul>{applied or '<li>No rule could be applied.</li>'}</ul></details>"
    )


def _finding(each: Unusual) -> list[Cell]:
    got = "" if each.granted == each.count else f"{number(each.granted)} issued a token"
    return [
        Cell(f'<span class="kind">{KINDS[each.kind]}</span>', KINDS[each.kind]),
        Cell(app_name(each.app, each.auth), each.app),
        Cell(name(each.mount), each.mount),
        Cell(name(each.role), each.role),
        Cell(f"<bdi>{text(each.detail)}</bdi>"),
        Cell(_with_note(number(each.count), got), each.count),
        _time(each.first),
        _time(each.last),
    ]


def usage(report: Report) -> str:
    """Return every use of a role by an app, the most requests first."""
    if not report.usage:
        return '<p class="empty">No tokens were requested in this period.</p>'
    columns = [
        HeadedColumn("Application"),
        HeadedColumn("Mount"),
        HeadedColumn("Role"),
        HeadedColumn("Requests", "number"),
        HeadedColumn("No token issued", "number"),
        HeadedColumn("Distinct contexts", "number"),
        HeadedColumn("Busiest hour (UTC)", "number"),
        HeadedColumn("First (UTC)", "time"),
        HeadedColumn("Last (UTC)", "time"),
        HeadedColumn("Anomalies"),
    ]
    heaviest = sorted(
        report.usage,
        key=lambda row: (-row.tally.requests, row.mount, row.role, row.app, row.auth),
    )
    rows = [_use(each) for each in heaviest]
    return table(
        "usage-table", "uses of a role by an application", columns, rows, (3, "descending")
    )


def _use(each: Usage) -> list[Cell]:
    ctx = f"over {number(each.distinct_ctx)}" if each.more_ctx else number(each.distinct_ctx)
    busiest = f"{each.busiest_hour:02}:00"
    kinds = ", ".join(KINDS[kind] for kind in each.unusual)
    wrapped = f"{number(each.wrapped)} wrapped" if each.wrapped else ""
    return [
        Cell(app_name(each.app, each.auth), each.app),
        Cell(name(each.mount), each.mount),
        Cell(name(each.role), each.role),
        Cell(_with_note(number(each.tally.requests), wrapped), each.tally.requests),
        Cell(_with_note(number(each.tally.errors), endings(each.tally)), each.tally.errors),
        Cell(ctx, each.distinct_ctx),
        Cell(_with_note(busiest, number(each.busiest_count)), each.busiest_hour),
        _time(each.first),
        _time(each.last),
        Cell(f'<span class="kind">{kinds}</span>' if kinds else "", kinds),
    ]


def endings(tally: Tally) -> str:
    """Return how the requests without a token ended, and how many have no known end."""
    parts = [
        (tally.denied, "denied"),
        (tally.refused, "refused"),
        (tally.failed, "failed"),
        (tally.unknown, "with unknown outcome"),
        (tally.pending, "awaiting approval"),
    ]
    return ", ".join(f"{number(count)} {word}" for count, word in parts if count)


def changes(report: Report) -> str:
    """Return the changes of credentials in chronological order."""
    if not report.changes:
        return '<p class="empty">No changes were made in this period.</p>'
    columns = [
        HeadedColumn("Time (UTC)", "time"),
        HeadedColumn("Change"),
        HeadedColumn("Object", wide=True),
        HeadedColumn("Before and after", wide=True),
        HeadedColumn("Made by"),
        HeadedColumn("Outcome"),
        HeadedColumn("Run"),
        HeadedColumn("Request", wide=True),
    ]
    rows = [_change(each) for each in report.changes]
    return table("changes-table", "changes affecting tokens", columns, rows, (0, "ascending"))


def _change(each: CredentialChange) -> list[Cell]:
    who = each.caller.app or each.caller.display_name
    outcome = OUTCOMES[each.outcome]
    place = f"{each.mount} {each.name}".strip()
    return [
        _time(each.time),
        Cell(CHANGES[each.kind]),
        Cell(name(place), place),
        Cell(_details(each)),
        Cell(app_name(who, each.caller.auth), who),
        Cell(
            outcome
            if each.outcome is RequestOutcome.GRANTED
            else f'<span class="kind">{outcome}</span>'
        ),
        Cell(_code(each.run_id), each.run_id),
        Cell(_with_note(_code(each.request_id), f"on {name(each.node)}"), each.request_id),
    ]


def _details(each: CredentialChange) -> str:
    """Return what changed, why a mount was cut off, and why a change was not made."""
    notes = [note for note in (_reason(each), name(each.error) if each.error else "") if note]
    shown = _before_and_after(each)
    return "<br>".join([*([] if notes and shown == NONE_CELL else [shown]), *notes])


def _reason(each: CredentialChange) -> str:
    if not each.reason:
        return ""
    told = HASHED_REASON if is_hash(each.reason) else name(each.reason)
    return f'<span class="note">reason</span> {told}'


HASHED_REASON = (
    "hashed in the audit log; <code>skyflowctl audit report --server-roles</code> reads it from "
    "the server"
)


def _before_and_after(each: CredentialChange) -> str:
    """Return the live key of a credential, or the fields of a change; hashes stay as logged."""
    if each.key_id:
        return f'<span class="note">live key</span> {_code(each.key_id)}'
    if not each.fields:
        return NONE_CELL
    fields = "".join(f"<li>{_field(one)}</li>" for one in each.fields)
    summary = amount(len(each.fields), "field")
    return f"<details><summary>{summary}</summary><ul>{fields}</ul></details>"


def _field(one: FieldChange) -> str:
    before = f"{name(one.before)} \N{RIGHTWARDS ARROW} " if one.before else ""
    after = name(one.after) if one.after else '<span class="none">removed</span>'
    return f'<span class="note">{text(one.field)}</span> {before}{after}'


def grounds(report: Report) -> str:
    """Return the basis of the report: inputs with digests, range, counts and limits."""
    limits = "".join(
        f"<li><strong>{text(each.name)}</strong> {text(each.detail)}</li>" for each in report.limits
    )
    whole = (
        f'<h3>Limits reached</h3><ul class="limits">{limits}</ul>'
        if limits
        else '<p class="empty">No limits were reached; nothing was left out.</p>'
    )
    return f"{_facts(report)}{_damaged(report)}{whole}<h3>Inputs</h3>{_inputs(report)}"


def _facts(report: Report) -> str:
    counts, span = report.counts, report.range
    whole, copies = counts.requests, counts.duplicates
    asked = f"{_edge(span.since, 'the start of the log')} to {_edge(span.until, 'its end')}"
    read = f"{amount(counts.files, 'file')}, {size(counts.bytes)}, {amount(counts.lines, 'line')}"
    facts = [
        ("Period requested", asked),
        ("Requests and changes found", _found(report)),
        ("Log starts", time_cell(span.log_first)),
        ("Read", read),
        ("Token requests", f"{number(whole)} in the log, without duplicates"),
        (
            "Duplicates",
            f"{amount(copies, 'entry', 'entries')} from other devices or copies, not counted",
        ),
        ("Forwarded", f"{amount(counts.forwards, 'write')} passed from a standby to the leader"),
        (
            "Unmatched",
            f"{amount(counts.unpaired, 'entry', 'entries')} without a matching request or response",
        ),
    ]
    rows = "".join(f"<div><dt>{term}</dt><dd>{told}</dd></div>" for term, told in facts)
    return f'<dl class="facts">{rows}</dl>'


def _edge(value: datetime | None, otherwise: str) -> str:
    return otherwise if value is None else time_cell(value)


def _found(report: Report) -> str:
    if report.range.first is None:
        return "none in this period"
    return f"{time_cell(report.range.first)} to {time_cell(report.range.last)}"


def _damaged(report: Report) -> str:
    damaged = [(reason, count) for reason, count in report.counts.damaged if count]
    if not damaged:
        return '<p class="empty">Every log entry could be read.</p>'
    total = sum(count for _, count in damaged)
    rows = "".join(
        f"<li><strong>{number(count)}</strong> {text(reason)}</li>" for reason, count in damaged
    )
    heading = f"{amount(total, 'log entry', 'log entries')} could not be read"
    return f'<h3>{heading}</h3><ul class="limits">{rows}</ul>'


def _inputs(report: Report) -> str:
    if not report.inputs:
        return '<p class="empty">No files were read.</p>'
    columns = [
        HeadedColumn("File"),
        HeadedColumn("Bytes", "number"),
        HeadedColumn("SHA-256", wide=True),
    ]
    rows = [
        [
            Cell(name(each.name), each.name),
            Cell(number(each.bytes), each.bytes),
            Cell(_code(each.sha256), each.sha256),
        ]
        for each in report.inputs
    ]
    return table("inputs-table", "input files", columns, rows, (0, "ascending"))


def _code(value: str) -> str:
    return f"<code>{name(value)}</code>" if value else NONE_CELL


def _with_note(html: str, note: str) -> str:
    return f'{html} <span class="note">{note}</span>' if note else html


def _time(value: datetime) -> Cell:
    return Cell(time_cell(value, stacked=True), stamp(value))
