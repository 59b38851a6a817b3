"""Control groups become guards in the operator policy, which nothing in it lifts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from skyflowctl.errors import InvalidInputError
from skyflowctl.manifest.least_policies import least_policies
from skyflowctl.manifest.load import load_manifest
from skyflowctl.planner.policy_text import policy_fields
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.policies import PathRule, Policy, parse_policy

HEAD = """\
version: 1
manifest: shop
defaults: {path_prefix: team/sky}
mounts:
  payment: {credentials: {env: KEY}, roles: {}}
  order: {path: orders, credentials: {env: KEY}, roles: {}}
"""
PAYMENT = "control_groups: {payment: {approvers: [ops], ttl: 1h}}\n"
AROUND = {
    "sys/policies/acl/operator", "sys/policies/detailed/acl/operator", "sys/policy/operator",
    "sys/remount", "identity/group*", "identity/entity*", "identity/persona*", "identity/alias*",
}  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WRITES = {"create", "update", "patch", "delete"}


@pytest.fixture
def built(tmp_path: Path):
    def build(text: str):
        file = tmp_path / "mounts.yaml"
        file.write_text(HEAD + text)
        return load_manifest([str(file)], environ={}).manifest

    return build


def guards(text: str) -> dict[str, PathRule]:
    return {one.text: one for one in parse_policy("operator", text).rules if one.guarded}


def paths(mount: str) -> set[str]:
    ends = ("config", "config/rollback", "config/history/+", "roles/+")
    own = {f"{mount}/{end}" for end in ends}
    return own | {f"sys/mounts/{mount}", f"sys/mounts/{mount}/tune"}


def least_text(prefix: str) -> str:
    return least_policies()["operator"].replace("skyflow/+", f"{prefix}/+")


def test_every_write_to_the_mount_and_around_the_guard_is_guarded(built):
    (policy,) = built(PAYMENT).policies
    found = guards(policy.text)
    assert policy.name == "operator"
    assert set(found) == paths("team/sky/payment") | AROUND
    for one in found.values():
        assert one.guarded == WRITES
        assert one.capabilities - {"sudo", "read", "list"} == WRITES
    assert policy.text.count('ttl = "3600s"') == len(found)


def test_the_guards_let_nothing_be_read_that_the_policy_does_not(built):
    """So a guard widens nothing that runs without an approval, and takes no read away."""
    (policy,) = built(PAYMENT).policies
    least = Acl([Policy("", parse_policy("", least_text("team/sky")).rules)], NOW)
    mixed = Acl([parse_policy("operator", policy.text)], NOW)
    pay = "team/sky/payment"
    for path in (f"{pay}/config", f"{pay}/config/history/1", f"{pay}/roles/w", f"sys/mounts/{pay}",
                 f"sys/mounts/{pay}/tune", "identity/entity/id/x", "identity/group", "sys/remount",
                 "sys/policies/acl/operator"):  # fmt: skip
        assert ("read" in mixed.capabilities(path)) == ("read" in least.capabilities(path)), path
    for path in (f"{pay}/roles", f"{pay}/config/history", f"{pay}/config", "identity/entity/id",
                 "identity/group/name"):  # fmt: skip
        ours, theirs = mixed.list_rule(f"{path}/"), least.list_rule(f"{path}/")
        assert ("list" in ours.capabilities if ours else False) == (
            "list" in theirs.capabilities if theirs else False
        ), path


@pytest.mark.parametrize(
    ("rule", "granted"),
    [
        ('"identity/*" { capabilities = ["read", "list", "update"] }', {"read", "list"}),
        ('"identity/*" { policy = "read" }', {"read", "list"}),
        ('"+/group/*" { capabilities = ["read"] }', set()),
        ('"*" { capabilities = ["deny", "read"] }', set()),
    ],
)
def test_a_guard_keeps_what_the_policy_lets_be_read(built, rule, granted):
    text = f"policies:\n  operator:\n    text: |\n      path {rule}\n"
    found = guards(built(PAYMENT + text).policies[0].text)["identity/group*"]
    assert found.capabilities - WRITES == granted


def test_a_number_of_approvals_may_be_written_with_a_point(built):
    group = "control_groups: {payment: {approvers: [ops], approvals: 2.0, ttl: 1h}}\n"
    text = built(group).policies[0].text
    assert "approvals = 2\n" in text
    shown = str(policy_fields(text.replace("approvals = 2", "approvals = 2.0")))
    assert "approvals: 2," in shown
    assert "2.0" not in shown


LOGIN = """\
auth: {approle: {roles: {deploy: {policies: [operator, helper]}}}}
policies: {helper: {rules: {"team/sky/payment/config": [update]}}}
"""


def test_another_policy_of_a_declared_operator_may_not_lift_a_guard(built):
    with pytest.raises(InvalidInputError) as refused:
        built(PAYMENT + LOGIN)
    (problem,) = refused.value.problems
    assert (problem.code, "helper" in problem.summary) == ("guard-lifted", True)
    assert problem.where.line == 9
    assert built(PAYMENT + LOGIN.replace("[operator, helper]", "[helper]"))


def test_an_undeclared_operator_policy_is_the_least_one_at_this_prefix(built):
    (policy,) = built(PAYMENT).policies
    rules = {one.text for one in parse_policy("operator", policy.text).rules if not one.guarded}
    least = parse_policy("operator", least_policies()["operator"]).rules
    assert rules == {one.text.replace("skyflow/+", "team/sky/+") for one in least}


def test_a_declared_one_keeps_its_text_behind_the_guards(built):
    rules = "policies: {operator: {rules: {'sys/mounts/*': [read, update]}}, other: {text: 'path \"x\" {}'}}\n"
    policies = {one.name: one.text for one in built(rules + PAYMENT).policies}
    assert set(policies) == {"operator", "other"}
    last = parse_policy("operator", policies["operator"]).rules[-1]
    assert (last.text, last.guarded) == ("sys/mounts/*", frozenset())
    assert guards(policies["other"]) == {}


def test_approvers_of_every_control_group_must_agree_on_what_they_share(built):
    both = """\
