"""Time: a replaceable clock, RFC 3339 texts, durations."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_DURATION = re.compile(
    r"(?:(\d{1,15})d)?(?:(\d{1,15})h)?(?:(\d{1,15})m)?(?:(\d{1,15})s)?", re.ASCII
)
# Far beyond any use, and small enough to be added to a date or to wait for.
LONGEST_DURATION = timedelta(days=36_500)
_UNIT_SECONDS = (86_400, 3_600, 60, 1)
_DAYS_FROM = 2 * _UNIT_SECONDS[0]


class Clock(Protocol):
    """The source of the current time."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""

    def monotonic(self) -> float:
        """Return seconds on a scale that never goes back, for measuring spans."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds on a scale that never goes back, for measuring spans."""
        return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """Return ``2026-11-22T15:04:05Z``, with milliseconds only if they are not zero."""
    utc = moment.astimezone(UTC)
    digits = "milliseconds" if utc.microsecond >= 1000 else "seconds"
    return utc.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def rfc3339_or_empty(moment: datetime | None) -> str:
    """Return a time's RFC 3339 text; empty for None."""
    return rfc3339(moment) if moment else ""


def parse_rfc3339(text: str) -> datetime:
    """Return the aware UTC datetime that an RFC 3339 text names.

    Raises:
        ValueError: the text is not an RFC 3339 time, or names no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no offset from UTC")
    return moment.astimezone(UTC)


def time_or_none(text: object) -> datetime | None:
    """Return the time in a text from another program; None if it is empty or not RFC 3339."""
    try:
        return parse_rfc3339(str(text)) if text else None
    except ValueError:
        return None


def span_text(seconds: int) -> str:
    """Return whole seconds as people write them: ``90d``, ``24h``, ``1h30m``; days from two on.

    0 and less is a number.
    """
    if seconds <= 0:
        return str(seconds)
    parts = ""
    first = 0 if seconds >= _DAYS_FROM else 1
    for unit, letter in zip(_UNIT_SECONDS[first:], "dhms"[first:], strict=True):
        count, seconds = divmod(seconds, unit)
        parts += f"{count}{letter}" if count else ""
    return parts


def parse_duration(text: str) -> timedelta:
    """Return the span that a text such as ``90d``, ``20m`` or ``1h30m`` names.

    Units are d, h, m and s, each at most once, largest first.

    Raises:
        ValueError: the text has another form, is empty, or names more than 100 years.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is no duration (examples: 90d, 12h, 20m, 1h30m, 30s)")
    counts = [int(group or 0) for group in match.groups()]
    seconds = sum(count * unit for count, unit in zip(counts, _UNIT_SECONDS, strict=True))
    if seconds > LONGEST_DURATION.total_seconds():
        raise ValueError("it is longer than 100 years")
    return timedelta(seconds=seconds)
