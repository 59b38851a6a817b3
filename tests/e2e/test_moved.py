"""A mount that the manifest says was moved, on a real server: moved once, and killed anywhere."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
from collections.abc import Iterator
from itertools import count

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

OLD, NEW = "skyflow/orders", "skyflow/order"
POLICY = "sys/policies/acl/skyflow.skyflow.order"
FORMER_POLICY = "sys/policies/acl/skyflow.skyflow.orders.producer"
MANIFEST = """\
version: 1
manifest: moved-test
mounts:
  order:
    path: skyflow/orders
    protect: true
    credentials: {file: credentials/order.json}
    roles:
      producer:
        role_ids: [skyflow-role-order-prod]
        consumers: {approle: {order-service: {}}}
  payment:
    credentials: {file: credentials/payment.json}
    roles: {engine: {role_ids: [skyflow-role-payment]}}
auth: {approle: {}}
"""
MOVED = MANIFEST.replace("path: skyflow/orders", "description: moved").replace(
    "      producer:", "      reader: {role_ids: [skyflow-role-order-read]}\n      producer:"
) + (
    f"moved: [{{from: {OLD}, to: {NEW}}}, {{from: payment/roles/driver, to: payment/roles/engine}}]"
)
# What is planned, in this order, when the mount is still at its former path.
STEPS = [
    ("create", "policy", f"{POLICY}.producer"),
    ("move", "mount", "sys/remount"),
    ("update", "mount", f"sys/mounts/{NEW}/tune"),
    ("create", "role", f"{NEW}/roles/reader"),
    ("update", "config", f"{NEW}/config"),
    ("update", "login_role", "auth/approle/role/order-service"),
]
ALLOWED = f"--allow-move={OLD}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    manifest = tmp_path_factory.mktemp("moved") / "mounts.yaml"
    manifest.write_text(MANIFEST)
    with running_stack(manifest) as running:
        yield running


def start_over(stack: Stack) -> dict:
    """The first manifest applied to nothing, the second one in its place; the first config."""
    for path in (OLD, NEW, "skyflow/payment"):
        stack.bao("secrets", "disable", path)
    stack.bao("auth", "disable", "approle")
    for name in ("skyflow.skyflow.order.producer", "skyflow.skyflow.orders.producer"):
        stack.bao("policy", "delete", name)
    (stack.folder / "mounts.yaml").write_text(MANIFEST)
    stack.json("apply", "-y")
    (stack.folder / "mounts.yaml").write_text(MOVED)
    return stack.api("GET", f"{OLD}/config")["data"]


def steps(data: dict) -> list[tuple[str, str, str]]:
    return [(one["action"], one["kind"], one["path"]) for one in data["actions"]]


def is_there(stack: Stack, path: str) -> bool:
    try:
        stack.api("GET", path)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def login_reads(stack: Stack, path: str) -> bool:
    """Whether the consumer, logging in now, reads a token below a mount."""
    role = "auth/approle/role/order-service"
    role_id = stack.api("GET", f"{role}/role-id")["data"]["role_id"]
    secret_id = stack.api("POST", f"{role}/secret-id", {})["data"]["secret_id"]
    login = stack.api("POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id})
    token = login["auth"]["client_token"]
    done = subprocess.run(
        ["bao", "read", f"{path}/creds/producer"],
        env={**stack.environ, **stack.exports, "BAO_TOKEN": token},
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode == 0


def check_moved(stack: Stack, before: dict) -> None:
    """The mount is at its new path with its key and history, and serves; what is left is the
    policy of its former path."""
    again = stack.json("plan", "--detailed-exitcode", check=2)["data"]
    assert (again["actions"], again["warnings"]) == ([], [])
    assert [(one["kind"], one["path"]) for one in again["drift"]] == [("undeclared", FORMER_POLICY)]
    assert not is_there(stack, f"sys/mounts/{OLD}")
    after = stack.api("GET", f"{NEW}/config")["data"]
    assert (after["key_id"], after["credential_version"]) == (before["key_id"], 1)
    assert (after["version"], after["description"]) == (2, "moved")
    assert set(stack.api("GET", f"{NEW}/roles?list=true")["data"]["keys"]) == {"producer", "reader"}
    assert login_reads(stack, NEW)


def test_without_permission_the_plan_is_shown_and_nothing_moves(stack):
    start_over(stack)
    plan = stack.json("plan", "--detailed-exitcode", check=2)["data"]
    assert steps(plan) == STEPS
    assert [one["code"] for one in plan["warnings"]] == ["needs-allow-move"]
    refused = stack.json("apply", "-y", check=5)
    assert steps(refused["data"]) == STEPS
    assert [one["code"] for one in refused["errors"]] == ["needs-allow-move"]
    assert (is_there(stack, f"sys/mounts/{OLD}"), is_there(stack, f"sys/mounts/{NEW}")) == (
        True,
        False,
    )
    assert not is_there(stack, f"{POLICY}.producer")
    unknown = stack.json("apply", "-y", "--allow-move=skyflow/none", check=64)
    assert [one["code"] for one in unknown["errors"]] == ["unknown-path"]


def test_a_dry_run_moves_it_in_this_process_alone(stack):
    start_over(stack)
    done = stack.json("apply", "--dry-run", ALLOWED)["data"]
    assert steps(done) == STEPS
    assert {one["result"] for one in done["actions"]} == {"done"}
    assert done["dry_run"]["left"] == 0
    assert all(one["ok"] for one in done["dry_run"]["minted"])
    assert is_there(stack, f"sys/mounts/{OLD}")
    assert stack.json("apply", "--dry-run", check=5)["status"] == "refused"


def test_it_is_moved_once_with_all_it_has(stack):
    before = start_over(stack)
    assert login_reads(stack, OLD)
    done = stack.cli("apply", "-y", ALLOWED, exported=True)
    assert f"moved {OLD} to {NEW}" in done.stderr
    assert f"{OLD} is moved to {NEW}, although it is protected" in done.stderr
    assert "consumers log in again: order-service" in done.stderr
    assert f"~ mount sys/remount (move)\n    path  {OLD} → {NEW}" in done.stderr
    assert "3 of 3 roles mint." in done.stdout
    check_moved(stack, before)
    assert stack.json("apply", "-y")["data"]["actions"] == []
    pruned = stack.json("apply", "-y", "--prune")["data"]
    assert steps(pruned) == [("delete", "policy", FORMER_POLICY)]
    assert stack.json("plan", "--detailed-exitcode", check=0)["data"]["drift"] == []
    assert login_reads(stack, NEW)


@pytest.mark.timeout(400)
def test_a_kill_after_any_write_is_finished_by_the_same_command(stack):
    for writes in count(1):
        before = start_over(stack)
        code = stack.killed(writes, "apply", "-y", "-p", "1", ALLOWED)
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"after write {writes}: exit {code}"
        finished = stack.json("apply", "-y", ALLOWED)
        assert finished["status"] == "ok", writes
        check_moved(stack, before)
    assert writes > len(STEPS)


def test_both_paths_live_is_refused_and_named(stack):
    start_over(stack)
    stack.bao("secrets", "enable", f"-path={NEW}", "skyflow")
    refused = stack.json("apply", "-y", ALLOWED, check=5)
    (error,) = refused["errors"]
    assert error["code"] == "moved-both-live"
    assert f"{NEW} and {OLD} are both mounted" in error["summary"]
    stack.bao("secrets", "disable", NEW)
    assert stack.json("apply", "-y", ALLOWED)["status"] == "ok"


def test_a_quota_follows_the_mount(stack):
    start_over(stack)
    quota = "sys/quotas/rate-limit/order"
    stack.api("POST", quota, {"path": OLD, "rate": 1000, "interval": "1s"})
    try:
        stack.json("apply", "-y", ALLOWED)
        assert stack.api("GET", quota)["data"]["path"] == f"{NEW}/"
    finally:
        stack.bao("delete", quota)


def test_another_namespace_is_no_place_to_move_to(stack):
    start_over(stack)
    text = MOVED.replace(f"to: {NEW}}}", "to: shop/order}").replace(
        "description: moved", "path: shop/order"
    )
    (stack.folder / "mounts.yaml").write_text(text)
    stack.bao("namespace", "create", "shop")
    try:
        refused = stack.json("plan", "--allow-move=shop/order", check=65)
    finally:
        stack.bao("namespace", "delete", "shop")
    (error,) = refused["errors"]
    assert (error["code"], error["where"]["line"]) == ("bad-move", text.count("\n") + 1)


def test_a_moved_role_is_made_and_the_former_one_is_drift(stack):
    start_over(stack)
    stack.json("apply", "-y", ALLOWED)
    mark = json.dumps(stack.api("GET", "skyflow/payment/roles/engine")["data"]["tags"])
    assert "managed-by:skyflowctl/moved-test" in mark
    stack.api(
        "POST",
        "skyflow/payment/roles/driver",
        {"role_ids": ["skyflow-role-payment"], "tags": json.loads(mark)},
    )
    found = stack.json("plan", "--detailed-exitcode", check=2)["data"]["drift"]
    drift = {one["path"]: one for one in found}
    assert set(drift) == {"skyflow/payment/roles/driver", FORMER_POLICY}
    assert {one["kind"] for one in found} == {"undeclared"}
    moved = drift["skyflow/payment/roles/driver"]
    assert moved["reason"] == "it was moved to skyflow/payment/roles/engine"
