"""Counts one app's requests on one role: a row of the report."""

from collections import Counter

from skyflowctl.audit.buckets import Timeline
from skyflowctl.audit.changes import SIGN
from skyflowctl.audit.groups import RequestGroup
from skyflowctl.audit.join import JoinedRow
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.report_model import HOURS, Tally, UnusualKind, Usage
from skyflowctl.audit.times import parse_utc
from skyflowctl.audit.unusual import Group, Habit, Pattern, UsageKey

CTX_MAX = 50_000
"""The most different values of ctx that are counted in one row."""
CTX_TOTAL_MAX = 500_000
"""The same for all rows: 50 MB. Beyond a limit the report says "more than"."""

_GRANTED = RequestOutcome.GRANTED
_ERRORS = frozenset({RequestOutcome.DENIED, RequestOutcome.REFUSED, RequestOutcome.FAILED})


class CtxBudget:
    """The number of ctx values that may still be kept, over all rows."""

    __slots__ = ("left",)

    def __init__(self, left: int = CTX_TOTAL_MAX) -> None:
        self.left = left


class UsageCounter:
    """Counts one row of the report.

    Requests of one minute (or hour) are added one by one, cheaply, and summed up together.
    """

    __slots__ = (
        "_bad",
        "_errors",
        "_hours",
        "_minute",
        "_run",
        "_run_first",
        "_run_last",
        "_timeline",
        "budget",
        "ctxs",
        "example",
        "first",
        "habit",
        "judged",
        "key",
        "last",
        "more_ctx",
        "not_granted",
        "outside",
        "pattern",
        "requests",
        "seen_first",
        "signed",
        "wrapped",
    )

    def __init__(
        self,
        key: UsageKey,
        timeline: Timeline,
        budget: CtxBudget,
        pattern: Pattern | None,
        time: str,
    ) -> None:
        self.key = key
        self.pattern = pattern
        self.budget = budget
        self.seen_first = time
        self.first = self.last = ""
        self.requests = self.wrapped = self.signed = 0
        self.not_granted: dict[str, int] = {}
        self.ctxs: set[int] = set()
        self.more_ctx = False
        self.outside = Group()
        self.example = ""
        self.habit = Habit()
        self.judged = False
        self._timeline = timeline
        self._hours = [0] * HOURS
        self._minute = self._run_first = self._run_last = ""
        self._run = self._bad = self._errors = 0

    def add(self, row: JoinedRow) -> None:
        """Add a request of the report's range."""
        time = row[0]
        minute = time[: self._timeline.apart]
        if minute != self._minute:
            self.close_period()
            self._minute = minute
            self._run_first = self._run_last = time
        elif time > self._run_last:
            self._run_last = time
        elif time < self._run_first:
            self._run_first = time
        self._run += 1
        self.signed += row[17] == SIGN
        outcome = row[7]
        if outcome is not _GRANTED:
            self._no_token(outcome)
        else:
            response = row[14].response
            if response is not None and response.wrap_info is not None:
                self.wrapped += 1
        ctx = row[5]
        if ctx:
            self._add_ctx(ctx, time, outcome, hashed=row[6])

    def add_group(self, group: RequestGroup) -> None:
        """Add requests that were counted together."""
        self.close_period()
        count, outcome = len(group.minutes), group.outcome
        if group.before:
            self.add_before(group.first, outcome, count)
            return
        self._minute = ""
        self._run, self._run_first, self._run_last = count, group.first, group.last
        if outcome is not _GRANTED:
            self._no_token(outcome, count)
        for ctx in group.ctxs:
            self._add_ctx(ctx, group.first, outcome, hashed=group.ctx_hashed)
        self.close_period(group.minutes)

    def add_before(self, time: str, outcome: RequestOutcome, count: int = 1) -> None:
        """Add requests before the range: they only serve to know what is usual."""
        self.habit.note(time, count)
        self._timeline.add_hour(self.key[0], time, count, count * (outcome in _ERRORS))
        self.seen_first = min(self.seen_first, time)

    def _no_token(self, outcome: RequestOutcome, count: int = 1) -> None:
        self.not_granted[outcome] = self.not_granted.get(outcome, 0) + count
        self._bad += count
        self._errors += count * (outcome in _ERRORS)

    def _add_ctx(self, ctx: str, time: str, outcome: RequestOutcome, *, hashed: bool) -> None:
        value = hash(ctx)
        if value not in self.ctxs:
            self._new_ctx(value)
        if self.pattern is not None and not hashed:
            self.judged = True
            if not self.pattern.matches(ctx):
                self._outside(ctx, time, outcome)

    def _new_ctx(self, value: int) -> None:
        if len(self.ctxs) >= CTX_MAX or self.budget.left <= 0:
            self.more_ctx = True
            return
        self.budget.left -= 1
        self.ctxs.add(value)

    def _outside(self, ctx: str, time: str, outcome: RequestOutcome) -> None:
        self.example = self.example or ctx
        self.outside.add(1, int(outcome is _GRANTED), time, time)

    def close_period(self, minutes: bytes = b"") -> None:
        """Sum up the requests of the minute or hour that has ended.

        Args:
            minutes: the minute of each request, if they are not of one minute.
        """
        run = self._run
        if not run:
            return
        first, last = self._run_first, self._run_last
        self.requests += run
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)
        self.seen_first = min(self.seen_first, first)
        self._hours[int(first[11:13])] += run
        if minutes and self._timeline.apart == len(first[:16]):
            for minute, number in Counter(minutes).items():
                errors = number if self._errors else 0
                self._timeline.add(self.key[0], f"{first[:13]}:{minute:02}", number, errors)
        else:
            self._timeline.add(self.key[0], first[:16], run, self._errors)
        if self.habit.note(first, run):
            self.habit.broken(run, run - self._bad, first, last)
        self._run = self._bad = self._errors = 0

    def tally(self) -> Tally:
        """Return the requests by outcome."""
        bad = self.not_granted
        return Tally(
            self.requests,
            self.requests - sum(bad.values()),
            denied=bad.get(RequestOutcome.DENIED, 0),
            refused=bad.get(RequestOutcome.REFUSED, 0),
            failed=bad.get(RequestOutcome.FAILED, 0),
            unknown=bad.get(RequestOutcome.UNKNOWN, 0),
            pending=bad.get(RequestOutcome.PENDING, 0),
        )

    def to_usage(self, unusual: tuple[UnusualKind, ...]) -> Usage:
        """Return the row. The app must have requests in the range."""
        busiest = max(range(HOURS), key=lambda hour: (self._hours[hour], -hour))
        return Usage(
            *self.key,
            tally=self.tally(),
            distinct_ctx=len(self.ctxs),
            more_ctx=self.more_ctx,
            wrapped=self.wrapped,
            signed=self.signed,
            first=parse_utc(self.first),
            last=parse_utc(self.last),
            busiest_hour=busiest,
            busiest_count=self._hours[busiest],
            unusual=unusual,
        )
