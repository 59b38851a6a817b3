"""Converts times to text that sorts: UTC, without a zone, validated."""

from datetime import UTC, datetime


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
