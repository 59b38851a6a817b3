"""The report's page as text: its policy, its escaping, its structure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from support import audit_reports

from skyflowctl.audit.html import page
from skyflowctl.audit.html.charts import level
from skyflowctl.audit.html.filters import percent, printable, short_number
from skyflowctl.audit.html.timeline import nice_steps
from skyflowctl.audit.report_model import Range, Report, Series, SeriesLine

STATES = ("empty", "small", "usual", "huge", "hostile")
VOID = {"meta", "input", "wbr", "br", "img", "link", "hr"}


def name(value: str) -> str:
    """A name as every part of the page prints it."""
    return str(page.environment().get_template("parts.html.j2").module.name(value))


def report(state: str) -> Report:
    return getattr(audit_reports, state)()


class Reader(HTMLParser):
    """Elements, attributes and texts as a parser sees them; nesting must be right."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))


@pytest.fixture(params=STATES)
def drawn(request: pytest.FixtureRequest) -> tuple[str, Reader]:
    source = page.render(report(request.param))
    return source, Reader(source)


def test_no_element_loads_or_sends_anything(drawn: tuple[str, Reader]) -> None:
    loading = {"link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "use"}
    for tag, attributes in drawn[1].elements:
        assert tag not in loading
        assert not {"src", "srcset", "action", "style", "xlink:href"} & set(attributes)
        assert not [key for key in attributes if key.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")


def test_the_policy_names_the_very_style_and_script(drawn: tuple[str, Reader]) -> None:
    source, reader = drawn
    policies = [a for tag, a in reader.elements if a.get("http-equiv")]
    assert len(policies) == 1
    content = policies[0]["content"] or ""
    assert content.startswith("default-src 'none'; ")
    assert "unsafe" not in content
    for kind in ("style", "script"):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in content
    assert content.endswith("base-uri 'none'; form-action 'none'")
    # The policy binds only what comes after it.
    assert source.index("Content-Security-Policy") < source.index("<style>")


def test_ids_are_unique_and_every_reference_is_there(drawn: tuple[str, Reader]) -> None:
    elements = drawn[1].elements
    idents = [a["id"] for _, a in elements if "id" in a]
    assert len(idents) == len(set(idents))
    for _, attributes in elements:
        for key in ("for", "aria-labelledby", "aria-describedby"):
            if key in attributes:
                assert attributes[key] in idents
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in idents


def test_it_can_be_written_and_says_the_same_again(drawn: tuple[str, Reader]) -> None:
    source = drawn[0]
    source.encode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", source)


@pytest.mark.parametrize("state", STATES)
def test_the_same_report_gives_the_same_page(state: str) -> None:
    assert page.render(report(state)) == page.render(report(state))


def test_hostile_texts_stay_texts() -> None:
    reader = Reader(page.render(audit_reports.hostile()))
    scripts = [data for tag, data in reader.texts if tag == "script"]
    assert "owned" not in "".join(scripts)
    assert sum(tag == "script" for tag, _ in reader.elements) == 1
    shown = "".join(data for tag, data in reader.texts if tag not in ("script", "style"))
    assert "<script>document.title='owned'</script>" in shown
    assert "invoice\\u202egpj.exe" in shown
    assert "lone\\ud800surrogate" in shown
    assert "nul\\u0000and\\u001b[31mred\\u2028line" in shown


@pytest.mark.parametrize("hostile", audit_reports.HOSTILE)
@pytest.mark.parametrize("source", ["{{ it }}", "{{ it|isolated }}", '<i title="{{ it }}"></i>'])
def test_a_template_escapes_whatever_it_prints(hostile: str, source: str) -> None:
    printed = page.environment().from_string(source).render(it=hostile)
    plain = page.environment().from_string(source).render(it="")
    reader = Reader(printed)
    assert [tag for tag, _ in reader.elements if tag != "wbr"] == [
        tag for tag, _ in Reader(plain).elements
    ]
    found = "".join(data for _, data in reader.texts) or reader.elements[0][1]["title"]
    assert found == printable(hostile)
    printed.encode()


def test_only_texts_of_our_own_are_printed_as_html() -> None:
    folder = Path(page.__file__).parent / "templates"
    sources = [file.read_text() for file in sorted(folder.glob("*.j2"))]
    assert len(sources) == 5
    whole = "".join(sources)
    trusted = re.findall(r'([\w."<>]+)\s*\|\s*safe', whole)
    assert sorted(set(trusted)) == ['"<br>"', "opening", "policy", "script", "style"]
    assert not re.search(r"autoescape|Markup|\bsafe\b(?<!\|safe)", whole)


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        page.environment().from_string("{{ rol }}").render(role="r")


def test_a_pile_of_marks_is_written_out_but_an_accent_is_not() -> None:
    assert printable("e" + "\u0301" * 3) == "e" + "\u0301" * 3
    assert printable("e" + "\u0301" * 5) == "e" + "\u0301" * 3 + "\\u0301" * 2


def test_a_long_name_is_folded_and_whole() -> None:
    shown = name("x" * 500)
    assert "x" * 500 in shown
    assert "(500 characters)" in shown
    assert shown.startswith("<details")


def test_a_name_with_slashes_may_break_after_them() -> None:
    assert name("skyflow/order") == "<bdi>skyflow/<wbr>order</bdi>"


def test_uses_come_with_the_heaviest_first() -> None:
    source = page.render(audit_reports.usual())
    table = source[source.index('id="usage-table"') : source.index('id="changes"')]
    cells = re.findall(r'<td class="number" data-sort="(\d+)">', table)
    requests = [int(each) for each in cells[::4]]
    assert requests == sorted(requests, reverse=True)
    assert len(requests) == len(audit_reports.usual().usage)


def test_every_digest_count_and_limit_is_there() -> None:
    whole = audit_reports.huge()
    source = page.render(whole)
    for each in whole.inputs:
        assert each.sha256 in source
    assert "3 log entries could not be read" in source
    for limit in whole.limits:
        assert limit.detail in source
    assert "Incomplete:" in source


def test_a_whole_and_clean_log_raises_no_doubt() -> None:
    assert "Incomplete:" not in page.render(audit_reports.small())


def test_few_mounts_are_each_drawn_and_many_share_the_last_place() -> None:
    assert "other mount" not in page.render(audit_reports.usual(6))
    assert "2 other mounts" in page.render(audit_reports.usual(7))


@pytest.mark.parametrize("seconds", [60, 900, 3600, 86_400, 7 * 86_400, 31 * 86_400])
@pytest.mark.parametrize("buckets", [1, 2, 3, 119, 120])
def test_any_series_is_drawn_with_a_labelled_axis(seconds: int, buckets: int) -> None:
    start = datetime(2025, 12, 30, 7, 31, tzinfo=UTC)
    starts = tuple(start + timedelta(seconds=seconds * at) for at in range(buckets))
    line = SeriesLine("m", tuple(range(1, buckets + 1)), (0,) * buckets)
    drawn = replace(audit_reports.small(), series=Series(seconds, starts, (line,)))
    source = page.render(drawn)
    wide = source[source.index('aria-labelledby="time-wide-t"') :]
    wide = wide[: wide.index("</svg>")]
    assert wide.count('class="column"') == buckets
    assert 1 <= len(re.findall(r'class="tick (?:start|mid|end)"', wide)) - 2 <= 15


def test_times_at_the_ends_of_the_calendar() -> None:
    ends = Range(None, None, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    assert "0001-01-01 00:00:00" in page.render(replace(audit_reports.small(), range=ends))


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "\N{EN DASH}"),
        (0, 9, "0 %"),
        (9, 9, "100 %"),
        (1, 10**6, "under 0.1 %"),
        (10**6 - 1, 10**6, "99.9 %"),
        (1, 3, "33.3 %"),
    ],
)
def test_percent_never_rounds_to_all_or_nothing(part: int, whole: int, shown: str) -> None:
    assert percent(part, whole) == shown


def test_figures_for_people() -> None:
    assert [short_number(n) for n in (0, 999, 1000, 1500, 2_000_000)] == [
        *("0", "999", "1k", "1.5k", "2M")
    ]


@pytest.mark.parametrize("most", [0, 1, 3, 7, 42, 99, 1001, 10**9])
def test_an_axis_reaches_the_most_in_few_whole_steps(most: int) -> None:
    steps = nice_steps(most, 5)
    assert steps[0] == 0
    assert steps[-1] >= most
    assert 2 <= len(steps) <= 6


def test_shades_grow_with_the_count() -> None:
    shades = [level(count, 100) for count in range(101)]
    assert shades == sorted(shades)
    assert (shades[0], shades[1], shades[4], shades[5], shades[100]) == (0, 1, 1, 2, 5)


def test_the_style_and_script_cannot_end_their_own_element() -> None:
    source = page.render(audit_reports.empty())
    assert source.count("</style") == 1
    assert source.count("</script") == 1
