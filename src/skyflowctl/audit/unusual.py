"""Detects what is unusual, by seven rules, which the report describes beside its findings.

Three rules compare one app's requests on one role with the earlier log. One looks at a
mount's share of failures. Three look for what should not exist at all. A rule for which these
logs have too little data is reported as not applied.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from skyflowctl.audit.report_model import HOURS, Rule, Unusual, UnusualKind
from skyflowctl.audit.times import parse_utc
from skyflowctl.frozen import dataclass
from skyflowctl.text import counted

KNOWN_DAYS = 7
"""The days of log that must precede an app's first request on a role."""
HABIT_REQUESTS = 200
"""The earlier requests that make a habit."""
HABIT_DAYS = 5
"""The earlier days on which they must occur."""
RARE_PERCENT = 1
"""An hour of the day is unusual if it has, together with the hours before and after it, less
than this share of the earlier requests. A single hour would be chance for an app that asks
evenly but rarely, and a nightly job that once starts at 01:59 is not unusual."""

JUMP_REQUESTS = 20
"""The requests in an hour that are enough for a share of failures."""
JUMP_PERCENT = 20
"""The share of failures that is high."""
JUMP_TIMES = 3
"""A high share is a jump if it is at least so many times the earlier share."""
JUMP_BASE = 200
"""The earlier requests that are enough for an earlier share."""

_DETAIL_CTX_MAX = 80


@dataclass(frozen=True, slots=True)
class Pattern:
    """A role's ctx pattern: as its owner wrote it, and as a check."""

    text: str
    matches: Callable[[str], bool]


Patterns = Mapping[tuple[str, str], Pattern]
"""By mount path and role."""

UsageKey = tuple[str, str, str, str]
"""Mount, role, app, and how it logged in."""


class Group:
    """Requests that are unusual for the same reason."""

    __slots__ = ("count", "first", "granted", "last")

    def __init__(self) -> None:
        self.count = self.granted = 0
        self.first = self.last = ""

    def add(self, count: int, granted: int, first: str, last: str) -> None:
        """Add requests between two times."""
        self.count += count
        self.granted += granted
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)

    def finding(self, kind: UnusualKind, key: UsageKey, detail: str) -> Unusual:
        """Return the finding."""
        first, last = parse_utc(self.first), parse_utc(self.last)
        return Unusual(kind, *key, detail, self.count, self.granted, first, last)


class Habit:
    """The hours of the day at which an app asks; requests of the current day do not count yet."""

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
        """Add requests of one hour; return whether that hour is unusual."""
        day = time[:10]
        if day > self._day:
            self._next_day(day)
        hour = int(time[11:13])
        self._today[hour] += count
        if not self.is_known:
            return False
        return _around(self._before, hour) * 100 < self._total * RARE_PERCENT

    def _next_day(self, day: str) -> None:
        if self._day:
            # A new list, because a finding may still refer to the old one.
            self._before = [old + new for old, new in zip(self._before, self._today, strict=True)]
            self._today = [0] * HOURS
            self._total = sum(self._before)
            self._days += 1
        self._day = day

    @property
    def is_known(self) -> bool:
        """Whether there are enough earlier requests to know what is usual."""
        return self._total >= HABIT_REQUESTS and self._days >= HABIT_DAYS

    def broken(self, count: int, granted: int, first: str, last: str) -> None:
        """Add the requests that were just recorded to the finding."""
        if not self._hours:
            self._then = self._before, self._total, self._days
        self._hours.add(int(first[11:13]))
        self._requests.add(count, granted, first, last)

    def finding(self, key: UsageKey) -> Unusual | None:
        """Return the finding, with the hours that were usual when it began; None without one."""
        if not self._hours:
            return None
        before, total, days = self._then
        usual = [hour for hour in range(HOURS) if before[hour] * 100 >= total * RARE_PERCENT]
        detail = (
            f"requests at {_spans(sorted(self._hours))} UTC; usual until then: {_spans(usual)} "
            f"({total} requests on {days} days)"
        )
        return self._requests.finding(UnusualKind.OUTSIDE_USUAL_HOURS, key, detail)


def _around(hours: list[int], hour: int) -> int:
    """Return the requests of an hour of the day, the hour before and the hour after."""
    return hours[hour - 1] + hours[hour] + hours[(hour + 1) % HOURS]


def _spans(hours: list[int]) -> str:
    """Format hours of the day as spans: ``08-17h, 22h``."""
    spans: list[list[int]] = []
    for hour in hours:
        if spans and spans[-1][1] == hour - 1:
            spans[-1][1] = hour
        else:
            spans.append([hour, hour])
    words = [f"{start:02}-{end:02}h" if start != end else f"{start:02}h" for start, end in spans]
    return ", ".join(words) or "none"


def first_seen_detail(days: int, others: int) -> str:
    """Return how long the log covers in which this app does not occur.

    Args:
        days: the days of log before its first request.
        others: the number of apps that asked for this role before.
    """
    role = {0: "no app requested this role before", 1: "one app requested this role before"}
    before = role.get(others, f"{others} apps requested this role before")
    return f"first request on this role after {days} days of log; {before}"


def ctx_detail(pattern: Pattern, example: str) -> str:
    """Return the ctx that was sent, and the pattern that it should match."""
    shown = example[:_DETAIL_CTX_MAX] + ("..." if len(example) > _DETAIL_CTX_MAX else "")
    return f"ctx {shown} does not match the role's pattern {pattern.text}"


