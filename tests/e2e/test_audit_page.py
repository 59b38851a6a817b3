"""The report's page in a real headless Chromium: drawn, usable, quiet and harmless.

Pictures and a print of it are kept in the folder that SKYFLOWCTL_TEST_ARTIFACTS names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import audit_reports
from support.browser import PROGRAM, Browser, Page, running_browser

from skyflowctl.audit.html.page import render

pytestmark = [pytest.mark.needs(PROGRAM)]

STATES = ("empty", "small", "usual", "huge", "hostile")
USAGE = "#usage-table"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for state in STATES:
        source = render(getattr(audit_reports, state)())
        (folder / f"{state}.html").write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def show(browser: Browser, pages: Path) -> Open:
    def opened(state: str, *, width: int = 1440, dark: bool = False) -> Page:
        return browser.open(width=width, dark=dark).visit(pages / f"{state}.html")

    return opened


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SKYFLOWCTL_TEST_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def complaints(page: Page) -> list[dict]:
    """Console messages, errors, warnings, policy reports and issues of any kind."""
    names = (
        *("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"),
        *("Audits.issueAdded", "Page.javascriptDialogOpening"),
    )
    return [told for each in names for told in page.named(each)]


def requested(page: Page) -> list[str]:
    return [told["request"]["url"] for told in page.named("Network.requestWillBeSent")]


def rows(page: Page, table: str = USAGE) -> list[list[str]]:
    """The rows that can be seen, cell by cell."""
    return page.run(
        f"[...document.querySelectorAll('{table} tbody tr')].filter(r => r.checkVisibility())"
        ".map(r => [...r.cells].map(c => c.textContent.trim()))"
    )


def count(page: Page, table: str = USAGE) -> str:
    return page.run(f"document.querySelector('{table} .count').textContent")


def background(page: Page) -> str:
    return page.run("getComputedStyle(document.documentElement).backgroundColor")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dark", [False, True])
def test_it_loads_only_itself_and_complains_of_nothing(
    state: str, dark: bool, show: Open, pages: Path
) -> None:
    page = show(state, dark=dark)
    assert requested(page) == [(pages / f"{state}.html").as_uri()]
    assert complaints(page) == []
    assert not page.named("Network.webSocketCreated")


def test_the_policy_is_in_force(show: Open) -> None:
    """What this file relies on to see: a refused script, style and request are all told."""
    page = show("small")
    page.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
        "document.body.append(i); document.body.setAttribute('style', 'color: red'); })()"
    )
    page.settle()
    assert page.run("window.bad") is None
    told = json.dumps(complaints(page))
    for directive in ("script-src", "img-src", "style-src"):
        assert directive in told


def test_every_chart_is_drawn(show: Open) -> None:
    page = show("usual")
    boxes = page.run(
        "Object.fromEntries([...document.querySelectorAll('svg.chart')]"
        ".filter(s => s.checkVisibility()).map(s => [s.querySelector('title').textContent,"
        "[...s.querySelectorAll('rect:not(defs *), path.leader')].map(e => e.getBoundingClientRect())"
        ".map(b => [b.width, b.height])]))"
    )
    assert {title: len(shapes) > 4 for title, shapes in boxes.items()} == {
        "Requests over time, by mount": True,
        "Requests by weekday and hour": True,
        "Requests by mount and hour": True,
        "Requests by application": True,
    }
    for shapes in boxes.values():
        assert all(width > 0 and height > 0 for width, height in shapes)


def test_columns_are_as_high_as_their_figures(show: Open) -> None:
    report = audit_reports.usual()
    page = show("usual")
    heights = page.run(
        "[...document.querySelectorAll('#time svg.wide .column')].map(g => g.getBBox().height)"
    )
    totals = [sum(each) for each in zip(*(li.requests for li in report.series.lines), strict=True)]
    assert len(heights) == len(totals)
    scale = max(heights) / max(totals)
    # A hair is left between two colours, and the highest one starts the scale.
    assert all(abs(h - t * scale) < 2 for h, t in zip(heights, totals, strict=True))


def test_the_filter_finds_rows_and_says_how_many(show: Open) -> None:
    page = show("usual")
    whole = rows(page)
    page.click(f"{USAGE} input")
    page.write("INVOICE order-")
    page.settle()
    assert rows(page) == [
        row for row in whole if "invoice" in " ".join(row) and "order-" in " ".join(row)
    ]
    page.run(f"document.querySelector('{USAGE} input').value = ''")
    page.write("payment-gateway")
    page.settle()
    found = rows(page)
    assert 0 < len(found) < len(whole)
    assert all("payment-gateway" in row[0] for row in found)
    assert count(page) == f"Showing {len(found)} of {len(whole)} rows"
    assert page.run(f"document.querySelector('{USAGE} .count').ariaLive") == "polite"


def test_the_filter_has_a_label_of_its_own_in_every_table(show: Open) -> None:
    page = show("usual")
    labels = page.run(
        "[...document.querySelectorAll('.table')].map(t => t.querySelector('input').labels[0]"
        ".textContent)"
    )
    assert len(labels) == 4
    assert len(set(labels)) == 4
    assert all(label.startswith("Filter ") for label in labels)


def test_a_head_sorts_by_click_both_ways(show: Open) -> None:
    page = show("usual")
    before = rows(page)
    head = f"{USAGE} th:nth-child(3)"
    page.click(f"{head} button")
    assert page.run(f"document.querySelector('{head}').ariaSort") == "ascending"
    up = [row[2] for row in rows(page)]
    assert up == sorted(row[2] for row in before)
    page.click(f"{head} button")
    assert page.run(f"document.querySelector('{head}').ariaSort") == "descending"
    assert [row[2] for row in rows(page)] == up[::-1]
    assert page.run(f"document.querySelectorAll('{USAGE} [aria-sort]').length") == 1


def test_a_head_sorts_figures_by_keyboard(show: Open) -> None:
    page = show("usual")
    page.run(f"document.querySelector('{USAGE} input').focus()")
    for _ in range(4):
        page.press("Tab")
    assert page.run("document.activeElement.textContent") == "Requests"
    page.press("Enter")
    up = [int(re.sub(r"\D.*", "", row[3].replace(",", ""))) for row in rows(page)]
    assert up == sorted(up)
    page.press(" ")
    down = [int(re.sub(r"\D.*", "", row[3].replace(",", ""))) for row in rows(page)]
    assert down == up[::-1]


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(show: Open) -> None:
    page = show("usual")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().top") >= 0
    page.press("Enter")
    assert page.run("document.activeElement.id") == "main"
    page = show("usual")
    total = page.run(
        "[...document.querySelectorAll('a, button, input, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).length"
    )
    tops, seen = [], set()
    for _ in range(total):
        page.press("Tab")
        at, top, style = page.run(
            "(e => [[...document.querySelectorAll('*')].indexOf(e), e.getBoundingClientRect().top"
            " + scrollY, getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        seen.add(at)
        tops.append(at)
        assert style == "solid", at
        assert top is not None
    assert len(seen) == total
    assert tops == sorted(tops)


def test_many_rows_are_folded_with_their_number_and_found_all_the_same(show: Open) -> None:
    page = show("huge")
    assert len(rows(page)) == 50
    assert count(page) == "Showing the first 50 of 500 rows, 450 folded"
    page.click(f"{USAGE} input")
    page.write("service-499")
    page.settle()
    assert [row[0] for row in rows(page)] == ["service-499 approle"]
    page.run(f"document.querySelector('{USAGE} input').value = ''")
    page.write(" ")
    page.settle()
    page.click(f"{USAGE} .more button")
    assert len(rows(page)) == 500
    assert count(page) == "500 rows"


def test_dark_follows_the_system_and_the_button_and_keeps_nothing(show: Open) -> None:
    light, dark = show("usual"), show("usual", dark=True)
    assert background(light) != background(dark)
    before = background(dark)
    dark.click("#theme")
    assert background(dark) == background(light)
    light.click("#theme")
    assert background(light) == before
    assert complaints(light) == []


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_the_page(dark: bool, show: Open) -> None:
    """WCAG AA, 4.5 to 1, for every text that is not part of a drawing's data."""
    page = show("usual", dark=dark)
    lowest = page.run(
        """(() => {
          const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
          const light = css => { canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
              .map(v => v / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const ground = light(getComputedStyle(document.documentElement).backgroundColor);
          return Math.min(...[...document.querySelectorAll('p, a, td, th, dt, dd, h1, h2, h3, span, text')]
            .filter(e => e.checkVisibility() && e.textContent.trim())
            .map(e => light(getComputedStyle(e)[e.localName === 'text' ? 'fill' : 'color']))
            .map(l => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05)));
        })()"""
    )
    assert lowest >= 4.5


