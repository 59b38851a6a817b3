"""Policies as servers write and read them, and every text that is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyflowctl.hcl import Block, HclError, parse_hcl, quoted
from skyflowctl.posture.policies import DENY, parse_policy


def rules(text):
    policy = parse_policy("p", text)
    assert policy.problem == ""
    return {rule.text: set(rule.capabilities) for rule in policy.rules}


def test_a_policy_with_everything_in_it():
    text = """
    # a comment with "quotes" and { braces
    name = "x"
    path "a/*" { // another
      capabilities = ["read", "list",]  /* and
      a third } */
      min_wrapping_ttl = "1s", max_wrapping_ttl = 90
      required_parameters = ["ctx"]
      allowed_parameters = { "ctx" = ["order:*"], "*" = [] }
      control_group { factor "ops" { identity { group_names = ["x"] } } }
    }
    path "b" { policy = "write" } path "c\\u0064" { policy = "deny" }
    """
    assert rules(text) == {
        "a/*": {"read", "list"},
        "b": {"create", "read", "update", "delete", "list"},
        "cd": set(DENY),
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"path": {"a": {"capabilities": ["read"]}, "b/*": {"policy": "read"}}}',
        '{"path": [{"a": {"capabilities": ["read"]}}, {"b/*": {"policy": "read"}}]}',
        ' {"path": {"a": {"capabilities": ["read"]}}, "path": {"b/*": {"policy": "read"}}}',
    ],
)
def test_json_in_each_of_its_forms(text):
    assert rules(text) == {"a": {"read"}, "b/*": {"read", "list"}}


def test_deny_takes_all_and_words_of_one_block_add_up():
    assert rules('path "a" { capabilities = ["read", "deny"] policy = "write" }') == {"a": {"deny"}}
    assert rules('path "a" { capabilities=["read"] capabilities=["list"] }') == {
        "a": {"read", "list"}
    }


@pytest.mark.parametrize(
    ("written", "path", "is_prefix", "has_segments"),
    [
        ("a/b", "a/b", False, False),
        ("/a/b", "a/b", False, False),
        ("a/b*", "a/b", True, False),
        ("a**", "a*", True, False),
        ("*", "", True, False),
        ("+", "+", False, True),
        ("+/a", "+/a", False, True),
        ("a/+/b*", "a/+/b*", False, True),
        ("a/+b", "a/+b", False, True),
        ("a+/b*", "a+/b", True, False),
    ],
)
def test_the_forms_of_a_path(written, path, is_prefix, has_segments):
    (rule,) = parse_policy("p", f'path "{written}" {{ capabilities = ["read"] }}').rules
    assert (rule.path, rule.is_prefix, rule.has_segments) == (path, is_prefix, has_segments)


def test_only_the_first_of_two_paths_counts():
    assert rules('path "a" "b" { capabilities = ["read"] }') == {"a": {"read"}}


def test_an_end_is_read_and_a_template_is_told():
    text = 'path "u/{{identity.entity.name}}" { policy="read" expiration="2026-01-01T00:00:00Z" }'
    (rule,) = parse_policy("p", text).rules
    assert rule.templated
    assert rule.until == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_heredoc_and_what_stands_in_dollar_braces_are_taken_as_they_are():
    assert parse_hcl('a = <<END\nx "y"\nEND\nb = "${c("x")}"').items == (
        (("a",), 'x "y"\n'),
        (("b",), '${c("x")}'),
    )


def test_numbers_words_and_nested_blocks():
    whole = parse_hcl("a = -1.5e3\nb = 0x10 c = true\nd { e = [1, [2]] }")
    assert whole.values("a") == [-1500.0]
    assert whole.values("b") == [16]
    assert whole.values("c") == [True]
    assert whole.values("d") == [Block(((("e",), [1.0, [2.0]]),))]


@pytest.mark.parametrize(
    "text",
    [
        'path "a" { capabilities = ["read"',
        'path "a',
        "path 'a' {}",
        "path { }",
        'path = { "a" = { capabilities = ["read"] } }',
        '{"path": {"a": [{"capabilities": ["read"]}]}}',
        'path "a" = "b"',
        "a",
        "a = b",
        "a = [1 2]",
        "= 1",
        "}",
        "a = <<END\nx",
        '{"path": 1',
        "[1]",
        "a = " + "[" * 200 + "]" * 200,
        '{"a":' * 2000 + "1" + "}" * 2000,
        'a = "\\UFFFFFFFF"',
        '{"a":' + "[" * 60 + "]" * 60 + "}",
    ],
)
def test_a_text_that_is_none_is_a_problem_and_no_rule(text):
    policy = parse_policy("p", text)
    assert policy.rules == ()
    assert policy.problem


def test_a_problem_quotes_nothing_of_the_text():
    with pytest.raises(HclError) as caught:
        parse_hcl('path "hvs.secret')
    assert "hvs" not in str(caught.value)
    assert "line 1" in str(caught.value)


@given(st.text(alphabet='path"a{}[]=,<\\$#/*+\n E"', max_size=60))
def test_no_text_raises_anything_else(text):
    parse_policy("p", text)


@given(st.text(alphabet=st.sampled_from('${%}"\\\n u0041é\ue123'), max_size=30))
def test_a_quoted_text_is_read_back(text):
    assert parse_hcl(f"a = {quoted(text)}").items == ((("a",), text),)


def test_brackets_within_a_json_text_are_no_depth():
    whole = parse_hcl('{"a": {"b": "' + "[{" * 80 + '\\" ]"}}')
    assert whole.items[0][0] == ("a", "b")
