"""The result of ``audit report`` as frozen values, for tables, JSON, CSV, HTML and evidence.

Times are aware UTC datetimes, hours are hours of the day in UTC, weekdays count from
Monday = 0. Texts are as logged: code that shows them must escape them. The path of a mount is
prefixed with its namespace.
"""

from datetime import datetime
from enum import StrEnum

from skyflowctl.audit.model import Counts, CredentialChange
from skyflowctl.audit.sources import Input
from skyflowctl.frozen import dataclass

HOURS = 24
WEEKDAYS = 7


@dataclass(frozen=True, slots=True)
class Range:
    """The time range of the report.

    Args:
        since: the requested start, inclusive; None: the log's start.
        until: the requested end, exclusive; None: the log's end.
        first: the first request or change in the range; None if there is none.
        last: the last request or change in the range.
        log_first: the first one in the whole log, even before ``since``, because what is unusual
            is judged against earlier requests.
    """

    since: datetime | None = None
    until: datetime | None = None
    first: datetime | None = None
    last: datetime | None = None
    log_first: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of requests by outcome; ``requests`` is the sum of the others."""

    requests: int = 0
    granted: int = 0
    denied: int = 0
    refused: int = 0
    failed: int = 0
    unknown: int = 0
    pending: int = 0

    @property
    def errors(self) -> int:
        """The requests that got no token, as far as the log shows."""
        return self.denied + self.refused + self.failed


class UnusualKind(StrEnum):
    """The rule behind a finding (``audit/unusual.py``), the most serious first."""

    ROLE_ID_CHANGED = "role-id-changed-by-hand"
    ROOT_TOKEN = "root-token"  # noqa: S105 - a rule's name
    UNDECLARED_ROLE = "undeclared-role"
    FAILURE_JUMP = "failure-jump"
    FIRST_SEEN_APP = "first-seen-app"
    OUTSIDE_USUAL_HOURS = "outside-usual-hours"
    CTX_OUTSIDE_PATTERN = "ctx-outside-pattern"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of finding is detected.

    Args:
        kind: the kind of the findings.
        text: a description of the rule.
        not_applied: why it could not be applied to these logs; empty if it was.
    """

    kind: UnusualKind
    text: str
    not_applied: str = ""


@dataclass(frozen=True, slots=True)
class ReportSubject:
    """The cluster's name and the environment; empty if not named."""

    cluster: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Unusual:
    """One finding: something unusual.

    Args:
        kind: the rule.
        mount: the mount's path, without a trailing slash; empty if it concerns no mount.
        role: the engine's role; empty if it concerns no role.
        app: the login's own name; empty if it concerns no app.
        auth: how it logged in; empty if not known.
        detail: one sentence for people, with the figures behind the finding.
        count: the number of requests that it concerns.
        granted: how many of these requests got a token.
        first: the time of the first of these requests.
        last: the time of the last of these requests.
    """

    kind: UnusualKind
    mount: str
    role: str
    app: str
    auth: str
    detail: str
    count: int
    granted: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """One app's use of one role: a row of the report.

    Args:
        mount: the mount's path, without a trailing slash.
        role: the engine's role.
        app: the login's own name.
        auth: how it logged in; empty if not known.
        tally: its requests by outcome.
        distinct_ctx: the number of different values of ctx; requests without ctx do not count.
        more_ctx: whether the limit was reached, so that there are more values than that.
        wrapped: tokens that were issued behind a wrapping token.
        first: the time of its first request in the range.
        last: the time of its last request in the range.
        busiest_hour: the hour of the day (UTC, 0 to 23) with the most requests; of equal ones
            the earliest.
        busiest_count: the requests in that hour of the day.
        unusual: the kinds of findings about it, sorted.
        signed: requests for signed data tokens.
    """

    mount: str
    role: str
    app: str
    auth: str
    tally: Tally
    distinct_ctx: int
    more_ctx: bool
    wrapped: int
    first: datetime
    last: datetime
    busiest_hour: int
    busiest_count: int
    unusual: tuple[UnusualKind, ...] = ()
    signed: int = 0


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One mount's requests over time, with one count per bucket of the series.

    Args:
        mount: the mount's path, without a trailing slash.
        requests: all requests.
        errors: requests that were denied, refused or failed.
    """

    mount: str
    requests: tuple[int, ...]
    errors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Requests over time.

    Args:
        bucket_seconds: the length of a bucket: minutes, hours or days, so that there are
            at most ``report.BUCKETS_MAX``.
        starts: the start of each bucket, at equal intervals without gaps.
        lines: one line per mount, the busiest first.
    """

    bucket_seconds: int
    starts: tuple[datetime, ...]
    lines: tuple[SeriesLine, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A mount's requests by weekday and hour: ``cells[weekday][hour]``, 7 x 24, UTC."""

    mount: str
    cells: tuple[tuple[int, ...], ...]

    @property
    def hours(self) -> tuple[int, ...]:
        """Requests by hour of the day, 24 counts."""
        return tuple(sum(day[hour] for day in self.cells) for hour in range(HOURS))


@dataclass(frozen=True, slots=True)
class TopApp:
    """One app over all mounts; ``roles`` counts the roles (of all mounts) that it requested."""

    app: str
    auth: str
    tally: Tally
    roles: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of the whole range.

    Args:
        tally: all requests by outcome, including those whose row was left out.
        mounts: the number of mounts with requests.
        roles: the number of roles with requests, over all mounts.
        apps: the number of apps with requests.
        wrapped: tokens that were issued behind a wrapping token.
        changes: changes of credentials.
        unusual: findings.
        probes: requests of ``config revoke`` that verified a cut-off; counted nowhere else.
        signed: requests for signed data tokens.
    """

    tally: Tally
    mounts: int
    roles: int
    apps: int
    wrapped: int
    changes: int
    unusual: int
    probes: int = 0
    signed: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that was reached, so that the report is incomplete.

    Args:
        name: ``rows``, ``distinct-ctx``, ``changes`` or ``unusual``.
        limit: its value.
        left_out: requests (for ``rows``), changes or findings that are not shown; for
            ``distinct-ctx``, the rows whose count is a lower bound.
        detail: one sentence for people.
    """

    name: str
    limit: int
    left_out: int
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result of ``audit report``. The same logs give the same report.

    Args:
        range: the time range.
        inputs: the files that were read, sorted by name.
        counts: what was read from them, and what could not be used.
        totals: the totals of the range.
        usage: rows by mount, role and app, sorted by these.
        unusual: findings, the most serious kind first, then by first time.
        changes: changes of credentials and of anything else that affects tokens, in
            chronological order.
        series: requests over time, by mount.
        heat: heat maps by mount, in the order of the series' lines.
        top_apps: the apps with the most requests, at most ``report.TOP_APPS``.
        rules: how findings are detected, and which rules could not be applied.
        limits: the limits that were reached; empty if the report is complete.
        subject: the cluster and the environment.
    """

    range: Range
    inputs: tuple[Input, ...]
    counts: Counts
    totals: Totals
    usage: tuple[Usage, ...]
    unusual: tuple[Unusual, ...]
    changes: tuple[CredentialChange, ...]
    series: Series
    heat: tuple[HeatMap, ...]
    top_apps: tuple[TopApp, ...]
    rules: tuple[Rule, ...]
    limits: tuple[Limit, ...] = ()
    subject: ReportSubject = ReportSubject()