def test_a_screen_reader_gets_headings_landmarks_tables_and_described_drawings(show: Open) -> None:
    for width in (1440, 360):
        nodes = show("usual", width=width).call("Accessibility.getFullAXTree")["nodes"]
        told = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]
        roles = {role for role, _ in told}
        assert {"banner", "navigation", "main", "contentinfo", "searchbox", "status"} <= roles
        assert {"table", "row", "columnheader", "rowheader", "cell"} <= roles
        assert [name for role, name in told if role == "heading"][:2] == [
            *("Skyflow token access: prod-eu-1, production", "Anomalies")
        ]
        drawings = [name for role, name in told if role == "image"]
        assert "Requests over time, by mount" in drawings
        assert all(drawings)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("width", [360, 820, 1024, 1600])
def test_no_width_makes_the_page_scroll_sideways(state: str, width: int, show: Open) -> None:
    page = show(state, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_hostile_texts_run_nothing(show: Open) -> None:
    page = show("hostile")
    title = page.run("document.title")
    page.click(f"{USAGE} input")
    page.write("<script>")
    page.settle()
    assert rows(page)
    page.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.settle()
    assert page.run("[window.owned, document.querySelectorAll('script, iframe, img').length]") == [
        *(None, 1)
    ]
    assert page.run("document.title") == title
    assert title.startswith("Skyflow token access: ")
    assert complaints(page) == []
    assert len(requested(page)) == 1


@pytest.mark.slow
def test_it_prints_on_pages_with_repeated_heads_and_every_row(show: Open, artifacts: Path) -> None:
    page = show("huge")
    data = page.pdf(artifacts / "audit-huge.pdf")
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) > 10
    page.call("Emulation.setEmulatedMedia", media="print")
    assert len(rows(page)) == 500
    unseen = "nav, input, button, summary, .figures"
    assert (
        page.run(
            f"[...document.querySelectorAll('{unseen}')].filter(e => e.checkVisibility()"
            " && !e.closest('.rules, .long')).length"
        )
        == 0
    )
    # Chromium repeats a head on every sheet only if there is no button in it.
    assert page.run(
        "[...document.querySelectorAll('.table thead')].every(h => "
        "getComputedStyle(h).display === 'table-header-group' && "
        "getComputedStyle(h).breakInside === 'avoid')"
    )


def test_paper_is_light_also_when_the_screen_is_dark(show: Open) -> None:
    page = show("usual", dark=True)
    page.click("#theme")
    page.click("#theme")
    page.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert background(page) == "rgb(255, 255, 255)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "look", "width", "dark"),
    [
        ("usual", "light", 1440, False),
        ("usual", "dark", 1440, True),
        ("usual", "phone", 360, False),
        ("huge", "light", 1440, False),
        ("empty", "light", 1440, False),
        ("hostile", "light", 1440, False),
    ],
)
def test_pictures_are_taken(
    state: str, look: str, width: int, dark: bool, show: Open, artifacts: Path
) -> None:
    picture = artifacts / f"audit-{state}-{look}.png"
    page = show(state, width=width, dark=dark)
    page.screenshot(picture)
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) == width
    if look == "light":
        page.pdf(artifacts / f"audit-{state}.pdf")
