"""Builds ``audit report``: one pass over the rows of a scan, in bounded memory.

The limits are ``ROWS_MAX`` rows, ``CTX_MAX`` and ``CTX_TOTAL_MAX`` values of ctx,
``CHANGES_MAX`` changes, ``UNUSUAL_MAX`` findings and ``CELLS_MAX`` minutes of the series.
``Report.limits`` lists what a limit left out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, field, replace
from datetime import UTC, datetime, timedelta

from skyflowctl.audit.buckets import BUCKETS_MAX, CELLS_MAX, HOURS_MAX, Timeline
from skyflowctl.audit.changes import is_cut_off
from skyflowctl.audit.groups import GroupScope, RequestGroup
from skyflowctl.audit.join import JoinedRow, is_root
from skyflowctl.audit.model import ChangeKind, Counts, CredentialChange, RequestOutcome
from skyflowctl.audit.query import in_namespace
from skyflowctl.audit.reorder import credential_change
from skyflowctl.audit.report_model import (
    Limit,
    Range,
    Report,
    ReportSubject,
    Tally,
    TopApp,
    Totals,
    Unusual,
    UnusualKind,
    Usage,
)
from skyflowctl.audit.scan import scan
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.sources import Input, Sources
from skyflowctl.audit.times import parse_utc
from skyflowctl.audit.unusual import (
    KNOWN_DAYS,
    Grounds,
    Group,
    Patterns,
    UsageKey,
    ctx_detail,
    failure_jumps,
    first_seen_detail,
    rules,
)
from skyflowctl.audit.unwanted import RootUses, role_id_changed, undeclared_detail
from skyflowctl.audit.usage import CTX_MAX, CTX_TOTAL_MAX, CtxBudget, UsageCounter
from skyflowctl.frozen import dataclass

__all__ = [
    "BUCKETS_MAX",
    "CELLS_MAX",
    "CTX_MAX",
    "CTX_TOTAL_MAX",
    "ReportScope",
    "Reporter",
    "report",
]

ROWS_MAX = 10_000
"""The most combinations of mount, role and app that are counted: 30 MB."""
CHANGES_MAX = 10_000
UNUSUAL_MAX = 1_000
TOP_APPS = 20

_SERIOUS = tuple(UnusualKind)


def _any(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ReportScope:
    """The scope of a report.

    Args:
        since: the first moment, inclusive; earlier requests count only as habit. None: all.
        until: the end, exclusive. None: all.
        mount: tests whether a mount (prefixed with its namespace) is in scope.
        role: tests whether a role is in scope. Changes of credentials are reported for all
            roles and all apps.
        app: tests whether an app is in scope.
        patterns: the ctx patterns of the roles; None if not known.
        declared: mount and role of the declared roles; None if not known.
        subject: the cluster and environment of the report.
    """

    since: datetime | None = None
    until: datetime | None = None
    mount: Callable[[str], bool] = _any
    role: Callable[[str], bool] = _any
    app: Callable[[str], bool] = _any
    patterns: Patterns | None = None
    declared: frozenset[tuple[str, str]] | None = None
    subject: ReportSubject = field(default_factory=ReportSubject)


@dataclass
class Reporter:
    """Adds up rows; used once.

    Args:
        asked: the scope.
    """

    asked: ReportScope = field(default_factory=ReportScope)

    def __post_init__(self) -> None:
        self._uses: dict[UsageKey, UsageCounter] = {}
        self._timeline = Timeline()
        self._budget = CtxBudget()
        self._since = _text(self.asked.since) or ""
        self._until = _text(self.asked.until) or "~"
        self._log_first = "~"
        self._log_last = ""
        self._root = RootUses()
        self._changes: list[CredentialChange] = []
        self._changes_left_out = self._requests_left_out = 0
        self._first_run = "~"
        self._cut_offs: set[tuple[str, str]] = set()
        self._probes = 0

    def add(self, rows: Iterable[JoinedRow]) -> None:
        """Add rows, in nearly chronological order."""
        uses, since, until = self._uses, self._since, self._until
        last = ""
        for row in rows:
            time = row[0]
            if time >= until:
                continue
            self._log_first = min(self._log_first, time)
            last = max(last, time)
            if is_root(row[14].auth):
                self._as_root(row)
            if row[13] is not None:
                self._change(row)
                continue
            if row[9] and self._is_probe(row):
                self._probes += time >= since and self.asked.mount(placed(row))
                continue
            namespace = row[14].request.namespace
            plain = namespace is None or namespace.id == "root"
            key = (row[1] if plain else placed(row), row[2], row[3], row[4])
            use = uses.get(key)
            if use is None and (use := self._new(key, time)) is None:
                continue
            if time < since:
                use.add_before(time, row[7])
            else:
                use.add(row)
        self._log_last = max(self._log_last, last)

    @property
    def scope(self) -> GroupScope:
        """Which requests may be counted together."""
        return GroupScope(self._since, self._until, single=self.asked.patterns is not None)

    def has_room(self, groups: int, ctxs: int) -> bool:
        """Return whether so many groups and values of ctx reach no limit: whose they are then
        depends on the order of the requests."""
        uses, hours, left = len(self._uses), len(self._timeline.hours), self._budget.left
        return not (
            uses < ROWS_MAX < uses + groups or hours < HOURS_MAX < hours + groups or 0 < left < ctxs
        )

    def add_group(self, group: RequestGroup) -> None:
        """Add requests that were counted together."""
        self._log_first = min(self._log_first, group.first)
        self._log_last = max(self._log_last, group.last)
        key = (placed(group), group.role, group.app, group.auth)
        use = self._uses.get(key)
        if use is None:
            use = self._new(key, group.first, len(group.minutes))
        if use is not None:
            use.add_group(group)

    def _new(self, key: UsageKey, time: str, count: int = 1) -> UsageCounter | None:
        """Return a new row's figures; None if it is out of scope or exceeds ``ROWS_MAX``."""
        mount, role, app, _ = key
        asked = self.asked
        if not (asked.mount(mount) and asked.role(role) and asked.app(app)):
            return None
        if len(self._uses) >= ROWS_MAX:
            self._requests_left_out += count * (time >= self._since)
            return None
        pattern = (asked.patterns or {}).get((mount, role))
        use = self._uses[key] = UsageCounter(key, self._timeline, self._budget, pattern, time)
        return use

    def _as_root(self, row: JoinedRow) -> None:
        if row.time >= self._since and self.asked.app(row.app):
            self._root.add(row)

    def _is_probe(self, row: JoinedRow) -> bool:
        """Whether ``config revoke`` sent a request to verify its own cut-off."""
        refused = row.outcome is RequestOutcome.REFUSED
        return refused and (row.mount, row.run_id) in self._cut_offs

    def _change(self, row: JoinedRow) -> None:
        if is_cut_off(credential_change(row)):
            self._cut_offs.add((row.mount, row.run_id))
        if row.run_id:
            self._first_run = min(self._first_run, row.time)
        mount = placed(row) if row.mount else ""
        is_asked = not mount or self.asked.mount(mount)
        if row.change is ChangeKind.ROOT_TOKEN_USED or row.time < self._since or not is_asked:
            return
        if len(self._changes) >= CHANGES_MAX:
            self._changes_left_out += 1
            return
        self._changes.append(replace(credential_change(row), mount=mount))

    def report(self, inputs: Sequence[Input], counts: Counts) -> Report:
        """Return the report of all rows.

        Args:
            inputs: the files that the rows were read from.
            counts: the counts of the completed scan.
        """
        for use in self._uses.values():
            use.close_period()
        uses = [self._uses[key] for key in sorted(self._uses) if self._uses[key].requests]
        unusual, failures_judged = self._unusual(uses)
        kinds = _by_key(unusual)
        usage = tuple(use.to_usage(tuple(sorted(kinds.get(use.key, ())))) for use in uses)
        changes = tuple(sorted(self._changes, key=lambda each: (each.time, each.request_id)))
        series = self._timeline.series()
        return Report(
            range=self._range(usage, changes),
            inputs=tuple(inputs),
            counts=counts,
            totals=self._totals(usage, len(unusual)),
            usage=usage,
            unusual=tuple(unusual[:UNUSUAL_MAX]),
            changes=changes,
            series=series,
            heat=self._timeline.heat(line.mount for line in series.lines),
            top_apps=_top_apps(usage),
            rules=rules(self._grounds(failures=failures_judged)),
            limits=tuple(self._limits(usage, len(unusual))),
            subject=self.asked.subject,
        )

    def _grounds(self, *, failures: bool) -> Grounds:
        """Return the data for the rules; ``failures``: a share of failures could be judged."""
        asked, uses, days = self.asked, self._uses.values(), None
        if self._log_last:
            days = (parse_utc(self._log_last) - parse_utc(self._log_first)).days
        return Grounds(
            days=days,
            habits=any(use.habit.is_known for use in uses),
            patterns=asked.patterns is not None,
            plain=any(use.judged for use in uses),
            failures=failures and not self._timeline.hours_left_out,
            declared=asked.declared is not None,
            runs=self._first_run != "~",
        )

    def _unusual(self, uses: Sequence[UsageCounter]) -> tuple[list[Unusual], bool]:
        """Return the findings, and whether any mount's share of failures could be judged."""
        jumps, judged = failure_jumps(self._timeline.hours, self._since)
        found = [*self._first_seen(uses), *jumps, *self._root.findings(), *self._undeclared(uses)]
        # Before the first run id in the log, the server may not have logged run ids.
        later = (one for one in self._changes if (_text(one.time) or "") > self._first_run)
        found += [each for change in later if (each := role_id_changed(change))]
        for use in uses:
            if use.pattern is not None and use.outside.count:
                detail = ctx_detail(use.pattern, use.example)
                found.append(use.outside.finding(UnusualKind.CTX_OUTSIDE_PATTERN, use.key, detail))
            if (habit := use.habit.finding(use.key)) is not None:
                found.append(habit)
        found.sort(key=lambda each: (_SERIOUS.index(each.kind), each.first, _key(each)))
        return found, judged

    def _undeclared(self, uses: Sequence[UsageCounter]) -> Iterator[Unusual]:
        """Report the uses of undeclared roles that gave tokens."""
        declared = self.asked.declared
        if declared is None:
            return
        mounts = {mount for mount, _ in declared}
        for use in uses:
            tally = use.tally()
            if use.key[:2] not in declared and tally.granted:
                group = Group()
                group.add(tally.requests, tally.granted, use.first, use.last)
                detail = undeclared_detail(known_mount=use.key[0] in mounts)
                yield group.finding(UnusualKind.UNDECLARED_ROLE, use.key, detail)

    def _first_seen(self, uses: Sequence[UsageCounter]) -> Iterator[Unusual]:
        """Report the apps whose first request on a role is late in the log."""
        starts: dict[tuple[str, str], list[str]] = {}
        for known in self._uses.values():
            starts.setdefault(known.key[:2], []).append(known.seen_first)
        for use in uses:
            first = use.seen_first
            known_for = parse_utc(first) - parse_utc(self._log_first)
            if first < self._since or known_for < timedelta(days=KNOWN_DAYS):
                continue
            others = sum(start < first for start in starts[use.key[:2]])
            detail = first_seen_detail(known_for.days, others)
            tally = use.tally()
            group = Group()
            group.add(tally.requests, tally.granted, use.first, use.last)
            yield group.finding(UnusualKind.FIRST_SEEN_APP, use.key, detail)

    def _range(self, usage: Sequence[Usage], changes: Sequence[CredentialChange]) -> Range:
        times = [each.time for each in changes]
        firsts, lasts = [each.first for each in usage], [each.last for each in usage]
        return Range(
            since=self.asked.since,
            until=self.asked.until,
            first=min([*firsts, *times], default=None),
            last=max([*lasts, *times], default=None),
            log_first=None if self._log_first == "~" else parse_utc(self._log_first),
        )

    def _totals(self, usage: Sequence[Usage], unusual: int) -> Totals:
        return Totals(
            tally=_sum(each.tally for each in usage),
            mounts=len({each.mount for each in usage}),
            roles=len({(each.mount, each.role) for each in usage}),
            apps=len({(each.app, each.auth) for each in usage}),
            wrapped=sum(each.wrapped for each in usage),
            signed=sum(each.signed for each in usage),
            changes=len(self._changes) + self._changes_left_out,
            unusual=unusual,
            probes=self._probes,
        )

    def _limits(self, usage: Sequence[Usage], unusual: int) -> Iterator[Limit]:
        """Return the limits that were reached."""
        if out := self._requests_left_out:
            yield Limit("rows", ROWS_MAX, out, f"{out} requests by other apps are not counted")
        if more := sum(each.more_ctx for each in usage):
            detail = f"rows with more distinct ctx than that: {more}"
            yield Limit("distinct-ctx", CTX_MAX, more, detail)
        if out := self._changes_left_out:
            yield Limit("changes", CHANGES_MAX, out, f"{out} later changes are not listed")
        if (out := unusual - UNUSUAL_MAX) > 0:
            yield Limit("unusual", UNUSUAL_MAX, out, f"{out} further findings are not listed")


