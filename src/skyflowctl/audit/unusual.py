"""What is unusual: three rules, each stated in words where its findings are shown.

They look at one app's requests on one role at a time, against what the log holds before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from skyflowctl.audit.report_model import HOURS, Unusual, UnusualKind
from skyflowctl.audit.times import moment

KNOWN_DAYS = 7
"""So many days of log must lie before an app's first request on a role."""
HABIT_REQUESTS = 200
"""So many earlier requests make a habit,"""
HABIT_DAYS = 5
"""on so many earlier days."""
RARE_PERCENT = 1
"""An hour of the day that, with the one before and the one after it, has less than this
share of them is outside the usual. One hour alone would be chance where an app asks evenly
but seldom, and a nightly job that starts at 01:59 for once is no news."""

_DETAIL_CTX_MAX = 80


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a role's ctx must look like: as its owner wrote it, and as a check."""

    text: str
    matches: Callable[[str], bool]


Patterns = Mapping[tuple[str, str], Pattern]
"""By mount path and role."""

Key = tuple[str, str, str, str]
"""Mount, role, app, and how it logged in."""


class Group:
    """Requests that share what is unusual about them."""

    __slots__ = ("count", "first", "granted", "last")

    def __init__(self) -> None:
        self.count = self.granted = 0
        self.first = self.last = ""

    def add(self, count: int, granted: int, first: str, last: str) -> None:
        """Take in requests between two times."""
        self.count += count
        self.granted += granted
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)

    def told(self, kind: UnusualKind, key: Key, detail: str) -> Unusual:
        """Return the finding."""
        first, last = moment(self.first), moment(self.last)
        return Unusual(kind, *key, detail, self.count, self.granted, first, last)


class Habit:
    """At which hours of the day an app asks; today's requests do not count as habit yet."""

    __slots__ = ("_before", "_day", "_days", "_hours", "_requests", "_then", "_today", "_total")

    def __init__(self) -> None:
        self._before = [0] * HOURS
        self._today = [0] * HOURS
        self._total = self._days = 0
        self._day = ""
        self._hours: set[int] = set()
        self._requests = Group()
        self._then: tuple[list[int], int, int] = self._before, 0, 0

    def note(self, time: str, count: int) -> bool:
        """Take in requests of one hour; return whether that is outside the usual."""
        day = time[:10]
        if day > self._day:
            self._next_day(day)
        hour = int(time[11:13])
        self._today[hour] += count
        if self._total < HABIT_REQUESTS or self._days < HABIT_DAYS:
            return False
        return _around(self._before, hour) * 100 < self._total * RARE_PERCENT

    def _next_day(self, day: str) -> None:
        if self._day:
            # A new list: the old one may be what a finding was told by.
            self._before = [old + new for old, new in zip(self._before, self._today, strict=True)]
            self._today = [0] * HOURS
            self._total = sum(self._before)
            self._days += 1
        self._day = day

    def broken(self, count: int, granted: int, first: str, last: str) -> None:
        """Take in that these requests, just noted, are to be told."""
        if not self._hours:
            self._then = self._before, self._total, self._days
        self._hours.add(int(first[11:13]))
        self._requests.add(count, granted, first, last)

    def told(self, key: Key) -> Unusual | None:
        """Return the finding, with the hours that were usual when it began; None: none."""
        if not self._hours:
            return None
        before, total, days = self._then
        usual = [hour for hour in range(HOURS) if before[hour] * 100 >= total * RARE_PERCENT]
        detail = (
            f"asked at {_spans(sorted(self._hours))} UTC; usual until then were {_spans(usual)} "
            f"({total} requests on {days} days)"
        )
        return self._requests.told(UnusualKind.OUTSIDE_USUAL_HOURS, key, detail)


def _around(hours: list[int], hour: int) -> int:
    """Return the requests of an hour of the day, the one before it and the one after."""
    return hours[hour - 1] + hours[hour] + hours[(hour + 1) % HOURS]


def _spans(hours: list[int]) -> str:
    """Write hours of the day as spans: ``08-17h, 22h``."""
    spans: list[list[int]] = []
    for hour in hours:
        if spans and spans[-1][1] == hour - 1:
            spans[-1][1] = hour
        else:
            spans.append([hour, hour])
    words = [f"{start:02}-{end:02}h" if start != end else f"{start:02}h" for start, end in spans]
    return ", ".join(words) or "none"


def first_seen_detail(days: int, others: int) -> str:
    """Say since when the log would have shown this app.

    Args:
        days: of log before its first request.
        others: apps that asked for this role before.
    """
    role = {0: "nobody asked for this role before", 1: "one app asked for this role before"}
    before = role.get(others, f"{others} apps asked for this role before")
    return f"first request on this role after {days} days of log; {before}"


def ctx_detail(pattern: Pattern, example: str) -> str:
    """Say what a ctx looked like, and should."""
    shown = example[:_DETAIL_CTX_MAX] + ("..." if len(example) > _DETAIL_CTX_MAX else "")
    return f"ctx {shown} is not {pattern.text}, the role's pattern"


def rules(*, patterns: bool) -> tuple[str, ...]:
    """Return the rules in words.

    Args:
        patterns: the roles' patterns are known.
    """
    ctx = (
        "ctx-outside-pattern: a ctx that stands in plain and is not what the role's pattern "
        "says now; hashed ones cannot be judged"
    )
    if not patterns:
        ctx = "ctx-outside-pattern: not judged, because no role's pattern is known here"
    first = (
        f"first-seen-app: an app's first request on a role in the log, with at least "
        f"{KNOWN_DAYS} days of log before it"
    )
    hours = (
        f"outside-usual-hours: an hour of the day (UTC) that, with the hours before and after "
        f"it, has less than {RARE_PERCENT} % of what the app asked of the role on earlier days, "
        f"if these are at least {HABIT_REQUESTS} requests on {HABIT_DAYS} days"
    )
    return first, ctx, hours
