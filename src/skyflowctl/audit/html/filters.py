"""Formats texts and figures for the page's templates."""

import unicodedata
from datetime import datetime

from markupsafe import Markup, escape

from skyflowctl.audit.escape import visible
from skyflowctl.text import counted

_MARKS_MAX = 3
_WORD_MAX = 22
_BREAKS_ANYWHERE = Markup('<bdi class="free">')
_MARKS = frozenset({"Mn", "Me"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def printable(value: object) -> object:
    """Return a value as it is printed, before it is escaped; templates print nothing else.

    Control characters, text-direction marks and lone surrogates are shown as escapes. So are
    stacks of combining marks, which would cover the lines above and below. Numbers have at most
    two decimals.
    """
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    if isinstance(value, str) and not isinstance(value, Markup):
        return _flat(visible(value))
    return value


def _flat(value: str) -> str:
    if value.isascii():
        return value
    parts, marks = [], 0
    for character in value:
        marks = marks + 1 if unicodedata.category(character) in _MARKS else 0
        parts.append(character if marks <= _MARKS_MAX else f"\\u{ord(character):04x}")
    return "".join(parts)


def isolated(value: str) -> Markup:
    """Return a name isolated from the text direction around it.

    It breaks after slashes and hyphens, and elsewhere only if necessary.
    """
    flat = _flat(visible(value))
    words = flat.replace("/", " ").replace("-", " ").split(" ")
    start = _BREAKS_ANYWHERE if max(map(len, words)) > _WORD_MAX else Markup("<bdi>")
    # An escaped text has a slash only where the text had one.
    return start + escape(flat).replace("/", Markup("/<wbr>")) + Markup("</bdi>")


def shortened(value: str, most: int) -> str:
    """Truncate a text to so many characters."""
    return value if len(value) <= most else value[: most - 1] + "…"


def number(value: int) -> str:
    """Return a number with thousands separators."""
    return f"{value:,}"


def short_number(value: int) -> str:
    """Return a short number for an axis: ``950``, ``1.5k``, ``20M``."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return str(value)


def amount(value: int, one: str, many: str = "") -> str:
    """Return a number with its noun and thousands separators."""
    return counted(value, one, many, grouped=True)


def percent(part: int, whole: int) -> str:
    """Return a share in percent; only the whole is shown as 100 %, and only zero as 0 %."""
    if not whole:
        return "\N{EN DASH}"
    share = 100 * part / whole
    if part in (0, whole):
        return f"{share:.0f} %"
    if share < 0.1:
        return "under 0.1 %"
    return f"{min(share, 99.9):.1f} %"


def day(value: datetime) -> str:
    """Return a day: ``22 Nov 2026``."""
    return f"{short_day(value)} {value.year}"


def short_day(value: datetime) -> str:
    """Return a day without its year: ``22 Nov``."""
    return f"{value.day} {_MONTHS[value.month - 1]}"


def stamp(value: datetime) -> str:
    """Return a time as RFC 3339, which sorts as text."""
    return value.isoformat().replace("+00:00", "Z")
