"""Escapes untrusted text and figures for HTML. The page contains only text from here."""

import unicodedata
from datetime import datetime
from html import escape

from skyflowctl.audit.escape import visible
from skyflowctl.text import counted

LONG_NAME = 72
"""Longer names are folded: their start and end are shown, and the whole name on demand."""
_MARKS_MAX = 3
_WORD_MAX = 22
_MARKS = frozenset({"Mn", "Me"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NONE_CELL = '<span class="none">none</span>'


def text(value: str) -> str:
    """Return a text for HTML and SVG content and for quoted attributes.

    Control characters, text-direction marks and lone surrogates are shown as escapes. So are
    stacks of combining marks, which would cover the lines above and below.
    """
    return escape(_flat(visible(value)), quote=True)


def _flat(value: str) -> str:
    if value.isascii():
        return value
    parts, marks = [], 0
    for character in value:
        marks = marks + 1 if unicodedata.category(character) in _MARKS else 0
        parts.append(character if marks <= _MARKS_MAX else f"\\u{ord(character):04x}")
    return "".join(parts)


def shortened(value: str, most: int) -> str:
    """Truncate a text to so many characters; it is not escaped yet."""
    return value if len(value) <= most else value[: most - 1] + "…"


def name(value: str, empty: str = NONE_CELL) -> str:
    """Return a name isolated from the text direction around it; a long one opens on demand."""
    if not value:
        return empty
    if len(value) <= LONG_NAME:
        return _isolated(value)
    short = f"{value[:40]} … {value[-12:]}"
    return (
        f'<details class="long"><summary><bdi>{text(short)}</bdi> '
        f'<span class="note">({len(value):,} characters)</span></summary>'
        f"<bdi>{text(value)}</bdi></details>"
    )


def _isolated(value: str) -> str:
    """Return a name that breaks after slashes and hyphens, and elsewhere only if necessary."""
    shown = _flat(visible(value))
    runs = shown.replace("/", " ").replace("-", " ").split(" ")
    free = ' class="free"' if max(map(len, runs)) > _WORD_MAX else ""
    # An escaped text has a slash only where the text had one.
    return f"<bdi{free}>{escape(shown).replace('/', '/<wbr>')}</bdi>"


def app_name(value: str, auth: str) -> str:
    """Return an app's name with how it logged in."""
    how = f' <span class="note">{_isolated(shortened(auth, 32))}</span>' if auth else ""
    return name(value, '<span class="none">unknown</span>') + how


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


def time_cell(value: datetime | None, *, stacked: bool = False) -> str:
    """Return a time in UTC to the second; ``stacked`` puts the day above the hour, for a cell."""
    if value is None:
        return NONE_CELL
    written = stamp(value)
    hour = f'<span class="note">{written[11:19]}</span>' if stacked else written[11:19]
    return f'<time datetime="{written}">{written[:10]} {hour}</time>'


def stamp(value: datetime) -> str:
    """Return a time as RFC 3339, which sorts as text."""
    return value.isoformat().replace("+00:00", "Z")