def failure_jumps(
    hours: Mapping[tuple[str, str], Sequence[int]], since: str
) -> tuple[list[Unusual], bool]:
    """Return the mounts whose share of failures jumped, and whether any mount could be judged.

    Args:
        hours: requests and errors by mount and hour (``2026-11-22T18``).
        since: earlier hours only serve to know what is usual.
    """
    by_mount: dict[str, list[tuple[str, int, int]]] = {}
    for (mount, hour), (requests, errors) in sorted(hours.items()):
        by_mount.setdefault(mount, []).append((hour, requests, errors))
    jumps = [_failure_jump(mount, each, since) for mount, each in by_mount.items()]
    return [each for each, _ in jumps if each is not None], any(judged for _, judged in jumps)


def _failure_jump(
    mount: str, hours: Sequence[tuple[str, int, int]], since: str
) -> tuple[Unusual | None, bool]:
    group, judged, then = Group(), False, (0, 0)
    usual = usual_errors = 0
    for hour, requests, errors in hours:
        known = usual >= JUMP_BASE and hour >= since[:13]
        judged = judged or known
        if known and _jumps(requests, errors, usual, usual_errors):
            then = then if group.count else (usual, usual_errors)
            group.add(requests, requests - errors, f"{hour}:00:00", f"{hour}:59:59")
        else:
            usual, usual_errors = usual + requests, usual_errors + errors
    if not group.count:
        return None, judged
    failed = group.count - group.granted
    detail = (
        f"{failed} of {group.count} requests failed ({_percent(failed, group.count)}) in the "
        f"hours of the jump; before them {_percent(then[1], then[0])} of {then[0]} did"
    )
    return group.finding(UnusualKind.FAILURE_JUMP, (mount, "", "", ""), detail), judged


def _jumps(requests: int, errors: int, usual: int, usual_errors: int) -> bool:
    return (
        requests >= JUMP_REQUESTS
        and errors * 100 >= requests * JUMP_PERCENT
        and errors * usual >= JUMP_TIMES * usual_errors * requests
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


@dataclass(frozen=True, slots=True)
class Grounds:
    """The data that the rules have, from these logs and from elsewhere.

    Args:
        days: the days of log; None if it is empty.
        habits: whether an app asked for a role often enough to have habits.
        patterns: whether patterns of roles are known.
        plain: whether a readable ctx was compared with a pattern.
        failures: whether a mount had enough earlier requests.
        declared: whether the declared roles are known.
        runs: whether a change names the run of skyflowctl that made it.
    """

    days: int | None = None
    habits: bool = False
    patterns: bool = False
    plain: bool = False
    failures: bool = False
    declared: bool = False
    runs: bool = False


_RULES = {
    UnusualKind.ROLE_ID_CHANGED: (
        "the Skyflow role id of a role was changed by a request without a run of skyflowctl, "
        "after the first change in the logs that has one"
    ),
    UnusualKind.ROOT_TOKEN: "a root token was used, for any purpose",
    UnusualKind.UNDECLARED_ROLE: (
        "tokens were issued for a role that the manifest (or, with --server-roles, the server) "
        "does not have"
    ),
    UnusualKind.FAILURE_JUMP: (
        f"in an hour with at least {JUMP_REQUESTS} requests on a mount, at least {JUMP_PERCENT} % "
        f"failed, and {JUMP_TIMES} times the share of the hours before, if these are at least "
        f"{JUMP_BASE} requests"
    ),
    UnusualKind.FIRST_SEEN_APP: (
        f"an app's first request on a role in the log, with at least {KNOWN_DAYS} days of log "
        "before it"
    ),
    UnusualKind.CTX_OUTSIDE_PATTERN: (
        "a plain ctx that does not match the role's current pattern; hashed values cannot be judged"
    ),
    UnusualKind.OUTSIDE_USUAL_HOURS: (
        f"an hour of the day (UTC) that, with the hours before and after it, has less than "
        f"{RARE_PERCENT} % of the app's requests for the role on earlier days, if these "
        f"are at least {HABIT_REQUESTS} requests on {HABIT_DAYS} days"
    ),
}


def rules(grounds: Grounds) -> tuple[Rule, ...]:
    """Return the descriptions of the rules, and why a rule could not be applied."""
    missing = dict(_missing(grounds))
    return tuple(Rule(kind, text, missing.get(kind, "")) for kind, text in _RULES.items())


def _missing(grounds: Grounds) -> Iterator[tuple[UnusualKind, str]]:
    """Yield the rules that cannot be applied, each with the reason."""
    how = "name the manifest (-f), or give --server-roles"
    if not grounds.runs:
        why = "no change in the logs names a run: X-Skyflowctl-Run is not an audited header"
        yield UnusualKind.ROLE_ID_CHANGED, f"{why}, or skyflowctl made none"
    if not grounds.declared:
        yield UnusualKind.UNDECLARED_ROLE, f"the roles are not known: {how}"
    if not grounds.failures:
        yield UnusualKind.FAILURE_JUMP, f"no mount has {JUMP_BASE} earlier requests to compare"
    if grounds.days is None or grounds.days < KNOWN_DAYS:
        covered = f"the logs cover {_days(grounds.days)}"
        yield UnusualKind.FIRST_SEEN_APP, f"{covered}, not the required {KNOWN_DAYS} days"
    if not grounds.patterns:
        yield UnusualKind.CTX_OUTSIDE_PATTERN, f"the roles' patterns are not known: {how}"
    elif not grounds.plain:
        why = "no readable ctx of a role with a pattern is in the logs"
        yield UnusualKind.CTX_OUTSIDE_PATTERN, why
    if not grounds.habits:
        why = f"no app requested a role {HABIT_REQUESTS} times on {HABIT_DAYS} earlier days"
        yield UnusualKind.OUTSIDE_USUAL_HOURS, why


def _days(number: int | None) -> str:
    if not number:
        return "nothing" if number is None else "less than a day"
    return counted(number, "day")
