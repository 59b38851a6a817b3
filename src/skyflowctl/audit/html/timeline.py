"""Requests over time: stacked columns, with mounts distinguished by order, name and colour."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from skyflowctl.audit.html.svg import drawing, figures, nice_steps, tag, words
from skyflowctl.audit.html.text import (
    amount,
    day,
    name,
    number,
    percent,
    short_day,
    short_number,
    shortened,
    text,
    time_cell,
)
from skyflowctl.audit.report_model import Series, SeriesLine
from skyflowctl.text import duration

NAMED_MOUNTS = 5
"""The most mounts with their own colour; the others share one."""
_COLUMN_MAX = 36.0
_DAY = 86_400
_STEPS = (60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The positions of the parts of one drawing."""

    ident: str
    class_: str
    width: int
    left: int
    right: int
    plot: int
    ticks: int
    labelled: bool
    gap_from: float

    @property
    def inner(self) -> int:
        return self.width - self.left - self.right


_TOP, _AXIS, _STRIP = 14, 30, 58
_WIDE = _Frame("time-wide", "chart wide", 1040, 46, 208, 220, 9, labelled=True, gap_from=3)
_NARROW = _Frame("time-narrow", "chart narrow", 340, 34, 6, 170, 4, labelled=False, gap_from=8)


@dataclass(frozen=True, slots=True)
class _Band:
    """A mount, or the mounts that share the last place, drawn in one colour."""

    label: str
    colour: str
    requests: tuple[int, ...]
    errors: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.requests)


def timeline(series: Series) -> str:
    """Return the chart for wide and for narrow pages, with its legend and figures."""
    if not series.starts or not series.lines:
        return '<p class="empty">No requests were made in this period.</p>'
    bands = _bands(series.lines)
    drawn = "".join(_draw(series, bands, frame) for frame in (_WIDE, _NARROW))
    return f'<figure class="time">{drawn}{_key(bands)}</figure>{_figures(series, bands)}'


def _bands(lines: tuple[SeriesLine, ...]) -> list[_Band]:
    # The last place is shared only if necessary: a single further mount gets it alone.
    apart = len(lines) if len(lines) <= NAMED_MOUNTS + 1 else NAMED_MOUNTS
    bands = [
        _Band(line.mount, f"s{at}", line.requests, line.errors)
        for at, line in enumerate(lines[:apart])
    ]
    rest = lines[apart:]
    if rest:
        requests = tuple(map(sum, zip(*(line.requests for line in rest), strict=True)))
        errors = tuple(map(sum, zip(*(line.errors for line in rest), strict=True)))
        label = amount(len(rest), "other mount")
        bands.append(_Band(label, f"s{NAMED_MOUNTS}", requests, errors))
    return bands


def _draw(series: Series, bands: list[_Band], frame: _Frame) -> str:
    errors = [sum(each) for each in zip(*(band.errors for band in bands), strict=True)]
    strip = _STRIP if any(errors) else 0
    parts = [_grid(bands, frame), _columns(series, bands, frame)]
    if strip:
        parts.append(_error_strip(errors, frame))
    parts.append(_time_axis(series, frame, _TOP + frame.plot + strip))
    if frame.labelled:
        parts.append(_labels(bands, frame))
    height = _TOP + frame.plot + strip + _AXIS
    content = "".join(parts)
    title = "Requests over time, by mount"
    told = _description(series, bands)
    return drawing(frame.ident, (frame.width, height), title, told, content, class_=frame.class_)


def _description(series: Series, bands: list[_Band]) -> str:
    totals = [sum(each) for each in zip(*(band.requests for band in bands), strict=True)]
    peak = max(range(len(totals)), key=totals.__getitem__)
    mounts = "; ".join(f"{shortened(band.label, 60)} {number(band.total)}" for band in bands)
    return (
        f"Columns of {duration(timedelta(seconds=series.bucket_seconds))} from {_at(series, 0)} to "
        f"{_at(series, len(totals) - 1)} UTC, stacked by mount: {mounts}. "
        f"Most requests: {number(totals[peak])} from {_at(series, peak)}."
    )


