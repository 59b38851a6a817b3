"""The page of an incident in a real headless Chromium: quiet, harmless, printable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.audit_logs import Story, approle, created, written
from support.browser import PROGRAM, Browser, Page, running_browser
from support.cli import invoke

pytestmark = [pytest.mark.needs(PROGRAM)]

KEY = "k1-0f5b9a7c"
HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x1b[2J'\"|=cmd"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("incident")
    told = Story(plain_ctx=True)
    apps = [told.login(approle(f"service-{number}")) for number in range(60)]
    hostile = told.login(created(HOSTILE))
    for number, app in enumerate(apps):
        told.creds(app, f"order:ORD-{number}", key_id=KEY, claimed="checkout")
    told.creds(hostile, HOSTILE, key_id=KEY, role=HOSTILE)
    told.sign(apps[0], "order:1", key_id=KEY)
    told.rotation(to="k2-77aa01de")
    log = written(place, "audit.log", told.device())
    done = invoke("audit", "incident", log, "--key-id", KEY, "--evidence", str(place / "found"))
    assert done.exit_code == 0, done.output
    return place / "found"


def opened(browser: Browser, folder: Path, *, width: int = 1440, dark: bool = False) -> Page:
    return browser.open(width=width, dark=dark).visit(folder / "incident.html")


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False)])
def test_it_loads_only_itself_and_complains_of_nothing(
    browser: Browser, folder: Path, width: int, dark: bool
) -> None:
    page = opened(browser, folder, width=width, dark=dark)
    asked = [told["request"]["url"] for told in page.named("Network.requestWillBeSent")]
    assert asked == [(folder / "incident.html").as_uri()]
    for event in ("Log.entryAdded", "Runtime.exceptionThrown", "Audits.issueAdded"):
        assert page.named(event) == []
    assert not page.named("Page.javascriptDialogOpening")
    wide = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_hostile_names_are_text(browser: Browser, folder: Path) -> None:
    page = opened(browser, folder)
    assert page.run("document.querySelectorAll('img, iframe, object').length") == 0
    assert "onerror" in page.run("document.querySelector('#tokens-table').textContent")


def test_all_that_a_reader_signs_is_there(browser: Browser, folder: Path) -> None:
    page = opened(browser, folder)
    heads = page.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert heads[-1] == "Sign-off"
    assert "What is not known" in heads
    text = page.run("document.querySelector('#sign-off').textContent")
    for words in ("Prepared by", "Prepared at", "Reviewed by (name)", "Date", "Signature"):
        assert words in text
    lines = page.run("[...document.querySelectorAll('.blank')].map(b => b.offsetWidth)")
    assert len(lines) == 4
    assert all(width > 100 for width in lines)
    rows = page.run("document.querySelectorAll('#tokens-table tbody tr').length")
    assert rows == 62


def test_a_print_has_every_token(browser: Browser, folder: Path, tmp_path: Path) -> None:
    place = Path(os.environ.get("SKYFLOWCTL_TEST_ARTIFACTS") or tmp_path)
    place.mkdir(parents=True, exist_ok=True)
    page = opened(browser, folder)
    page.screenshot(place / "incident.png")
    assert page.pdf(place / "incident.pdf").startswith(b"%PDF")
    page.call("Emulation.setEmulatedMedia", media="print")
    shown = page.run(
        "[...document.querySelectorAll('#tokens-table tbody tr')].every(r => r.checkVisibility())"
    )
    assert shown
