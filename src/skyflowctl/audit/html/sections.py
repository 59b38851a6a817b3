"""The page's tables: what is unusual, every use, every credential change, and its grounds."""

from datetime import datetime

from skyflowctl.audit.html.tables import Cell, Column, table
from skyflowctl.audit.html.text import (
    NOTHING,
    app,
    counted,
    moment,
    name,
    number,
    size,
    stamp,
    text,
)
from skyflowctl.audit.model import ChangeKind, CredentialChange, Outcome
from skyflowctl.audit.report_model import Report, Tally, Unusual, UnusualKind, Usage

KINDS = {
    UnusualKind.FIRST_SEEN_APP: "First-seen app",
    UnusualKind.OUTSIDE_USUAL_HOURS: "Outside usual hours",
    UnusualKind.CTX_OUTSIDE_PATTERN: "Ctx outside pattern",
}
CHANGES = {
    ChangeKind.WRITE: "Credential written",
    ChangeKind.ROTATION_OPENED: "Rotation opened",
    ChangeKind.ROTATION_WRITTEN: "Rotation: new key written",
    ChangeKind.ROTATION_COMMITTED: "Rotation committed",
    ChangeKind.ROLLBACK: "Rolled back",
    ChangeKind.KEPT_DESTROYED: "Kept credential destroyed",
    ChangeKind.REVOKED: "Revoked (cut off)",
}
OUTCOMES = {
    Outcome.GRANTED: "Done",
    Outcome.DENIED: "Denied",
    Outcome.REFUSED: "Refused",
    Outcome.FAILED: "Failed",
    Outcome.UNKNOWN: "Unknown",
    Outcome.PENDING: "Awaiting approval",
}


def unusual(report: Report) -> str:
    """Return the findings, and the rules that they are told by."""
    rules = "".join(f"<li>{text(rule)}</li>" for rule in report.rules)
    told = (
        '<details class="rules"><summary>How the unusual is told</summary>'
        f"<ul>{rules}</ul></details>"
    )
    if not report.unusual:
        return f'<p class="empty">Nothing unusual was found by these rules.</p>{told}'
    columns = [
        Column("What"),
        Column("App"),
        Column("Mount"),
        Column("Role"),
        Column("Why", wide=True),
        Column("Requests", "number"),
        Column("First (UTC)", "time"),
        Column("Last (UTC)", "time"),
    ]
    rows = [_finding(each) for each in report.unusual]
    return table("unusual-table", "unusual findings", columns, rows) + told


def _finding(each: Unusual) -> list[Cell]:
    got = "" if each.granted == each.count else f"{number(each.granted)} with a token"
    return [
        Cell(f'<span class="kind">{KINDS[each.kind]}</span>', KINDS[each.kind]),
        Cell(app(each.app, each.auth), each.app),
        Cell(name(each.mount), each.mount),
        Cell(name(each.role), each.role),
        Cell(f"<bdi>{text(each.detail)}</bdi>"),
        Cell(_with_note(number(each.count), got), each.count),
        _time(each.first),
        _time(each.last),
    ]


def usage(report: Report) -> str:
    """Return every use of a role by an app, the heaviest first."""
    if not report.usage:
        return '<p class="empty">No request for a token in this range.</p>'
    columns = [
        Column("App"),
        Column("Mount"),
        Column("Role"),
        Column("Requests", "number"),
        Column("No token", "number"),
        Column("Distinct ctx", "number"),
        Column("Busiest hour (UTC)", "number"),
        Column("First (UTC)", "time"),
        Column("Last (UTC)", "time"),
        Column("Unusual"),
    ]
    heaviest = sorted(
        report.usage,
        key=lambda row: (-row.tally.requests, row.mount, row.role, row.app, row.auth),
    )
    rows = [_use(each) for each in heaviest]
    return table("usage-table", "uses of a role by an app", columns, rows, (3, "descending"))


def _use(each: Usage) -> list[Cell]:
    ctx = f"over {number(each.distinct_ctx)}" if each.more_ctx else number(each.distinct_ctx)
    busiest = f"{each.busiest_hour:02}:00"
    kinds = ", ".join(KINDS[kind] for kind in each.unusual)
    wrapped = f"{number(each.wrapped)} wrapped" if each.wrapped else ""
    return [
        Cell(app(each.app, each.auth), each.app),
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
        (tally.unknown, "of unknown end"),
        (tally.pending, "awaiting approval"),
    ]
    return ", ".join(f"{number(count)} {word}" for count, word in parts if count)


