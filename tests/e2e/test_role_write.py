"""``role write`` on a real server: what is confirmed is what is written."""

from __future__ import annotations

import json

import pytest
from support.stack import Stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

ROLES = "skyflow/order/roles"


@pytest.fixture(autouse=True)
def as_applied(stack: Stack):
    stack.cli("apply", "-y", exported=True)
    yield
    stack.bao("delete", f"{ROLES}/by-hand")
    stack.cli("apply", "-y", exported=True)


def write(stack: Stack, *words: str, check: int = 0) -> dict:
    return stack.json("role", "write", "order", *words, check=check)


def test_a_new_role_reads_tokens_and_the_manifest_calls_it_undeclared(stack: Stack) -> None:
    words = ("by-hand", "--role-id", "skyflow-role-order-prod", "--tag", "a:b", "-y")
    data = write(stack, *words)["data"]
    assert (data["result"], data["version"]) == ("created", 1)
    live = stack.api("GET", f"{ROLES}/by-hand")["data"]
    assert (live["role_ids"], live["tags"]) == (["skyflow-role-order-prod"], ["a:b"])
    assert stack.json("creds", "order", "by-hand")["data"]["access_token"]
    plan = stack.json("plan")["data"]
    assert [(one["kind"], one["path"]) for one in plan["drift"]] == [
        ("undeclared", f"{ROLES}/by-hand")
    ]
    assert write(stack, *words)["data"]["result"] == "unchanged"
    assert stack.json("role", "delete", "order", "by-hand", "-y", check=5)["errors"]
    (fix,) = [one["fix"] for one in data["warnings"]]
    flag = next(word for word in fix.replace("'", " ").split() if word.startswith("--allow-de"))
    assert stack.json("role", "delete", "order", "by-hand", "-y", flag)["data"]["result"]


def test_a_role_of_the_manifest_is_changed_and_the_next_plan_restores_it(stack: Stack) -> None:
    data = write(stack, "order-producer", "--description", "by hand", "-y")["data"]
    assert [one["code"] for one in data["warnings"]] == ["manifest-differs"]
    (action,) = stack.json("plan")["data"]["actions"]
    assert (action["path"], action["action"]) == (f"{ROLES}/order-producer", "update")
    (change,) = action["changes"]
    assert change == {
        "field": "description",
        "before": "by hand",
        "after": data["changes"][0]["before"],
    }


def test_nothing_is_written_without_a_confirmation_or_in_a_dry_run(stack: Stack) -> None:
    before = stack.api("GET", f"{ROLES}/order-producer")["data"]
    words = ("order-producer", "--description", "by hand")
    assert write(stack, *words, check=5)["errors"][0]["code"] == "needs-confirmation"
    assert write(stack, *words, "--dry-run")["data"]["result"] == "planned"
    assert stack.api("GET", f"{ROLES}/order-producer")["data"] == before


def test_the_engine_is_the_judge_of_a_rule_that_both_know(stack: Stack) -> None:
    """What the command refuses before it sends anything, the server refuses as well."""
    for flag, value, field in (
        ("--sign-max-ttl", "48h", "sign_max_ttl"),
        ("--reuse-min-ttl", "1m", "reuse_min_ttl"),
        ("--ctx-probe", "purchase:x", "ctx_probe"),
    ):
        refused = write(stack, "order-producer", flag, value, "-y", check=64)
        assert refused["errors"][0]["summary"].endswith(field)
        sent = stack.bao("write", f"{ROLES}/order-producer", f"{field}={value}", check=False)
        assert field in sent.stderr, json.dumps([sent.stdout, sent.stderr])
