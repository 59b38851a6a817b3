"""The geometry of drawings, and the charts by hour and by application."""

from collections.abc import Sequence
from typing import NamedTuple

from skyflowctl.audit.html.filters import amount, number, percent, shortened
from skyflowctl.audit.report_model import HOURS, WEEKDAYS, HeatMap, TopApp
from skyflowctl.frozen import dataclass

MOUNTS_SHOWN = 12
LEVELS = 5
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WIDTH, _LEFT, _CELL, _ROW, _TOP = 448, 112, 14.0, 22, 22
_BAR = 34


class Box(NamedTuple):
    """A rectangle; ``tip`` is shown when the pointer is over it."""

    x: float
    y: float
    width: float
    height: float
    class_: str
    tip: str = ""
    fill: str = ""


class Label(NamedTuple):
    """A line of text."""

    text: str
    x: float
    y: float
    class_: str


class Line(NamedTuple):
    """A straight line."""

    x1: float
    x2: float
    y1: float
    y2: float
    class_: str


class ShapeGroup(NamedTuple):
    """Shapes with a common tip."""

    class_: str
    tip: str
    boxes: Sequence[Box]
    labels: Sequence[Label] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One image; a later kind of shape covers an earlier one.

    Args:
        ident: unique on the page.
        hatched: whether it defines the pattern ``#<ident>-hatch``.
        radius: of the corners of ``boxes``.
        peaks: the centres of dots.
        leaders: paths that connect a label with its shape.
    """

    ident: str
    class_: str
    width: int
    height: int
    title: str
    description: str
    hatched: bool = False
    radius: int = 0
    lines: Sequence[Line] = ()
    groups: Sequence[ShapeGroup] = ()
    boxes: Sequence[Box] = ()
    peaks: Sequence[tuple[float, float]] = ()
    leaders: Sequence[str] = ()
    labels: Sequence[Label] = ()


HeatRows = Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class HeatChart:
    """A heat map with its legend (``shades``: shade, lowest and highest count) and figures."""

    heading: str
    drawing: Drawing
    peak: str
    most: int
    left_out: int
    shades: Sequence[tuple[int, int, int]]
    hours: Sequence[str]
    rows: HeatRows


def heat_maps(heat: Sequence[HeatMap]) -> list[HeatChart]:
    """Return the requests over the week by weekday and by mount; nothing without requests."""
    if not any(any(each.hours) for each in heat):
        return []
    days = [
        (_DAYS[at], [sum(each.cells[at][hour] for each in heat) for hour in range(HOURS)])
        for at in range(WEEKDAYS)
    ]
    mounts = [(each.mount, each.hours) for each in heat[:MOUNTS_SHOWN]]
    left_out = len(heat) - len(mounts)
    return [
        _heat_map("weekday", days, "heat-days"),
        _heat_map("mount", mounts, "heat-mounts", left_out),
    ]


def _heat_map(by: str, rows: HeatRows, ident: str, left_out: int = 0) -> HeatChart:
    busy, hour, most = _peak(rows)
    peak = f"{shortened(busy, 60)}, {hour:02}:00 to {(hour + 1) % HOURS:02}:00"
    cells = [
        (_LEFT + _CELL * hour, _TOP + _ROW * at, label, hour, count)
        for at, (label, counts) in enumerate(rows)
        for hour, count in enumerate(counts)
    ]
    drawing = Drawing(
        ident=ident,
        class_="chart heat",
        width=_WIDTH,
        height=_TOP + _ROW * len(rows) + 4,
        title=f"Requests by {by} and hour",
        description=f"Hours of the day in UTC. Most requests: {peak}, {number(most)}.",
        radius=2,
        boxes=[
            Box(
                x + 0.75,
                y + 0.75,
                _CELL - 1.5,
                _ROW - 1.5,
                f"h{level(count, most)}",
                f"{shortened(label, 60)}, {hour:02}:00: {number(count)}",
            )
            for x, y, label, hour, count in cells
        ],
        peaks=[(x + _CELL / 2, y + _ROW / 2) for x, y, _, _, count in cells if count == most],
        labels=[
            *(
                Label(f"{hour:02}", _LEFT + _CELL * (hour + 0.5), _TOP - 8, "tick mid")
                for hour in range(0, HOURS, 3)
            ),
            *(
                Label(shortened(label, 17), 0, _TOP + _ROW * at + 15, "tick")
                for at, (label, _) in enumerate(rows)
            ),
        ],
    )
    hours = [f"{hour:02}" for hour in range(HOURS)]
    return HeatChart(f"By {by}", drawing, peak, most, left_out, _shades(most), hours, rows)


def _peak(rows: HeatRows) -> tuple[str, int, int]:
    """Return the row, hour and requests of the busiest cell; of equal ones the earliest."""
    cells = [
        (-count, at, hour)
        for at, (_, counts) in enumerate(rows)
        for hour, count in enumerate(counts)
    ]
    count, at, hour = min(cells)
    return rows[at][0], hour, -count


def level(count: int, most: int) -> int:
    """Return how dark a cell is: 0 for no request, else 1 to 5.

    The steps grow as squares (4, 16, 36, 64 and 100 % of the maximum), so that quiet hours
    differ visibly too.
    """
    for shade in range(LEVELS):
        if count <= most * shade**2 // LEVELS**2:
            return shade
    return LEVELS


def _shades(most: int) -> list[tuple[int, int, int]]:
    """Return each shade's lowest and highest count; shades that no count can have are omitted."""
    highest = [most * shade**2 // LEVELS**2 for shade in range(LEVELS + 1)]
    lowest = [0, *(high + 1 for high in highest)]
    every = zip(range(LEVELS + 1), lowest, highest, strict=False)
    return [(shade, low, high) for shade, low, high in every if low <= high]


@dataclass(frozen=True, slots=True)
class AppsChart:
    """The apps with the most requests: one bar each, with requests without a token hatched."""

    drawings: Sequence[Drawing]
    apps: Sequence[TopApp]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The positions of names, bars and figures; with ``names`` 0 a name is above its bar."""

    ident: str
    class_: str
    width: int
    names: int
    figures: int
    letters: int


_WIDE = _Frame("apps-wide", "chart wide", 1040, 210, 230, 28)
_NARROW = _Frame("apps-narrow", "chart narrow", 340, 0, 64, 40)


def top_apps(apps: Sequence[TopApp]) -> AppsChart:
    """Return the chart, drawn for wide and for narrow pages."""
    asked = [each for each in apps if each.tally.requests]
    return AppsChart([_bars(asked, frame) for frame in (_WIDE, _NARROW)] if asked else [], asked)


def _bars(apps: Sequence[TopApp], frame: _Frame) -> Drawing:
    most = max(each.tally.requests for each in apps)
    row = _BAR if frame.names else _BAR + 14
    first = apps[0]
    return Drawing(
        ident=frame.ident,
        class_=frame.class_,
        width=frame.width,
        height=row * len(apps) + 2,
        title="Requests by application",
        description=f"{amount(len(apps), 'application')}, most active first: "
        f"{shortened(first.app, 60)} with {amount(first.tally.requests, 'request')} on "
        f"{amount(first.roles, 'role')}.",
        hatched=True,
        groups=[_bar(each, at * row, most, frame) for at, each in enumerate(apps)],
    )


def _bar(each: TopApp, y: int, most: int, frame: _Frame) -> ShapeGroup:
    tally = each.tally
    room = frame.width - frame.names - frame.figures
    size = max(2.0, room * tally.requests / most)
    bad = max(size * tally.errors / tally.requests, 1.5) if tally.errors else 0.0
    good = max(0.5, size - bad)
    top = y + (6 if frame.names else 22)
    boxes = [Box(frame.names, top, good, 22, "bar")]
    x = frame.names + size + 10
    requests = number(tally.requests)
    labels = [
        Label(
            shortened(each.app or "unknown", frame.letters),
            0,
            top + (16 if frame.names else -7),
            "label",
        ),
        Label(requests, x, top + 15, "figure"),
    ]
    if bad:
        fill = f"url(#{frame.ident}-hatch)"
        boxes.append(Box(frame.names + good + 1, top, bad, 22, "bad-end", fill=fill))
    if bad and frame.names:
        share = f"{percent(tally.errors, tally.requests)} without a token"
        labels.append(Label(share, x + 8.2 * len(requests) + 6, top + 15, "tick"))
    tip = (
        f"{shortened(each.app, 60)}: {amount(tally.requests, 'request')}, "
        f"{number(tally.errors)} without a token"
    )
    return ShapeGroup("app", tip, boxes, labels)
