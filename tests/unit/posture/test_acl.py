"""Which rule wins; the same against a real server is ``tests/e2e/test_posture_real_acl.py``."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.posture import facts, login, reading

from skyflowctl.posture.acl import Acl, matches_segments
from skyflowctl.posture.facts import Login
from skyflowctl.posture.grants import reach_of
from skyflowctl.posture.policies import parse_policy

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def acl(*texts):
    return Acl([parse_policy(f"p{n}", text) for n, text in enumerate(texts)], NOW)


def rule(path, *words):
    quoted = ", ".join(f'"{word}"' for word in words)
    return f'path "{path}" {{ capabilities = [{quoted}] }}\n'


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("a/b/c*", "a/b/c"),
        ("a/+/c", "a/b/c"),
        ("a/*", "a/b*"),
        ("+/b/c", "a/+/c"),
        ("a/+/+", "a/b/+"),
        ("a/+/*", "a/+/c"),
        ("a/+/c*", "a/+/c"),
        ("+/+/c", "+/b/c"),
        ("+/b/*", "+/b/c*"),
        ("*", "+/b/c"),
        ("a/*", "a/b/+"),
        ("+/*", "a/*"),
    ],
)
def test_the_closer_path_wins_whichever_is_written_first(weaker, stronger):
    for first, second in ((weaker, stronger), (stronger, weaker)):
        words = {weaker: "read", stronger: "deny"}
        both = acl(rule(first, words[first]), rule(second, words[second]))
        assert both.capabilities("a/b/c") == {"deny"}
        words = {weaker: "deny", stronger: "read"}
        both = acl(rule(first, words[first]), rule(second, words[second]))
        assert both.capabilities("a/b/c") == {"read"}


def test_rules_of_the_same_path_add_up_and_a_deny_takes_all():
    assert acl(rule("a/*", "read"), rule("a/*", "list")).capabilities("a/b") == {"read", "list"}
    assert acl(rule("a", "read"), rule("a", "deny"), rule("a", "list")).capabilities("a") == {
        "deny"
    }


def test_an_exact_path_without_words_takes_what_a_prefix_gives():
    assert acl(rule("a/*", "read"), rule("a/b")).capabilities("a/b") == set()


def test_what_no_rule_matches_is_not_allowed():
    assert acl(rule("a/b", "read")).capabilities("a/bc") == set()


def test_many_prefixes_find_the_longest_too():
    texts = [rule(f"a/{'x' * n}*", "list") for n in range(12)]
    assert acl(*texts, rule("a/xxx*", "read")).capabilities("a/xxxz") == {"list", "read"}


def test_a_rule_that_has_expired_does_not_count():
    old = 'path "a" { capabilities = ["read"] expiration = "2020-01-01T00:00:00Z" }'
    assert acl(old).capabilities("a") == set()


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/c/d", False),
        ("a/+/c", "a/b", False),
        ("a/+/c*", "a/b/cx/d", True),
        ("a/+/*", "a/b/", True),
        ("a/+/*", "a/b", False),
        ("+", "a", True),
        ("+", "a/b", False),
        ("a/+b/*", "a/+b/c", True),
        ("a/+b/*", "a/xb/c", False),
    ],
)
def test_segments(pattern, path, expected):
    assert matches_segments(pattern, path) is expected


CREDS = "skyflow/order/creds"


def reach(*logins, **policies):
    given = facts(policies=policies)
    whole = reach_of(given)
    return [sorted(whole.of_login(one)) for one in logins]


def test_policies_of_one_login_count_together():
    texts = {
        "wide": reading(f"{CREDS}/*"),
        "narrow": f'path "{CREDS}/writer" {{ capabilities = ["deny"] }}',
    }
    assert reach(login("a", "wide"), login("b", "wide", "narrow"), login("c", "gone"), **texts) == [
        [f"{CREDS}/reader", f"{CREDS}/writer"],
        [f"{CREDS}/reader"],
        [],
    ]


def test_a_write_gives_a_token_and_a_list_or_sudo_alone_does_not():
    texts = {
        "w": f'path "{CREDS}/writer" {{ capabilities = ["update"] }}',
        "l": f'path "{CREDS}/*" {{ capabilities = ["list", "sudo"] }}',
    }
    assert reach(login("a", "w"), login("b", "l"), **texts) == [[f"{CREDS}/writer"], []]


def test_a_token_role_may_give_any_of_its_policies_alone():
    texts = {
        "wide": reading(f"{CREDS}/*"),
        "denies": f'path "{CREDS}/*" {{ capabilities = ["deny"] }}',
    }
    one = Login("token role", "ops", ("denies", "wide"), any_of=True)
    assert reach(one, **texts) == [[f"{CREDS}/reader", f"{CREDS}/writer"]]
