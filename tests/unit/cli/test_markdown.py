"""A page of Markdown: what comes from outside stays text, and a cut is told."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from skyflowctl.cli.markdown import LONGEST, MarkdownPage

PARSER = MarkdownIt("commonmark").enable("table")
HOSTILE = [
    "```",
    "`````` ~~~",
    "a | b | c",
    "</code></pre></details><script>alert(1)</script>",
    "@octocat @org/team #1 !2 GH-3",
    "/close",
    "![x](http://127.0.0.1/p.png) [y](javascript:z)",
    "one\ntwo\r\n```\nthree",
    "\u202e gnp \u200b \x1b[2J",
    "<!-- -->",
    "# heading",
    "    ```",
    "&lt;&#64;octocat",
]


def parsed(text: str) -> list[tuple[str, str]]:
    return [(one.type, one.content) for one in PARSER.parse(text)]


def outside_fences(text: str) -> str:
    return "\n".join(content for kind, content in parsed(text) if kind != "fence")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("sign", ["+ ", ""])
def test_nothing_from_outside_leaves_its_block(text, sign):
    page = MarkdownPage()
    page.paragraph("### ours")
    page.block([sign + text])
    page.fold("to create", [[sign + text, "second"]], "diff")
    page.fold("drifted", [["third"]], is_open=True)
    made = page.text("skyflowctl plan")
    fences = [content for kind, content in parsed(made) if kind == "fence"]
    assert len(fences) == 3
    assert all(fence.count("\n") == lines for fence, lines in zip(fences, (1, 2, 1), strict=True))
    html = [content.strip() for kind, content in parsed(made) if kind == "html_block"]
    assert html == [
        "<details>\n<summary>1 to create</summary>",
        "</details>",
        "<details open>\n<summary>1 drifted</summary>",
        "</details>",
    ]
    assert "octocat" not in outside_fences(made)
    assert "\x1b" not in made
    assert "\u202e" not in made


def test_a_page_that_fits_has_everything_and_says_nothing_of_a_cut():
    page = MarkdownPage()
    page.fold("to create", [[f"+ role {number}"] for number in range(1000)], "diff")
    made = page.text("skyflowctl plan")
    assert made.count("+ role") == 1000
    assert "Cut" not in made


@pytest.mark.parametrize("character", ["x", "`", "é", "🔑"])
def test_a_page_that_is_too_long_is_cut_and_says_what_is_missing(character):
    page = MarkdownPage()
    page.paragraph("### ours")
    page.fold("to delete", [[f"- role {number}"] for number in range(10)], "diff")
    page.fold("to create", [[f"+ role {number}", character * 90] for number in range(1000)], "diff")
    made = page.text("skyflowctl plan")
    assert LONGEST - 5_000 < len(made) <= LONGEST
    assert made.count("- role") == 10
    left = 1000 - made.count("+ role")
    assert 200 < left < 900
    said = f"Not shown here: {left} of 1,000 to create. `skyflowctl plan` shows everything."
    assert said in made
    assert made.index(said) < made.index("- role")
    assert [kind for kind, _ in parsed(made)].count("fence") == 2


def test_one_change_without_end_leaves_room_for_the_others():
    page = MarkdownPage()
    page.fold("to update", [["! big", *["+ line"] * 5000], ["! small"]], "diff")
    page.fold("to create", [["+ long", "y" * 300_000]], "diff")
    made = page.text("skyflowctl plan")
    assert "… (4701 more lines)" in made
    assert "! small" in made
    assert "… (299,000 more characters)" in made
    assert "Not shown here: the ends of 2 long texts." in made
    assert len(made) <= LONGEST


def test_backticks_without_end_cannot_make_it_longer():
    page = MarkdownPage()
    for _ in range(20):
        page.fold("to update", [["! big", "`" * 300_000]] * 3, "diff")
    assert len(page.text("skyflowctl plan")) <= LONGEST


def test_a_table_has_our_words_and_no_rows_no_table():
    page = MarkdownPage()
    page.table(["", "create"], [])
    assert page.text("x") == "\n"
    page.table(["", "create"], [["mount", 1]])
    assert ("inline", "mount") in parsed(page.text("x"))
