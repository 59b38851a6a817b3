"""What ``audit report`` tells, as frozen values: one for tables, JSON, CSV, HTML and evidence.

Times are aware UTC datetimes, hours are hours of the day in UTC, weekdays count from
Monday = 0. Texts are as the log has them: whoever shows them escapes them. A mount of a
namespace has the namespace's path in front.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from skyflowctl.audit.model import Counts, CredentialChange
from skyflowctl.audit.sources import Input

HOURS = 24
WEEKDAYS = 7


@dataclass(frozen=True, slots=True)
class Range:
    """Which time the report is about.

    Args:
        since: asked for; None: from the log's start. Included.
        until: asked for; None: to the log's end. Not included.
        first: the first request or change in the range; None: there is none.
        last: the last one.
        log_first: the first one in the log, before ``since`` too: what is unusual is told
            by what was there before.
    """

    since: datetime | None = None
    until: datetime | None = None
    first: datetime | None = None
    last: datetime | None = None
    log_first: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How requests ended; ``requests`` is the sum of the others."""

    requests: int = 0
    granted: int = 0
    denied: int = 0
    refused: int = 0
    failed: int = 0
    unknown: int = 0
    pending: int = 0

    @property
    def errors(self) -> int:
        """Requests that the log shows to have got no token."""
        return self.denied + self.refused + self.failed


class UnusualKind(StrEnum):
    """Which rule a finding breaks (``audit/unusual.py``), the most serious first."""

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
        kind: of the findings.
        text: the rule in words.
        not_applied: why it could not be applied to these logs; empty: it was applied.
    """

    kind: UnusualKind
    text: str
    not_applied: str = ""


@dataclass(frozen=True, slots=True)
class ReportSubject:
    """What the report is about: the cluster's name and the environment; empty: not named."""

    cluster: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Unusual:
    """One thing out of the ordinary.

    Args:
        kind: the rule.
        mount: without a trailing slash; empty: about no mount. The same for ``role``.
        role: of the engine.
        app: the login's own name; empty: about no app.
        auth: how it logged in; empty: not known.
        detail: one sentence for people, with the figures behind it.
        count: requests that it is about.
        granted: how many of them got a token.
        first: the first of them.
        last: the last of them.
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
        mount: without a trailing slash.
        role: of the engine.
        app: the login's own name.
        auth: how it logged in; empty: not known.
        tally: how its requests ended.
        distinct_ctx: different values of ctx; a request without one counts for none.
        more_ctx: there are more than that: the limit was reached.
        wrapped: granted behind a wrapping token.
        first: its first request in the range.
        last: its last one.
        busiest_hour: hour of the day, UTC, 0 to 23, with the most requests; the earliest
            of equal ones.
        busiest_count: requests in that hour of the day.
        unusual: kinds of what was unusual about it, sorted.
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


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One mount's requests over time, a figure for each of the series' buckets.

    Args:
        mount: without a trailing slash.
        requests: all of them.
        errors: those that were denied, refused or failed.
    """

    mount: str
    requests: tuple[int, ...]
    errors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Requests over time.

    Args:
        bucket_seconds: how long a bucket is: minutes, hours or days, so that there are
            at most ``report.BUCKETS_MAX``.
        starts: where each bucket starts, at equal distances, none left out.
        lines: the mounts, the busiest first.
    """

    bucket_seconds: int
    starts: tuple[datetime, ...]
    lines: tuple[SeriesLine, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """When in the week a mount is used: ``cells[weekday][hour]`` requests, 7 x 24, UTC."""

    mount: str
    cells: tuple[tuple[int, ...], ...]

    @property
    def hours(self) -> tuple[int, ...]:
        """Requests by hour of the day, 24 figures."""
        return tuple(sum(day[hour] for day in self.cells) for hour in range(HOURS))


@dataclass(frozen=True, slots=True)
class TopApp:
    """One app over all mounts; ``roles`` counts the roles (of all mounts) that it asked."""

    app: str
    auth: str
    tally: Tally
    roles: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of the whole range.

    Args:
        tally: of all requests, also of those whose row was left out.
        mounts: that were asked.
        roles: that were asked, over all mounts.
        apps: that asked.
        wrapped: tokens handed out behind a wrapping token.
        changes: of credentials.
        unusual: findings.
        probes: requests of ``config revoke`` that proved a cut-off; counted nowhere else.
    """

    tally: Tally
    mounts: int
    roles: int
    apps: int
    wrapped: int
    changes: int
    unusual: int
    probes: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """A stated limit that was reached, so that the report is not whole.

    Args:
        name: ``rows``, ``distinct-ctx``, ``changes`` or ``unusual``.
        limit: its value.
        left_out: requests (of rows), changes or findings that are not shown; of
            ``distinct-ctx`` the rows whose figure is a lower bound.
        detail: one sentence for people.
    """

    name: str
    limit: int
    left_out: int
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that ``audit report`` tells. The same logs give the same report.

    Args:
        range: which time it is about.
        inputs: the files that were read, sorted by name.
        counts: what was read of them, and what could not be used.
        totals: of the range.
        usage: rows by mount, role and app, sorted by these.
        unusual: findings, the most serious kind first, then by first time.
        changes: of credentials and of what else tokens rest on, in the order of time.
        series: requests over time, by mount.
        heat: by mount, in the order of the series' lines.
        top_apps: the apps with the most requests, at most ``report.TOP_APPS``.
        rules: how the unusual is detected, and which rules could not be applied.
        limits: that were reached; empty: the report is whole.
        subject: what it is about.
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