control_groups:
  payment: {approvers: [ops], ttl: 1h}
  order: {approvers: [ops, security], approvals: 2, ttl: 30m}
"""
    (policy,) = built(both).policies
    found = guards(policy.text)
    assert set(found) == paths("team/sky/payment") | paths("orders") | AROUND
    shared = policy.text[policy.text.index('path "sys/remount"') :].partition("\n}\n")[0]
    assert 'factor "payment"' in shared
    assert 'factor "order"' in shared
    assert 'group_names = ["ops", "security"]\n        approvals = 2' in shared
    assert 'ttl = "1800s"' in shared


def test_without_control_groups_no_policy_is_made(built):
    assert built("").policies == ()
    assert built("control_groups: {}\n").policies == ()


@pytest.mark.parametrize(
    "path",
    [
        *("team/sky/payment/config", "team/sky/payment/roles/writer", "sys/remount"),
        *("team/sky/payment/roles/w*", "identity/group/name/ops", "identity/entity-alias/*"),
        *("sys/policies/acl/operator", "identity/group*", "/sys/mounts/team/sky/payment/tune"),
    ],
)
def test_a_path_that_lifts_a_guard_is_refused(built, path):
    with pytest.raises(InvalidInputError) as refused:
        built(
            f'{PAYMENT}policies: {{operator: {{text: \'path "{path}" {{ capabilities = ["update"] }}\'}}}}\n'
        )
    (problem,) = refused.value.problems
    assert problem.code == "guard-lifted"
    assert path.removeprefix("/") in problem.summary
    assert problem.where.line == 8


@pytest.mark.parametrize(
    "rule",
    [
        *('"team/sky/*" { capabilities = ["update"] }', '"team/+/payment/config" { policy = "write" }'),
        *('"identity/*" { capabilities = ["update"] }', '"*" { capabilities = ["create"] }'),
        *('"identity/group/name/ops" { capabilities = ["read"] }', '"sys/remount" { capabilities = ["deny"] }'),
        *('"team/sky/payment/roles/+" { capabilities = ["read"] }', '"orders/config" { capabilities = ["update"] }'),
    ],
)  # fmt: skip
def test_a_less_exact_path_or_a_read_lifts_nothing(built, rule):
    text = f"policies:\n  operator:\n    text: |\n      path {rule}\n"
    assert guards(built(PAYMENT + text).policies[0].text)