def _at(series: Series, index: int) -> str:
    start = series.starts[index]
    return day(start) if series.bucket_seconds >= _DAY else f"{day(start)} {start:%H:%M}"


def _scale(bands: list[_Band]) -> list[int]:
    return nice_steps(max(map(sum, zip(*(band.requests for band in bands), strict=True))), 5)


def _grid(bands: list[_Band], frame: _Frame) -> str:
    ticks = _scale(bands)
    base = _TOP + frame.plot
    parts = []
    for tick in ticks:
        y = base - frame.plot * tick / ticks[-1]
        rule = "base" if tick == 0 else "rule"
        parts.append(
            tag("line", x1=frame.left, x2=frame.left + frame.inner, y1=y, y2=y, class_=rule)
        )
        parts.append(words(short_number(tick), frame.left - 8, y + 4, "tick end"))
    return "".join(parts)


def _columns(series: Series, bands: list[_Band], frame: _Frame) -> str:
    most = _scale(bands)[-1]
    slot = frame.inner / len(series.starts)
    wide = min(_COLUMN_MAX, slot * 0.82 if slot > 4 else slot * 0.9)
    parts = []
    for at in range(len(series.starts)):
        counts = [band.requests[at] for band in bands]
        if not any(counts):
            continue
        x = frame.left + slot * at + (slot - wide) / 2
        column = tag("title", text(_tip(series, bands, at)))
        for band, count, top in zip(bands, counts, accumulate(counts), strict=True):
            tall = frame.plot * count / most
            y = _TOP + frame.plot * (1 - top / most)
            # A thin gap between two colours separates them in greyscale too.
            seen = tall - 1 if tall > frame.gap_from and top > count else tall
            if count:
                column += tag("rect", x=x, y=y, width=wide, height=seen, class_=band.colour)
        parts.append(tag("g", column, class_="column"))
    return "".join(parts)


def _tip(series: Series, bands: list[_Band], at: int) -> str:
    errors = sum(band.errors[at] for band in bands)
    shares = "; ".join(
        f"{shortened(band.label, 60)} {number(band.requests[at])}"
        for band in bands
        if band.requests[at]
    )
    failed = f"; {number(errors)} without a token" if errors else ""
    return f"{_at(series, at)}: {shares}{failed}"


def _error_strip(errors: list[int], frame: _Frame) -> str:
    base = _TOP + frame.plot + _STRIP
    tall = _STRIP - 26
    slot = frame.inner / len(errors)
    wide = min(_COLUMN_MAX, slot * 0.82 if slot > 4 else slot * 0.9)
    most = max(errors)
    parts = [
        words("without a token", frame.left, base - tall - 8, "tick"),
        words(short_number(most), frame.left - 8, base - tall + 8, "tick end"),
        tag("line", x1=frame.left, x2=frame.left + frame.inner, y1=base, y2=base, class_="base"),
    ]
    for at, count in enumerate(errors):
        if count:
            size = max(1.5, tall * count / most)
            x = frame.left + slot * at + (slot - wide) / 2
            tip = tag("title", text(f"{number(count)} without a token"))
            parts.append(
                tag("rect", tip, x=x, y=base - size, width=wide, height=size, class_="bad")
            )
    return "".join(parts)


def _time_axis(series: Series, frame: _Frame, y: int) -> str:
    slot = frame.inner / len(series.starts)
    parts = []
    for at, label in _ticks(series, frame.ticks):
        x = frame.left + slot * (at + 0.5)
        edge = "start" if x < frame.left + 20 else "end" if x > frame.width - 24 else "mid"
        parts.append(tag("line", x1=x, x2=x, y1=y, y2=y + 5, class_="base"))
        parts.append(words(label, x, y + 19, f"tick {edge}"))
    return "".join(parts)


