"""Formats numbers and lists for people."""

from collections.abc import Sequence
from datetime import timedelta

_LISTED = 6


def counted(number: int, one: str, many: str = "", *, grouped: bool = False) -> str:
    """Return a number with its noun: ``1 mount``, ``2 policies``.

    Args:
        number: how many.
        one: the noun in the singular.
        many: its plural; empty: the singular with an s.
        grouped: use thousands separators: ``1,234 mounts``.
    """
    figure = f"{number:,}" if grouped else str(number)
    return f"{figure} {one if number == 1 else many or one + 's'}"


def setting_text(value: object) -> str:
    """Return a value as settings and YAML have it: true and false in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed(names: Sequence[str]) -> str:
    """Return at most six names, separated by commas, and how many more there are."""
    shown = ", ".join(names[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def name_one_of(names: Sequence[str]) -> str:
    """Return the fix for an unknown name: ``name order``, ``name one of order, payment``."""
    if len(names) > 1:
        return f"name one of {', '.join(names)}"
    return f"name {names[0]}" if names else "add one to the manifest"


def duration(span: timedelta) -> str:
    """Return a span in its largest whole unit: ``40 days``, ``3 hours``, ``1 minute``."""
    seconds = int(abs(span).total_seconds())
    for unit, word in ((86_400, "day"), (3_600, "hour")):
        if seconds >= unit:
            return counted(seconds // unit, word)
    return counted(seconds // 60, "minute")


def size(number: int) -> str:
    """Return bytes in decimal units: ``512 bytes``, ``1.5 kB``."""
    if number < 1000:
        return counted(number, "byte")
    amount = float(number)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"
