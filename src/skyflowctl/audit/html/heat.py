"""Token requests over the week: two heat maps, by weekday and by mount."""

from collections.abc import Sequence

from skyflowctl.audit.html.svg import drawing, figures, tag, words
from skyflowctl.audit.html.text import amount, name, number, shortened, text
from skyflowctl.audit.report_model import HOURS, WEEKDAYS, HeatMap

MOUNTS_SHOWN = 12
LEVELS = 5
_TO = "\N{EN DASH}"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WIDTH, _LEFT, _CELL, _ROW, _TOP = 448, 112, 14.0, 22, 22

HeatRows = Sequence[tuple[str, Sequence[int]]]


def heat_maps(heat: Sequence[HeatMap]) -> str:
    """Return both maps side by side, each with its legend and figures."""
    if not any(any(each.hours) for each in heat):
        return '<p class="empty">No requests were made in this period.</p>'
    days = [
        (_DAYS[at], [sum(each.cells[at][hour] for each in heat) for hour in range(HOURS)])
        for at in range(WEEKDAYS)
    ]
    mounts: HeatRows = [(each.mount, each.hours) for each in heat[:MOUNTS_SHOWN]]
    left = len(heat) - len(mounts)
    rest = (
        f" {amount(left, 'less active mount is', 'less active mounts are')} not shown here."
        if left > 0
        else ""
    )
    return (
        '<div class="pair">'
        + _map("heat-days", "By weekday", "Requests by weekday and hour", days, "")
        + _map("heat-mounts", "By mount", "Requests by mount and hour", mounts, rest)
        + "</div>"
    )


def _map(ident: str, heading: str, title: str, rows: HeatRows, rest: str) -> str:
    busy, hour, most = _peak(rows)
    peak = f"{shortened(busy, 60)}, {hour:02}:00 to {(hour + 1) % HOURS:02}:00"
    told = f"Hours of the day in UTC. Most requests: {peak}, {number(most)}."
    height = _TOP + _ROW * len(rows) + 4
    cells = "".join(_row(at, label, counts, most) for at, (label, counts) in enumerate(rows))
    image = drawing(ident, (_WIDTH, height), title, told, _hours() + cells, class_="chart heat")
    head = ["", *(f"{each:02}" for each in range(HOURS))]
    table = [[name(label), *map(number, counts)] for label, counts in rows]
    return (
        f"<figure><h3>{heading}</h3>{image}<figcaption><p>Busiest hour (dotted): "
        f"<bdi>{text(peak)}</bdi> UTC, <strong>{number(most)}</strong>.{rest}</p>"
        f"{_key(most)}</figcaption>"
        f"{figures(title, head, table)}</figure>"
    )


def _peak(rows: HeatRows) -> tuple[str, int, int]:
    """Return the row, hour and requests of the busiest cell; of equal ones the earliest."""
    cells = [
        (-count, at, hour)
        for at, (_, counts) in enumerate(rows)
        for hour, count in enumerate(counts)
    ]
    count, at, hour = min(cells)
    return rows[at][0], hour, -count


def _hours() -> str:
    return "".join(
        words(f"{hour:02}", _LEFT + _CELL * (hour + 0.5), _TOP - 8, "tick mid")
        for hour in range(0, HOURS, 3)
    )


def _row(at: int, label: str, counts: Sequence[int], most: int) -> str:
    y = _TOP + _ROW * at
    parts = [words(shortened(label, 17), 0, y + 15, "tick")]
    for hour, count in enumerate(counts):
        tip = f"{shortened(label, 60)}, {hour:02}:00: {number(count)}"
        parts.append(
            tag(
                "rect",
                tag("title", text(tip)),
                x=_LEFT + _CELL * hour + 0.75,
                y=y + 0.75,
                width=_CELL - 1.5,
                height=_ROW - 1.5,
                rx=2,
                class_=f"h{level(count, most)}",
            )
        )
        if count == most:
            middle = _LEFT + _CELL * (hour + 0.5)
            parts.append(tag("circle", cx=middle, cy=y + _ROW / 2, r=2.5, class_="peak"))
    return "".join(parts)


def level(count: int, most: int) -> int:
    """Return how dark a cell is: 0 for no request, else 1 to 5.

    The steps grow as squares (4, 16, 36, 64 and 100 % of the maximum), so that quiet hours
    differ visibly too.
    """
    for shade in range(LEVELS):
        if count <= most * shade**2 // LEVELS**2:
            return shade
    return LEVELS


def _key(most: int) -> str:
    """Return the legend of the shades; shades that no count can have are omitted."""
    parts = []
    for shade in range(LEVELS + 1):
        low = most * (shade - 1) ** 2 // LEVELS**2 + 1 if shade else 0
        high = most * shade**2 // LEVELS**2
        if low > high:
            continue
        words_ = number(low) if low == high else f"{number(low)}{_TO}{number(high)}"
        parts.append(
            '<li><svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
            f'<rect width="12" height="12" rx="2" class="h{shade}"/></svg>{words_}</li>'
        )
    return f'<ul class="key" aria-label="Requests by shade">{"".join(parts)}</ul>'
