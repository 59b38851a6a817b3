"""When a benchmark may call a limit missed: only beyond its own noise."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "_compare.py"


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("_compare", FILE)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "_compare", module)
        spec.loader.exec_module(module)
        yield module
        sys.path[:] = path


# From tables of the sign test: the median lies between the nth smallest and nth largest value.
@pytest.mark.parametrize(("rounds", "nth"), [(5, 1), (6, 1), (9, 2), (15, 4), (25, 8)])
def test_the_interval_is_that_of_fair_coins(compare, rounds, nth):
    values = [float(number) for number in range(1, rounds + 1)]
    ratio = compare.Ratio("x", values, [1.0] * rounds)
    assert ratio.interval == (nth, rounds + 1 - nth)


@pytest.mark.parametrize(
    ("values", "word", "code"),
    [
        ([1.0] * 15, "ok", 0),
        ([3.0] * 15, "MISSED", 1),
        ([1.0] * 5 + [2.1] * 10, "within noise", 0),
        ([1.0] * 1 + [2.1] * 14, "MISSED", 1),
    ],
)
def test_an_upper_limit(compare, capsys, values, word, code):
    ratios = [compare.Ratio("x", values, [1.0] * 15, at_most=2.0)]
    assert compare.judge("title", ratios) == code
    assert capsys.readouterr().out.endswith(f"limit <= 2x: {word}\n")


@pytest.mark.parametrize(
    ("values", "word", "code"),
    [
        ([50.0] * 15, "ok", 0),
        ([30.0] * 15, "MISSED", 1),
        ([50.0] * 5 + [39.0] * 10, "within noise", 0),
    ],
)
def test_a_lower_limit(compare, capsys, values, word, code):
    ratios = [compare.Ratio("x", values, [1.0] * 15, at_least=40.0)]
    assert compare.judge("title", ratios) == code
    assert capsys.readouterr().out.endswith(f"limit >= 40x: {word}\n")


def test_without_a_limit_nothing_is_missed(compare):
    assert compare.judge("title", [compare.Ratio("x", [9.0] * 9, [1.0] * 9)]) == 0


def test_rounds_alternate_and_the_first_does_not_count(compare):
    order = []
    cases = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert compare.in_turns(cases, 2) == {"a": [3, 5], "b": [4, 6]}
    assert order == list("ababab")