def changes(report: Report) -> str:
    """Return the changes of credentials, in the order of time."""
    if not report.changes:
        return '<p class="empty">No credential was changed in this range.</p>'
    columns = [
        Column("Time (UTC)", "time"),
        Column("Mount"),
        Column("What"),
        Column("Live key", wide=True),
        Column("By"),
        Column("Outcome"),
        Column("Run"),
        Column("Request", wide=True),
    ]
    rows = [_change(each) for each in report.changes]
    return table("changes-table", "credential changes", columns, rows, (0, "ascending"))


def _change(each: CredentialChange) -> list[Cell]:
    who = each.caller.app or each.caller.display_name
    outcome = OUTCOMES[each.outcome]
    return [
        _time(each.time),
        Cell(name(each.mount), each.mount),
        Cell(CHANGES[each.kind]),
        Cell(_code(each.key_id), each.key_id),
        Cell(app(who, each.caller.auth), who),
        Cell(
            outcome if each.outcome is Outcome.GRANTED else f'<span class="kind">{outcome}</span>'
        ),
        Cell(_code(each.run_id), each.run_id),
        Cell(_with_note(_code(each.request_id), f"on {name(each.node)}"), each.request_id),
    ]


def grounds(report: Report) -> str:
    """Return what the report rests on: inputs with digests, range, counts and limits."""
    limits = "".join(
        f"<li><strong>{text(each.name)}</strong> {text(each.detail)}</li>" for each in report.limits
    )
    whole = (
        f'<h3>Limits that were reached</h3><ul class="limits">{limits}</ul>'
        if limits
        else '<p class="empty">No limit was reached: the report is whole.</p>'
    )
    return f"{_facts(report)}{_damaged(report)}{whole}<h3>Inputs</h3>{_inputs(report)}"


def _facts(report: Report) -> str:
    counts, span = report.counts, report.range
    whole, copies = counts.requests, counts.duplicates
    asked = f"{_edge(span.since, 'the start of the log')} to {_edge(span.until, 'its end')}"
    read = f"{counted(counts.files, 'file')}, {size(counts.bytes)}, {counted(counts.lines, 'line')}"
    facts = [
        ("Asked for", asked),
        ("Found", _found(report)),
        ("Log begins", moment(span.log_first)),
        ("Read", read),
        ("Requests for tokens", f"{number(whole)} in the log, each counted once"),
        (
            "Duplicates",
            f"{counted(copies, 'entry', 'entries')} of other devices or copies left out",
        ),
        ("Forwards", f"{counted(counts.forwards, 'write')} handed from a standby to the leader"),
        ("Unpaired", f"{counted(counts.unpaired, 'entry', 'entries')} without a counterpart"),
    ]
    rows = "".join(f"<div><dt>{term}</dt><dd>{told}</dd></div>" for term, told in facts)
    return f'<dl class="facts">{rows}</dl>'


def _edge(value: datetime | None, otherwise: str) -> str:
    return otherwise if value is None else moment(value)


def _found(report: Report) -> str:
    if report.range.first is None:
        return "nothing in this range"
    return f"{moment(report.range.first)} to {moment(report.range.last)}"


def _damaged(report: Report) -> str:
    damaged = [(reason, count) for reason, count in report.counts.damaged if count]
    if not damaged:
        return '<p class="empty">No line was damaged.</p>'
    total = sum(count for _, count in damaged)
    rows = "".join(
        f"<li><strong>{number(count)}</strong> {text(reason)}</li>" for reason, count in damaged
    )
    return f'<h3>{counted(total, "damaged line")}, not used</h3><ul class="limits">{rows}</ul>'


def _inputs(report: Report) -> str:
    if not report.inputs:
        return '<p class="empty">No file was read.</p>'
    columns = [Column("File"), Column("Bytes", "number"), Column("SHA-256", wide=True)]
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
    return f"<code>{name(value)}</code>" if value else NOTHING


def _with_note(html: str, note: str) -> str:
    return f'{html} <span class="note">{note}</span>' if note else html


def _time(value: datetime) -> Cell:
    return Cell(moment(value, stacked=True), stamp(value))
