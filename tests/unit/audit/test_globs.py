"""Globs: what they mean, held against a plain definition of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_logs import Story, approle, written
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.audit.globs import any_glob, is_glob, literals


def means(glob: str, text: str) -> bool:
    """What a glob means, letter by letter."""
    if not glob:
        return not text
    if glob[0] == "*":
        return means(glob[1:], text) or (bool(text) and means(glob, text[1:]))
    return bool(text) and glob[0] in ("?", text[0]) and means(glob[1:], text[1:])


@given(st.text("ab*?\n.", max_size=8), st.text("ab*?\n.", max_size=8))
def test_a_glob_fits_what_it_means(glob: str, text: str) -> None:
    assert any_glob([glob])(text) == means(glob, text)


@pytest.mark.parametrize(
    ("glob", "fits", "fits_not"),
    [
        ("order:*", ["order:", "order:1\n2"], ["Order:1", "xorder:1"]),
        ("a?c", ["abc", "a\nc"], ["ac", "abcd"]),
        ("*a*b*", ["ab", "xaxbx"], ["ba"]),
        ("*ab*ab", ["abab", "xabxab"], ["ab", "aab"]),
        ("[a-z].", ["[a-z]."], ["b."]),
    ],
)
def test_only_stars_and_question_marks_mean_something(glob, fits, fits_not) -> None:
    test = any_glob([glob])
    assert [text for text in [*fits, *fits_not] if test(text)] == fits


def test_any_of_several_globs_will_do() -> None:
    assert any_glob(["a", "b*"])("bc")
    assert not any_glob([])("")
    assert [is_glob("a?"), is_glob("a")] == [True, False]
    assert literals("a*b?c") == ("a", "b", "c")


def test_h3_a_glob_of_five_stars_on_a_hostile_line_is_answered_at_once(tmp_path) -> None:
    story = Story(plain_ctx=True)
    story.creds(approle("orders"), "a" * 5_000 + "!")
    log = written(tmp_path, "audit.log", story.device())
    done = invoke("audit", "who", log, "--ctx", "*a*a*a*a*a", "-o", "json")
    assert checked_data(done.stdout)["requests"] == []


def test_h3_a_pattern_that_is_too_long_is_refused_with_its_bound(tmp_path) -> None:
    log = written(tmp_path, "audit.log", Story().device())
    done = invoke("audit", "who", log, "--app", "a" * 1025 + "*", "-o", "json")
    assert done.exit_code == 64
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "pattern-too-long"
