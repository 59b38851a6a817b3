"""Figures, lists and spans in words; wildcards as expressions."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyflowctl.text import counted, duration, listed, size
from skyflowctl.wildcards import with_gaps


def test_a_figure_has_its_noun() -> None:
    assert [counted(n, "mount") for n in (0, 1, 2)] == ["0 mounts", "1 mount", "2 mounts"]
    assert [counted(n, "entry", "entries") for n in (1, 1234)] == ["1 entry", "1234 entries"]
    assert counted(1234, "entry", "entries", grouped=True) == "1,234 entries"


def test_long_lists_are_cut_and_say_so() -> None:
    names = list("abcdefgh")
    assert [listed(names[:n]) for n in (0, 1, 6)] == ["", "a", "a, b, c, d, e, f"]
    assert listed(names) == "a, b, c, d, e, f and 2 more"


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        ({"seconds": 59}, "0 minutes"),
        ({"minutes": 1}, "1 minute"),
        ({"minutes": 119}, "1 hour"),
        ({"hours": 47}, "1 day"),
        ({"days": -40}, "40 days"),
    ],
)
def test_a_span_is_in_its_largest_whole_unit(span: dict[str, int], shown: str) -> None:
    assert duration(timedelta(**span)) == shown


def test_bytes_are_in_decimal_units() -> None:
    shown = ["0 bytes", "1 byte", "999 bytes", "1.5 kB", "2.5 MB", "3.0 GB", "4000.0 TB"]
    assert [size(n) for n in (0, 1, 999, 1500, 2_500_000, 3 * 10**9, 4 * 10**15)] == shown


@given(st.lists(st.text("ab", max_size=2), min_size=1, max_size=5), st.text("ab/", max_size=8))
def test_gaps_mean_the_same_as_with_backtracking(parts: list[str], text: str) -> None:
    for character in (".", "[^/]"):
        plain = f"{character}*".join(map(re.escape, parts))
        found = re.fullmatch(with_gaps(map(re.escape, parts), character), text)
        assert (found is None) == (re.fullmatch(plain, text) is None)
