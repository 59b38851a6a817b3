"""Requests over time: stacked columns, with mounts distinguished by order, name and colour."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from skyflowctl.audit.html.charts import Box, Drawing, Label, Line, ShapeGroup
from skyflowctl.audit.html.filters import (
    amount,
    day,
    number,
    percent,
    short_day,
    short_number,
    shortened,
)
from skyflowctl.audit.report_model import Series, SeriesLine
from skyflowctl.frozen import dataclass
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
class Band:
    """A mount, or the mounts that share the last place, drawn in one colour."""

    label: str
    colour: str
    requests: tuple[int, ...]
    errors: tuple[int, ...]

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests)


@dataclass(frozen=True, slots=True)
class TimelineChart:
    """The chart with its legend and figures: for each bucket its start and its counts."""

    drawings: Sequence[Drawing]
    bands: Sequence[Band]
    total: int
    bucket: str
    rows: Sequence[tuple[datetime, Sequence[int]]]


def timeline(series: Series) -> TimelineChart:
    """Return the chart, drawn for wide and for narrow pages; without bands if it is empty."""
    bands = _bands(series.lines) if series.starts else []
    rows = [
        (
            start,
            [
                *(band.requests[at] for band in bands),
                sum(band.requests[at] for band in bands),
                sum(band.errors[at] for band in bands),
            ],
        )
        for at, start in enumerate(series.starts)
    ]
    return TimelineChart(
        [_draw(series, bands, frame) for frame in (_WIDE, _NARROW)] if bands else [],
        bands,
        sum(band.total for band in bands),
        duration(timedelta(seconds=series.bucket_seconds)),
        rows,
    )


def _bands(lines: tuple[SeriesLine, ...]) -> list[Band]:
    # The last place is shared only if necessary: a single further mount gets it alone.
    apart = len(lines) if len(lines) <= NAMED_MOUNTS + 1 else NAMED_MOUNTS
    bands = [
        Band(line.mount, f"s{at}", line.requests, line.errors)
        for at, line in enumerate(lines[:apart])
    ]
    rest = lines[apart:]
    if rest:
        requests = tuple(map(sum, zip(*(line.requests for line in rest), strict=True)))
        errors = tuple(map(sum, zip(*(line.errors for line in rest), strict=True)))
        label = amount(len(rest), "other mount")
        bands.append(Band(label, f"s{NAMED_MOUNTS}", requests, errors))
    return bands


def _draw(series: Series, bands: list[Band], frame: _Frame) -> Drawing:
    errors = [sum(each) for each in zip(*(band.errors for band in bands), strict=True)]
    strip = _STRIP if any(errors) else 0
    grid = [*_grid(bands, frame), *(_strip_grid(max(errors), frame) if strip else ())]
    axis = _time_axis(series, frame, _TOP + frame.plot + strip)
    whole = _labels(bands, frame) if frame.labelled else []
    return Drawing(
        ident=frame.ident,
        class_=frame.class_,
        width=frame.width,
        height=_TOP + frame.plot + strip + _AXIS,
        title="Requests over time, by mount",
        description=_description(series, bands),
        lines=[line for line, _ in (*grid, *axis)],
        groups=_columns(series, bands, frame),
        boxes=[*(_error_strip(errors, frame) if strip else ()), *(box for box, _, _ in whole)],
        leaders=[leader for _, leader, _ in whole],
        labels=[
            *(label for _, label in (*grid, *axis)),
            *(
                [Label("without a token", frame.left, _strip_top(frame) - 8, "tick")]
                if strip
                else ()
            ),
            *(label for _, _, labels in whole for label in labels),
        ],
    )


def _description(series: Series, bands: list[Band]) -> str:
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


def _scale(bands: list[Band]) -> list[int]:
    return nice_steps(max(map(sum, zip(*(band.requests for band in bands), strict=True))), 5)


def _grid(bands: list[Band], frame: _Frame) -> list[tuple[Line, Label]]:
    ticks = _scale(bands)
    heights = [_TOP + frame.plot * (1 - tick / ticks[-1]) for tick in ticks]
    return [
        _rule(tick, y, "rule" if tick else "base", y + 4, frame)
        for tick, y in zip(ticks, heights, strict=True)
    ]


def _rule(tick: int, y: float, class_: str, text_y: float, frame: _Frame) -> tuple[Line, Label]:
    label = Label(short_number(tick), frame.left - 8, text_y, "tick end")
    return Line(frame.left, frame.left + frame.inner, y, y, class_), label


def _columns(series: Series, bands: list[Band], frame: _Frame) -> list[ShapeGroup]:
    most = _scale(bands)[-1]
    slot, wide = _slot(frame, len(series.starts))
    groups = []
    for at in range(len(series.starts)):
        counts = [band.requests[at] for band in bands]
        if not any(counts):
            continue
        x = frame.left + slot * at + (slot - wide) / 2
        boxes = []
        for band, count, top in zip(bands, counts, accumulate(counts), strict=True):
            tall = frame.plot * count / most
            y = _TOP + frame.plot * (1 - top / most)
            # A thin gap between two colours separates them in greyscale too.
            seen = tall - 1 if tall > frame.gap_from and top > count else tall
            if count:
                boxes.append(Box(x, y, wide, seen, band.colour))
        groups.append(ShapeGroup("column", _tip(series, bands, at), boxes))
    return groups


def _slot(frame: _Frame, buckets: int) -> tuple[float, float]:
    """Return the width of a bucket and of its column."""
    slot = frame.inner / buckets
    return slot, min(_COLUMN_MAX, slot * 0.82 if slot > 4 else slot * 0.9)


def _tip(series: Series, bands: list[Band], at: int) -> str:
    errors = sum(band.errors[at] for band in bands)
    shares = "; ".join(
        f"{shortened(band.label, 60)} {number(band.requests[at])}"
        for band in bands
        if band.requests[at]
    )
    failed = f"; {number(errors)} without a token" if errors else ""
    return f"{_at(series, at)}: {shares}{failed}"


def _strip_top(frame: _Frame) -> int:
    return _TOP + frame.plot + 26


def _strip_grid(most: int, frame: _Frame) -> list[tuple[Line, Label]]:
    return [_rule(most, _TOP + frame.plot + _STRIP, "base", _strip_top(frame) + 8, frame)]


def _error_strip(errors: list[int], frame: _Frame) -> list[Box]:
    base = _TOP + frame.plot + _STRIP
    slot, wide = _slot(frame, len(errors))
    sizes = [max(1.5, (_STRIP - 26) * count / max(errors)) for count in errors]
    return [
        Box(
            frame.left + slot * at + (slot - wide) / 2,
            base - size,
            wide,
            size,
            "bad",
            f"{number(count)} without a token",
        )
        for at, (count, size) in enumerate(zip(errors, sizes, strict=True))
        if count
    ]


def _time_axis(series: Series, frame: _Frame, y: int) -> list[tuple[Line, Label]]:
    slot = frame.inner / len(series.starts)
    parts = []
    for at, label in _ticks(series, frame.ticks):
        x = frame.left + slot * (at + 0.5)
        edge = "start" if x < frame.left + 20 else "end" if x > frame.width - 24 else "mid"
        parts.append((Line(x, x, y, y + 5, "base"), Label(label, x, y + 19, f"tick {edge}")))
    return parts


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


def _labels(bands: list[Band], frame: _Frame) -> list[tuple[Box, str, list[Label]]]:
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
        share = f"{number(band.total)} · {percent(band.total, total)}"
        parts.append(
            (
                Box(x, top, 12, seen, band.colour),
                f"M{x + 13} {middle:.1f}L{x + 24} {y:.1f}h4",
                [
                    Label(shortened(band.label, 22), x + 33, y - 2, "label"),
                    Label(share, x + 33, y + 13, "tick"),
                ],
            )
        )
    return parts


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


def nice_steps(most: int, steps: int) -> list[int]:
    """Return the ticks of an axis from 0 to at least ``most``, as round whole numbers."""
    most = max(most, 1)
    size = 1
    while True:
        for factor in (1, 2, 5):
            if size * factor * steps >= most:
                step = size * factor
                return [step * at for at in range(-(-most // step) + 1)]
        size *= 10
