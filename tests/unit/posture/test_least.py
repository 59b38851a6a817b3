"""What one policy allows beyond another, by meaning; and the check of people's policies."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.posture import facts, found, live_role, mount

from skyflowctl.operations.init import least_policies
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.checks.registry import run_checks
from skyflowctl.posture.least import TooManyPathsError, excess, may
from skyflowctl.posture.model import CheckStatus
from skyflowctl.posture.policies import parse_policy

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LEAST = least_policies()


def rule(path: str, *words: str, more: str = "") -> str:
    return f'path "{path}" {{ capabilities = {json.dumps(words)} {more} }}\n'


def beyond(text: str, limit: str) -> list[str]:
    """The rules of a text that go beyond a limit, with what does."""
    one, most = parse_policy("one", text), parse_policy("most", limit)
    assert not one.problem
    assert not most.problem
    given = excess(one.rules, Acl([one], NOW), Acl([most], NOW), most.rules)
    return sorted(
        {f"{each.text}: {','.join(each.capabilities)} {each.how}".strip() for each in given}
    )


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        (rule("a/b", "read"), rule("a/+", "read"), []),
        (rule("a/+", "read"), rule("a/b", "read"), ["a/+: read"]),
        (rule("a/+", "read"), rule("a/*", "read"), []),
        (rule("a/*", "read"), rule("a/+", "read"), ["a/*: read"]),
        (rule("a/*", "read"), rule("a/+", "read") + rule("a/+/*", "read"), []),
        (rule("a/+/*", "read"), rule("a/+/c", "read") + rule("a/+/c/*", "read"), ["a/+/*: read"]),
        (rule("a/ab*", "read"), rule("a/a*", "read"), []),
        (rule("a/a*", "read"), rule("a/ab*", "read"), ["a/a*: read"]),
        (rule("/a/b", "read"), rule("a/b", "read"), []),
        (rule("a/+", "read") + rule("a/x", "deny"), rule("a/+", "read"), []),
        (rule("a/+", "read"), rule("a/+", "read") + rule("a/x", "deny"), ["a/+: read"]),
        (
            # For the server a/* comes before a/+/*.
            rule("a/*", "read") + rule("a/+", "deny") + rule("a/+/*", "deny"),
            rule("b", "read"),
            ["a/*: read"],
        ),
        (rule("a", "read", "sudo"), rule("a", "read"), ["a: sudo"]),
        (rule("a", "read") + rule("a", "update"), rule("a", "read"), ["a: update"]),
        (rule("a", "read") + rule("a", "deny"), rule("b", "read"), []),
        ('path "a" { policy = "write" }', rule("a", "read"), ["a: create,delete,list,update"]),
        (rule("a/r", "list"), rule("a/r/", "list"), []),
        (rule("a/r/", "list"), rule("a/r", "list"), []),
        (rule("a/r", "read"), rule("a/r/", "read"), ["a/r: read"]),
        (rule("+/+", "list"), rule("+/+", "list") + rule("+/a/", "deny"), ["+/+: list"]),
        (rule("a", "scan"), rule("a", "list"), ["a: scan"]),
        (rule("a", "read", more='expiration="2020-01-01T00:00:00Z"'), rule("b", "read"), []),
        (
            rule("a/{{identity.entity.id}}", "read"),
            rule("a/b", "read"),
            ["a/{{identity.entity.id}}: read (filled in by the caller's identity)"],
        ),
        (rule("a/{{identity.entity.id}}", "read"), rule("a/+", "read"), []),
    ],
)
def test_paths_and_capabilities_are_compared_by_meaning(text, limit, expected):
    assert beyond(text, limit) == expected


NEEDS = 'required_parameters = ["ctx"]'
CTX = 'allowed_parameters = { "ctx" = ["order:*"] }'


@pytest.mark.parametrize(
    ("more", "how"),
    [
        (f"{NEEDS} {CTX}", ""),
        (f'{NEEDS} allowed_parameters = {{ "ctx" = ["order:a", "order:b*"] }}', ""),
        (f'{NEEDS} {CTX} denied_parameters = {{ "ctx" = ["order:1"] }}', ""),
        (CTX, "without the required ctx"),
        ("", "without the required ctx"),
        (NEEDS, "with any field"),
        (f'{NEEDS} allowed_parameters = {{ "ctx" = [] }}', "with other values of ctx"),
        (f'{NEEDS} allowed_parameters = {{ "ctx" = ["*"] }}', "with other values of ctx"),
        (f'{NEEDS} allowed_parameters = {{ "ctx" = ["txn:*"] }}', "with other values of ctx"),
        (f'{NEEDS} allowed_parameters = {{ "ctx" = ["order:*"], "x" = [] }}', "with the field x"),
        (f'{NEEDS} allowed_parameters = {{ "ctx" = ["order:*"], "*" = [] }}', "with any field"),
        (f'{NEEDS} allowed_parameters = {{ "*" = [] }}', "with any field"),
    ],
)
def test_limits_on_fields_are_compared(more, how):
    limit = rule("a", "read", more=f"{NEEDS} {CTX}")
    assert beyond(rule("a", "read", more=more), limit) == ([f"a: read {how}"] if how else [])


def test_a_field_with_values_beside_any_other_field():
    limit = rule("a", "read", more='allowed_parameters = { "ctx" = ["order:*"], "*" = [] }')
    assert beyond(rule("a", "read", more='allowed_parameters = { "x" = [] }'), limit) == []
    for more in ("", 'allowed_parameters = { "*" = [] }', 'allowed_parameters = { "ctx" = [] }'):
        assert beyond(rule("a", "read", more=more), limit) == ["a: read with other values of ctx"]


def test_two_rules_of_one_path_are_joined_with_their_fields():
    limit = rule("a", "read", more=f"{NEEDS} {CTX}")
    assert beyond(rule("a", "read", more=NEEDS) + rule("a", "read", more=CTX), limit) == []


def test_policies_that_tell_too_many_paths_apart_are_not_guessed():
    wide = "".join(
        rule("/".join(parts) + "/*", "read") for parts in itertools.product("+abc", repeat=7)
    )
    with pytest.raises(TooManyPathsError):
        beyond(wide, rule("a", "read"))


SEGMENTS = ("a", "b", "ab", "+", "+")
ASKED = [
    "/".join(parts)
    for length in (1, 2, 3, 4)
    for parts in itertools.product(("a", "b", "ab", "abx", "z"), repeat=length)
]


def random_policy(rnd: random.Random) -> str:
    lines = []
    for _ in range(rnd.randint(1, 5)):
        path = "/".join(rnd.choice(SEGMENTS) for _ in range(rnd.randint(1, 3)))
        end = rnd.choice(("", "", "*", "/*", "/"))
        words = rnd.sample(("read", "update", "list", "deny"), rnd.randint(1, 2))
        lines.append(rule(path + ("/*" if path.endswith("+") and end == "*" else end), *words))
    return "".join(lines)


@pytest.mark.parametrize("seed", range(60))
def test_it_finds_an_excess_exactly_where_a_path_has_one(seed):
    """Compared with every path of up to four segments, each of them once."""
    rnd = random.Random(seed)
    one, most = (parse_policy("p", random_policy(rnd)) for _ in range(2))
    own, limit = Acl([one], NOW), Acl([most], NOW)
    asked = [*ASKED, *(f"{path}/" for path in ASKED)]
    wider = {path for path in asked if may(own, path) - may(limit, path)}
    given = excess(one.rules, own, limit, most.rules)
    assert bool(given) == bool(wider), (one, most, given, sorted(wider)[:3])
    for each in given:
        assert set(each.capabilities) <= may(own, each.path) - may(limit, each.path)


# The check -------------------------------------------------------------------------------


def checked(name: str, text: str, **changes):
    given = facts(policies={**LEAST, name: text}, least_policies=LEAST, **changes)
    return [
        one
        for one in run_checks(given).findings
        if (one.check, one.subject.name) == ("least-policies", name)
    ]


def test_the_shipped_policies_are_in_order():
    report = run_checks(facts(policies=LEAST, least_policies=LEAST))
    results = {one.check.id: one.result for one in report.checks}
    told = [one for one in report.findings if one.check == "least-policies"]
    # The example's application reads a role that this server does not have.
    assert [(one.grade, one.subject.name) for one in told] == [("info", "application")]
    assert results["least-policies"] is CheckStatus.FINDINGS


def test_the_operator_has_its_rights_and_never_policies():
    acl = Acl([parse_policy("operator", LEAST["operator"])], NOW)
    assert "update" in acl.capabilities("sys/control-group/request")
    assert "update" in acl.capabilities("skyflow/order/config/verify")
    for name in LEAST:
        person = Acl([parse_policy(name, LEAST[name])], NOW)
        for path in ("sys/policies/acl/x", "sys/policy/x", "sys/control-group/authorize"):
            assert not person.capabilities(path), (name, path)


@pytest.mark.parametrize(
    ("name", "extra", "grade", "shown"),
    [
        ("operator", rule("sys/policies/acl/*", "update"), "high", "sys/policies/acl/*"),
        ("operator", rule("sys/policies/acl/mine", "create"), "high", "sys/policies/acl/mine"),
        ("operator", rule("sys/policies/acl/*", "read"), "medium", "sys/policies/acl/*"),
        ("operator", rule("*", "read"), "high", '"*"'),
        ("operator", rule("sys/mounts", "read", "sudo"), "high", "sys/mounts"),
        ("rotator", rule("skyflow/+/creds/*", "read"), "high", "skyflow/+/creds/*"),
        ("rotator", rule("skyflow/+/roles/+", "update"), "medium", "skyflow/+/roles/+"),
        ("auditor", rule("kv/data/x", "read"), "medium", "kv/data/x"),
        ("auditor", rule("auth/approle/role/x", "update"), "high", "auth/approle/role/x"),
        ("application", rule("skyflow/order/creds/*", "read"), "high", "skyflow/order/creds/*"),
    ],
)
def test_a_policy_that_grants_more_is_found(name, extra, grade, shown):
    worst = checked(name, LEAST[name] + extra)[0]
    assert (worst.grade, worst.subject.name) == (grade, name)
    assert any(shown in line for line in worst.evidence)
    assert "grants more" in worst.summary


def test_a_policy_that_grants_less_says_what_for():
    text = LEAST["operator"].replace('path "skyflow/+/config/verify"', 'path "other"')
    more, less = checked("operator", text)
    assert "grants more" in more.summary
    assert less.grade == "info"
    assert less.evidence[0] == (
        'path "skyflow/order/config/verify" { capabilities = ["update"] } is for: '
        "apply: check a credential before it is written, then write it; write roles"
    )


def test_a_narrower_rotator_is_only_told_what_it_cannot_rotate():
    one = checked("rotator", LEAST["rotator"].replace("skyflow/+", "skyflow/order"))[0]
    assert one.grade == "info"
    assert all("skyflow/payment" in line for line in one.evidence[:-1])


def test_mounts_elsewhere_count_as_the_mounts_below_skyflow():
    elsewhere = replace(
        mount("order", "writer"), mount=replace(mount("x").mount, path="team/order")
    )
    text = LEAST["operator"].replace("skyflow/+", "team/+")
    given = facts(elsewhere, policies={**LEAST, "operator": text}, least_policies=LEAST)
    assert [one.subject.name for one in found(given, "least-policies")] == []


def test_an_application_of_another_role_is_measured_by_the_rule_of_that_role():
    asking = replace(live_role("writer"), ctx_required=True, ctx_pattern="txn:*")
    given = (mount("order", "reader"), replace(mount("payment"), roles={"writer": asking}))
    texts = {
        rule("skyflow/order/creds/reader", "read"): [],
        rule("skyflow/payment/creds/writer", "read"): ["without the required ctx"],
        rule(
            "skyflow/payment/creds/writer",
            "read",
            more='required_parameters=["ctx"] allowed_parameters={"ctx"=["txn:*"]}',
        ): [],
    }
    for text, hows in texts.items():
        policies = {**LEAST, "application": text}
        told = found(facts(*given, policies=policies, least_policies=LEAST), "least-policies")
        assert [one.evidence[0].partition("} ")[2] for one in told] == hows, text


def test_what_is_absent_or_unreadable_is_not_in_order():
    given = facts(policies={"operator": LEAST["operator"]}, least_policies=LEAST)
    (one,) = (each for each in run_checks(given).findings if each.check == "least-policies")
    assert one.unchecked
    assert "rotator, auditor" in one.summary
    results = {each.check.id: each.result for each in run_checks(given).checks}
    assert results["least-policies"] is CheckStatus.NOT_CHECKED
    broken = checked("operator", 'path "a" {')
    assert [each.unchecked for each in broken] == [True]
