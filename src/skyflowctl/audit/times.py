"""Times as the audit logs write them, and as the options of a report name them."""

from datetime import UTC, date, datetime, time, timedelta

from skyflowctl.clock import parse_duration, parse_rfc3339
from skyflowctl.errors import UsageError


def utc_text(time: str) -> str | None:
    """Return a time as ``2026-11-22T18:44:11.505`` in UTC; None if it is no valid time.

    The server logs UTC with up to nine digits and drops trailing zeros. Without the Z such
    texts sort like their times.
    """
    if time[-1:] == "Z" and time[10:11] == "T" and time[5:7].isdigit():
        whole, fraction = time[:19], time[19:-1]
        if not fraction or (fraction[0] == "." and fraction[1:].isdigit() and fraction.isascii()):
            try:
                datetime.fromisoformat(whole)
            except ValueError:
                return None
            return time[:-1] if len(whole) == 19 else None
    return _converted(time)


def _converted(time: str) -> str | None:
    """Convert a time in another zone, which other writers of this format use."""
    try:
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            return None
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    except (ValueError, OverflowError):
        return None


def parse_utc(text: str) -> datetime:
    """Return the aware datetime of a text from ``utc_text``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def since(text: str, now: datetime, flag: str = "--since") -> datetime:
    """Return the first moment that ``--since`` includes; a day begins at midnight UTC.

    Raises:
        UsageError: the text is no time.
    """
    return _moment(text, now, flag, timedelta())


def until(text: str, now: datetime, flag: str = "--until") -> datetime:
    """Return the exclusive end of ``--until``; a day is included completely.

    Raises:
        UsageError: the text is no time.
    """
    return _moment(text, now, flag, timedelta(days=1))


def parse_days(text: str, flag: str, now: datetime) -> timedelta:
    """Return the span that a number of days, or a text such as ``36h``, names.

    Raises:
        UsageError: the text is neither, the span is zero, or it begins before the calendar.
    """
    try:
        span = parse_duration(f"{text}d" if text.isascii() and text.isdecimal() else text)
        if span and now - span < now:
            return span
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"{flag} is not a duration",
        why="it must be a number of days, or a duration with units, and more than zero",
        fix=f"for example {flag} 90, or {flag} 36h",
    )


def is_span(text: str) -> bool:
    """Return whether a valid time is a span back from now, not a fixed moment."""
    return text[-1:] in {"d", "h", "m", "s"}


def _moment(text: str, now: datetime, flag: str, whole_day: timedelta) -> datetime:
    if not text.strip():
        raise UsageError(
            f"{flag} is empty",
            why="an unset shell variable becomes an empty argument",
            fix=f"set the variable, or leave {flag} out",
            code="empty-time",
        )
    try:
        return _read(text, now, whole_day)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{flag} is not a time",
            why="it must be a day, a time with a zone (RFC 3339), or a duration before now",
            fix=f"for example {flag} 2026-11-22, {flag} 2026-11-22T18:00:00Z or {flag} 24h",
        ) from None


def _read(text: str, now: datetime, whole_day: timedelta) -> datetime:
    if is_span(text):
        return now - parse_duration(text)
    if len(text) <= len("2026-11-22"):
        return datetime.combine(date.fromisoformat(text), time(), UTC) + whole_day
    return parse_rfc3339(text)