def _ticks(series: Series, most: int) -> list[tuple[int, str]]:
    """Return the labels of the axis, at round times where the buckets allow it."""
    starts = series.starts
    for step in (*_STEPS, *(_DAY * days for days in (1, 2, 7, 14, 28))):
        found = [at for at, start in enumerate(starts) if _seconds(start) % step == 0]
        if 1 < len(found) <= most:
            break
    else:
        found = list(range(0, len(starts), -(-len(starts) // most)))
    years = starts[0].year != starts[-1].year
    return [(at, _tick(series, starts[at], years=years)) for at in found]


def _seconds(start: datetime) -> int:
    return int((start - _EPOCH).total_seconds())


def _tick(series: Series, start: datetime, *, years: bool) -> str:
    if series.bucket_seconds < _DAY and (start.hour or start.minute):
        return f"{start:%H:%M}"
    return day(start) if years else short_day(start)


def _labels(bands: list[_Band], frame: _Frame) -> str:
    """Return one column for the whole range, each part with its name beside it."""
    total = sum(band.total for band in bands)
    x = frame.left + frame.inner + 22
    ends = list(accumulate(band.total for band in bands))
    middles = [
        _TOP + frame.plot * (1 - (end - band.total / 2) / total)
        for band, end in zip(bands, ends, strict=True)
    ]
    lines = _spread(middles, 34.0, _TOP + frame.plot)
    parts = []
    for band, end, middle, y in zip(bands, ends, middles, lines, strict=True):
        tall = frame.plot * band.total / total
        top = _TOP + frame.plot * (1 - end / total)
        seen = tall - 1 if tall > 3 and end > band.total else tall
        parts.append(tag("rect", x=x, y=top, width=12, height=seen, class_=band.colour))
        parts.append(tag("path", d=f"M{x + 13} {middle:.1f}L{x + 24} {y:.1f}h4", class_="leader"))
        parts.append(words(shortened(band.label, 22), x + 33, y - 2, "label"))
        share = f"{number(band.total)} · {percent(band.total, total)}"
        parts.append(words(share, x + 33, y + 13, "tick"))
    return "".join(parts)


def _spread(wanted: list[float], apart: float, bottom: float) -> list[float]:
    """Move labels up from their positions (the first is the lowest) until none overlap."""
    placed: list[float] = []
    for at, place in enumerate(wanted):
        lowest = bottom - 14 if at == 0 else placed[-1] - apart
        placed.append(min(place, lowest))
    above = _TOP + 10 - min(placed)
    if above <= 0:
        return placed
    highest = _TOP + 10.0
    for at in range(len(placed) - 1, -1, -1):
        placed[at] = max(placed[at], highest)
        highest = placed[at] + apart
    return placed


def _key(bands: list[_Band]) -> str:
    total = sum(band.total for band in bands)
    rows = "".join(
        f'<li><svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect width="12" height="12" class="{band.colour}"/></svg>'
        f"<span>{name(band.label)}</span> "
        f'<span class="note">{number(band.total)} · {percent(band.total, total)}</span></li>'
        for band in bands
    )
    return (
        '<figcaption><ul class="key" aria-label="Mounts, most requests first">'
        f"{rows}</ul></figcaption>"
    )


def _figures(series: Series, bands: list[_Band]) -> str:
    head = [
        f"From (UTC), {duration(timedelta(seconds=series.bucket_seconds))} each",
        *(name(band.label) for band in bands),
        "All",
        "No token issued",
    ]
    rows = [
        [
            time_cell(start),
            *(number(band.requests[at]) for band in bands),
            number(sum(band.requests[at] for band in bands)),
            number(sum(band.errors[at] for band in bands)),
        ]
        for at, start in enumerate(series.starts)
    ]
    return figures("Requests over time", head, rows)
