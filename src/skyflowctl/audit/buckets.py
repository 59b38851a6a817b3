"""Counts requests over time and over the week, in bounded memory for any span of log."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from skyflowctl.audit.report_model import HOURS, WEEKDAYS, HeatMap, Series, SeriesLine

BUCKETS_MAX = 120
"""The most buckets of a series."""
CELLS_MAX = 20_000
"""The most minutes that are counted separately, over all mounts: 6 MB. Beyond that, hours are
counted, then days, then months."""
HOURS_MAX = 50_000
"""The most hours, over all mounts, whose share of failures is compared: 10 MB."""
_MINUTE_DAYS = 3
"""The most days that are counted by the minute; beyond that no bucket is shorter than an hour."""

_DAY = 86_400
_WIDTHS = (16, 13, 10, 7)
"""How many characters of a time's text give the minute, hour, day and month."""
_STEPS = (60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, _DAY, 7 * _DAY)
_SMALLEST = {16: 60, 13: 3600, 10: _DAY, 7: 31 * _DAY}
_EPOCH = datetime(1970, 1, 5, tzinfo=UTC)  # a Monday, so that weeks start on one


class Timeline:
    """Counts requests by mount and time."""

    def __init__(self, cells_max: int = CELLS_MAX) -> None:
        self._cells_max = cells_max
        self._level = 0
        self._width = _WIDTHS[0]
        self.apart = self._width
        """How many characters of a time's text the caller of ``add`` must distinguish."""
        self._cells: dict[tuple[str, str], list[int]] = {}
        self._weeks: dict[str, list[int]] = {}
        self._day = ""
        self._days: set[str] = set()
        self._weekday = 0
        self.hours: dict[tuple[str, str], list[int]] = {}
        """Requests and errors by mount and hour; hours before the range are included."""
        self.hours_left_out = False

    def add_hour(self, mount: str, time: str, requests: int, errors: int) -> None:
        """Count requests of one hour that are outside the range, or that ``add`` counts as well."""
        key = (mount, time[:13])
        hour = self.hours.get(key)
        if hour is None:
            if len(self.hours) >= HOURS_MAX:
                self.hours_left_out = True
                return
            hour = self.hours[key] = [0, 0]
        hour[0] += requests
        hour[1] += errors

    def add(self, mount: str, time: str, requests: int, errors: int) -> None:
        """Count requests of one minute or hour, ``2026-11-22T18:44``."""
        key = (mount, time[: self._width])
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0, 0]
        cell[0] += requests
        cell[1] += errors
        if len(self._cells) > self._cells_max and self._level + 1 < len(_WIDTHS):
            self._coarsen()
        week = self._weeks.get(mount)
        if week is None:
            week = self._weeks[mount] = [0] * (WEEKDAYS * HOURS)
        if time[:10] != self._day:
            self._turn_to(time[:10])
        week[self._weekday * HOURS + int(time[11:13])] += requests
        self.add_hour(mount, time, requests, errors)

    def _turn_to(self, day: str) -> None:
        self._day = day
        self._weekday = datetime.fromisoformat(day).weekday()
        if self._level == 0:
            self._days.add(day)
            if len(self._days) > _MINUTE_DAYS:
                self._coarsen()

    def _coarsen(self) -> None:
        self._level += 1
        width = self._width = _WIDTHS[self._level]
        self.apart = _WIDTHS[1]
        merged: dict[tuple[str, str], list[int]] = {}
        for (mount, time), (requests, errors) in self._cells.items():
            cell = merged.setdefault((mount, time[:width]), [0, 0])
            cell[0] += requests
            cell[1] += errors
        self._cells = merged

    def series(self) -> Series:
        """Return the requests over time, in buckets of equal length."""
        cells = [
            (mount, _moment(time), counts) for (mount, time), counts in sorted(self._cells.items())
        ]
        if not cells:
            return Series(_STEPS[0], (), ())
        first, last = min(cell[1] for cell in cells), max(cell[1] for cell in cells)
        seconds = _bucket_seconds(first, last, _SMALLEST[self._width])
        start = _floor(first, seconds)
        size = (last - start) // timedelta(seconds=seconds) + 1
        lines: dict[str, tuple[list[int], list[int]]] = {}
        for mount, time, (requests, errors) in cells:
            line = lines.setdefault(mount, ([0] * size, [0] * size))
            at = (time - start) // timedelta(seconds=seconds)
            line[0][at] += requests
            line[1][at] += errors
        starts = tuple(start + timedelta(seconds=seconds * at) for at in range(size))
        return Series(seconds, starts, _lines(lines.items()))

    def heat(self, mounts: Iterable[str]) -> tuple[HeatMap, ...]:
        """Return the requests of these mounts by weekday and hour."""
        return tuple(HeatMap(mount, _by_day(self._weeks[mount])) for mount in mounts)


def _lines(found: Iterable[tuple[str, tuple[list[int], list[int]]]]) -> tuple[SeriesLine, ...]:
    lines = [SeriesLine(mount, tuple(counts), tuple(bad)) for mount, (counts, bad) in found]
    return tuple(sorted(lines, key=lambda line: (-sum(line.requests), line.mount)))


def _by_day(week: list[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(week[day * HOURS : (day + 1) * HOURS]) for day in range(WEEKDAYS))


def _moment(time: str) -> datetime:
    """Return the start of the minute, hour, day or month that a text names."""
    return datetime.fromisoformat(f"{time}-01" if len(time) == 7 else time).replace(tzinfo=UTC)


def _bucket_seconds(first: datetime, last: datetime, smallest: int) -> int:
    """Return the shortest bucket length (seconds) that keeps the range within ``BUCKETS_MAX``."""
    for step in _STEPS:
        buckets = (last - _floor(first, step)) // timedelta(seconds=step) + 1
        if step >= smallest and buckets <= BUCKETS_MAX:
            return step
    days = (last - first).days // (BUCKETS_MAX - 1) + 1
    return max(days * _DAY, smallest)


def _floor(moment: datetime, seconds: int) -> datetime:
    """Round a time down to a multiple of so many seconds; weeks start on Mondays."""
    since = (moment - _EPOCH) // timedelta(seconds=1)
    try:
        return _EPOCH + timedelta(seconds=since - since % seconds)
    except OverflowError:
        return moment
