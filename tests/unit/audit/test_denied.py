"""``audit denied``: who was turned down, why, and the policy that is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_logs import Story, approle, userpass, written
from support.cli import checked_data, invoke

from skyflowctl.audit import denied as audit_denied
from skyflowctl.audit.denied import CtxWords, missing_policy
from skyflowctl.posture.policies import parse_policy

MANIFEST = """\
version: 1
manifest: shop
mounts:
  order:
    credentials: {file: order.json}
    roles:
      order-producer:
        role_ids: [r1]
        ctx: {pattern: 'order:*', probe: 'order:probe'}
      order-reader: {role_ids: [r2]}
"""


def denied(tmp_path, story, *words):
    log = written(tmp_path, "audit.log", story.device())
    done = invoke("audit", "denied", log, "-o", "json", *words)
    return checked_data(done.stdout)["denied"]


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "mounts.yaml"
    path.write_text(MANIFEST)
    return ("-f", str(path))


def test_refusals_are_added_up_and_denied_ones_come_first(tmp_path):
    story = Story()
    for _ in range(3):
        story.creds(approle("orders"), outcome="refused")
    story.creds(approle("orders"), "order:1", outcome="denied")
    story.creds(approle("orders"), "order:2")
    story.creds(None, outcome="denied")
    for _ in range(2):
        story.creds(userpass("bob"), {"a": "b"}, outcome="denied")
        story.creds(userpass("bob"), outcome="refused-by-skyflow")
    found = denied(tmp_path, story)
    assert [(one["app"], one["outcome"], one["count"]) for one in found] == [
        ("bob", "denied", 2),
        ("orders", "denied", 1),
        (None, "denied", 1),
        ("orders", "refused", 3),
        ("bob", "refused", 2),
    ]
    assert found[0]["first"] < found[0]["last"]
    assert '"update"' in found[0]["policy"]
    assert '"read"' in found[1]["policy"]
    assert found[2]["policy"] is None
    assert "does not know the token" in found[2]["reason"]
    assert found[4]["reason"] == "token service refused: 401 permission denied"


def test_the_manifest_says_what_the_log_only_has_as_a_hash(tmp_path, manifest):
    story = Story(plain_ctx=True)
    story.creds(approle("orders"), outcome="denied")
    story.creds(approle("orders"), "ticket:1", outcome="denied")
    story.creds(approle("orders"), "order:1", outcome="denied")
    story.creds(approle("orders"), outcome="refused")
    story.creds(approle("orders"), "ticket:1", outcome="refused")
    story.creds(approle("orders"), role="nobody", outcome="refused")
    reasons = {one["reason"]: one["policy"] for one in denied(tmp_path, story, *manifest)}
    assert set(reasons) == {
        audit_denied._BY_PARAMETERS,
        audit_denied.NO_POLICY,
        "the role requires a ctx, and there is none",
        "the ctx is not of the form that the role wants",
        "the manifest has no such role",
    }
    policy = reasons[audit_denied.NO_POLICY]
    assert 'required_parameters = ["ctx"]' in policy
    assert 'allowed_parameters = { "ctx" = ["order:*"] }' in policy


def test_a_hashed_ctx_cannot_be_held_against_the_pattern(tmp_path, manifest):
    story = Story()
    story.creds(approle("orders"), "ticket:1", outcome="denied")
    story.creds(approle("orders"), "x", role="order-reader", outcome="denied")
    reasons = {one["role"]: one["reason"] for one in denied(tmp_path, story, *manifest)}
    assert reasons["order-producer"] == audit_denied.NO_POLICY_OR_CTX
    assert reasons["order-reader"] == audit_denied.NO_POLICY


def test_a_role_that_is_not_declared_gets_no_policy(tmp_path, manifest):
    story = Story()
    story.creds(approle("orders"), role="nobody", outcome="denied")
    (with_manifest,) = denied(tmp_path, story, *manifest)
    assert with_manifest["reason"].startswith("no such role is declared")
    assert with_manifest["policy"] is None
    (without,) = denied(tmp_path, story)
    assert "creds/nobody" in without["policy"]


@pytest.mark.parametrize(
    ("mount", "role"),
    [
        ("skyflow/order", "*"),
        ("skyflow/order", "+"),
        ("skyflow/+", "reader"),
        ("skyflow/order", 'x" { capabilities = ["sudo"] } path "*'),
        ("skyflow/order", "x/../../sys"),
        ("", "x"),
    ],
)
def test_a_name_that_would_open_more_gets_no_policy(mount, role):
    assert missing_policy(mount, role, "read") is None


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_every_policy_is_one_rule_for_one_path(mount, role, pattern):
    text = missing_policy(mount, role, "read", CtxWords(True, pattern.replace("\n", "")))
    if text is not None:
        (rule,) = parse_policy("p", text).rules
        assert (rule.text, rule.is_glob) == (f"{mount}/creds/{role}", False)
        assert rule.capabilities == {"read"}


def test_the_screen_shows_hostile_names_harmless(tmp_path):
    story = Story(plain_ctx=True)
    story.creds(userpass("\x1b[2Jbob"), "x", role="\x1b]0;x\x07*", outcome="denied")
    done = invoke("audit", "denied", written(tmp_path, "audit.log", story.device()))
    assert done.exit_code == 0
    assert not {"\x1b", "\x07"} & set(done.output)
    assert "missing" not in done.stdout
    assert "1 of 1 request turned down" in done.stderr


def test_too_many_kinds_are_counted_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_denied, "GROUPS_MAX", 2)
    story = Story()
    for number in range(5):
        story.creds(approle(f"app{number}"), outcome="denied")
    log = written(tmp_path, "audit.log", story.device())
    done = invoke("audit", "denied", log)
    assert "3 refused requests of further kinds" in done.stderr
    assert "5 of 5 requests turned down" in done.stderr


def test_an_outcome_is_not_asked_for_here(tmp_path):
    log = written(tmp_path, "audit.log", Story().device())
    assert invoke("audit", "denied", log, "--outcome", "granted").exit_code == 64
