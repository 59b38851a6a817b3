"""The apps with the most requests: one bar each, with requests without a token hatched."""

from collections.abc import Sequence
from dataclasses import dataclass

from skyflowctl.audit.html.svg import drawing, figures, tag, words
from skyflowctl.audit.html.text import amount, app_name, number, percent, shortened, text
from skyflowctl.audit.report_model import TopApp

_ROW = 34


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


def top_apps(apps: Sequence[TopApp]) -> str:
    """Return the chart, drawn for wide and for narrow pages, with its figures."""
    shown = [each for each in apps if each.tally.requests]
    if not shown:
        return '<p class="empty">No tokens were requested in this period.</p>'
    drawn = "".join(_draw(shown, frame) for frame in (_WIDE, _NARROW))
    rows = [
        [
            app_name(each.app, each.auth),
            number(each.tally.requests),
            number(each.tally.granted),
            number(each.tally.errors),
            number(each.roles),
        ]
        for each in shown
    ]
    head = ["Application", "Requests", "Token issued", "No token issued", "Roles"]
    key = _key() if any(each.tally.errors for each in shown) else ""
    return f"<figure>{drawn}{key}</figure>{figures('Most active applications', head, rows)}"


def _draw(apps: Sequence[TopApp], frame: _Frame) -> str:
    most = max(each.tally.requests for each in apps)
    row = _ROW if frame.names else _ROW + 14
    bars = "".join(_bar(each, at * row, most, frame) for at, each in enumerate(apps))
    first = apps[0]
    told = (
        f"{amount(len(apps), 'application')}, most active first: {shortened(first.app, 60)} with "
        f"{amount(first.tally.requests, 'request')} on {amount(first.roles, 'role')}."
    )
    pattern = tag(
        "pattern",
        tag("rect", width=6, height=6, class_="hatch-ground")
        + tag("path", d="M-1 1l2-2M0 6l6-6M5 7l2-2", class_="hatch"),
        id=f"{frame.ident}-hatch",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
    )
    height = row * len(apps) + 2
    title = "Requests by application"
    content = tag("defs", pattern) + bars
    return drawing(frame.ident, (frame.width, height), title, told, content, class_=frame.class_)


def _bar(each: TopApp, y: int, most: int, frame: _Frame) -> str:
    tally = each.tally
    label = shortened(each.app or "unknown", frame.letters)
    room = frame.width - frame.names - frame.figures
    size = max(2.0, room * tally.requests / most)
    bad = size * tally.errors / tally.requests
    bad = max(bad, 1.5) if tally.errors else 0.0
    top = y + (6 if frame.names else 22)
    tip = (
        f"{shortened(each.app, 60)}: {amount(tally.requests, 'request')}, "
        f"{number(tally.errors)} without a token"
    )
    parts = [tag("title", text(tip))]
    parts.append(words(label, 0, y + (22 if frame.names else 15), "label"))
    parts.append(
        tag("rect", x=frame.names, y=top, width=max(0.5, size - bad), height=22, class_="bar")
    )
    if bad:
        fill = f"url(#{frame.ident}-hatch)"
        x = frame.names + max(0.5, size - bad) + 1
        parts.append(tag("rect", x=x, y=top, width=bad, height=22, fill=fill, class_="bad-end"))
    share = f"{percent(tally.errors, tally.requests)} without a token" if tally.errors else ""
    x = frame.names + size + 10
    parts.append(words(number(tally.requests), x, top + 15, "figure"))
    if frame.names and share:
        wide = 8.2 * len(number(tally.requests))
        parts.append(words(share, x + wide + 6, top + 15, "tick"))
    return tag("g", "".join(parts), class_="app")


def _key() -> str:
    return (
        '<figcaption><ul class="key"><li><svg class="swatch" viewBox="0 0 12 12" '
        'aria-hidden="true"><rect width="12" height="12" class="bar"/></svg>token issued</li>'
        '<li><svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        '<rect width="12" height="12" class="hatch-ground"/>'
        '<path d="M-1 1l2-2M0 6l6-6M0 12l12-12M6 12l6-6" class="hatch"/></svg>'
        "no token issued: denied, refused or failed</li></ul></figcaption>"
    )
