"""The rules of ctx: what a token may carry, and what a role asks of it."""

from contextlib import nullcontext

import pytest

from skyflowctl.engine.ctx import CtxPattern, CtxRule, InvalidCtxError, check_ctx, check_probe


@pytest.mark.parametrize(
    "ctx",
    [
        "order:42",
        "x",
        "x" * 512,
        "Zoë 東京 \u00a0",
        "*",
        {"tenant": "a"},
        {"n": 1, "f": 1.5, "b": True, "A_9": "text"},
        {f"k{number}": "v" for number in range(16)},
    ],
)
def test_a_good_ctx_is_returned_as_it_is(ctx):
    assert check_ctx(ctx) == ctx


@pytest.mark.parametrize(
    "ctx",
    [
        "",
        " \t ",
        "x" * 513,
        "a\nb",
        "a\x00b",
        "a\u202eb",
        "a\u2028b",
        f"a{chr(0xD800)}b",
        "a\ufffdb",
        {"k": "a\ufffdb"},
        [],
        ["a"],
        {},
        None,
        5,
        True,
        {f"k{number}": "v" for number in range(17)},
        {"a b": "x"},
        {"": "x"},
        {"k\n": "x"},
        {1: "x"},
        {"a": ""},
        {"a": " "},
        {"a": None},
        {"a": ["x"]},
        {"a": {"b": "c"}},
        {"a": "x" * 513},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**5000},
        {f"k{number}": "x" * 500 for number in range(9)},
    ],
)
def test_a_bad_ctx_is_refused(ctx):
    with pytest.raises(InvalidCtxError):
        check_ctx(ctx)


def test_the_size_of_an_object_counts_in_bytes():
    assert check_ctx({f"k{number}": "x" * 500 for number in range(8)})
    with pytest.raises(InvalidCtxError, match="4096 bytes"):
        check_ctx({f"k{number}": "é" * 300 for number in range(8)})


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("order:*", ["order:42", "order:"], ["xorder:42", "Order:42", "order"]),
        ("*-eu", ["a-eu", "-eu"], ["a-eux", "a-EU"]),
        ("*pay*", ["pay", "repayment"], ["pa y", "PAY"]),
        ("exact", ["exact"], ["exactly", "inexact", "Exact"]),
        ("*", ["anything"], []),
        ("**", ["anything"], []),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_patterns(pattern, good, bad):
    parsed = CtxPattern.parse(pattern)
    assert [parsed.matches(ctx) for ctx in good + bad] == [True] * len(good) + [False] * len(bad)


@pytest.mark.parametrize("pattern", ["", " ", "a*b", "***", "*a*b*", "a\n*", "x" * 513])
def test_bad_patterns(pattern):
    with pytest.raises(InvalidCtxError):
        CtxPattern.parse(pattern)


def test_a_pattern_implies_required_unless_said_otherwise():
    assert CtxRule.of(None, "a*").required
    assert not CtxRule.of(False, "a*").required
    assert not CtxRule.of(None, "").required
    assert CtxRule.of(True, "").required


def test_a_pattern_refuses_an_object_and_checks_an_optional_ctx():
    rule = CtxRule.of(False, "a*")
    rule.check(None)
    rule.check("ab")
    for wrong in ({"a": "ab"}, "b"):
        with pytest.raises(InvalidCtxError):
            rule.check(wrong)


def test_required_takes_an_object_when_there_is_no_pattern():
    rule = CtxRule.of(True, "")
    rule.check({"a": 1})
    with pytest.raises(InvalidCtxError):
        rule.check(None)


@pytest.mark.parametrize(
    ("required", "pattern", "probe", "good"),
    [
        (None, "", "", True),
        (None, "", None, True),
        (None, "", "x", True),
        (None, "", {"a": 1}, True),
        (None, "", [], False),
        (True, "", "", False),
        (True, "", "x", True),
        (None, "a*", "ab", True),
        (None, "a*", "b", False),
        (None, "a*", {"a": "ab"}, False),
        (False, "a*", "", False),
        (False, "a*", "ab", True),
    ],
)
def test_probe(required, pattern, probe, good):
    with nullcontext() if good else pytest.raises(InvalidCtxError):
        check_probe(CtxRule.of(required, pattern), probe)


def test_no_message_repeats_a_value():
    for wrong in ("sensitive\x01", {"sensitive": []}, {"a": "sensitive\x01"}):
        with pytest.raises(InvalidCtxError) as caught:
            check_ctx(wrong)
        assert "sensitive" not in str(caught.value)