def placed(row: JoinedRow | RequestGroup) -> str:
    """Return a row's mount, prefixed with its namespace unless that is the root."""
    namespace = row.entry.request.namespace
    if namespace is None or namespace.id == "root":
        return row.mount
    return in_namespace(row.mount, namespace.path or namespace.id)


def _text(time: datetime | None) -> str | None:
    """Return a time in the format of rows, without trailing zeros, for comparison."""
    if time is None:
        return None
    text = time.astimezone(UTC).replace(tzinfo=None).isoformat()
    return text.rstrip("0") if "." in text else text


def _key(found: Unusual) -> UsageKey:
    return found.mount, found.role, found.app, found.auth


def _by_key(unusual: Sequence[Unusual]) -> dict[UsageKey, set[UnusualKind]]:
    found: dict[UsageKey, set[UnusualKind]] = {}
    for each in unusual:
        found.setdefault(_key(each), set()).add(each.kind)
    return found


def _sum(tallies: Iterable[Tally]) -> Tally:
    columns = [astuple(each) for each in tallies]
    return Tally(*(sum(column) for column in zip(*columns, strict=True)))


def _top_apps(usage: Sequence[Usage]) -> tuple[TopApp, ...]:
    apps: dict[tuple[str, str], list[Usage]] = {}
    for each in usage:
        apps.setdefault((each.app, each.auth), []).append(each)
    found = [
        TopApp(app, auth, _sum(each.tally for each in rows), len(rows))
        for (app, auth), rows in apps.items()
    ]
    found.sort(key=lambda each: (-each.tally.requests, each.app, each.auth))
    return tuple(found[:TOP_APPS])


def report(
    sources: Sources, options: ScanOptions | None = None, asked: ReportScope | None = None
) -> Report:
    """Read the logs once, and return their report."""
    reading = scan(sources, replace(options or ScanOptions(), every_change=True))
    adding = Reporter(asked or ReportScope())
    adding.add(reading.rows(adding))
    return adding.report(sources.inputs(), reading.counts())
