"""Who uses what a plan removes or changes: its answer, against what this test did itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """version: 1
manifest: blast
mounts:
  order:
    credentials: {file: credentials/order.json}
    roles:
      writer:
        role_ids: [skyflow-writer]
        consumers: {approle: {orders: {}, spare: {}}}
      reader: {role_ids: [skyflow-reader]}
  pay:
    credentials: {file: credentials/pay.json}
    roles:
      engine:
        role_ids: [skyflow-pay]
        consumers: {approle: {till: {}}}
auth:
  approle: {}
"""
PAY = MANIFEST[MANIFEST.index("  pay:") : MANIFEST.index("auth:")]
USES = {"orders": ("order/creds/writer", 3), "till": ("pay/creds/engine", 2)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("blast") / "mounts.yaml"
    file.write_text(MANIFEST)
    with running_stack(file, apply=True) as running:
        for name, (path, times) in USES.items():
            use(running, name, path, times)
        yield running


def use(stack: Stack, name: str, path: str, times: int) -> None:
    """Log in as a consumer, and read creds that often."""
    role = f"auth/approle/role/{name}"
    role_id = stack.api("GET", f"{role}/role-id")["data"]["role_id"]
    secret_id = stack.api("POST", f"{role}/secret-id")["data"]["secret_id"]
    body = {"role_id": role_id, "secret_id": secret_id}
    token = stack.api("POST", "auth/approle/login", body)["auth"]["client_token"]
    app = Stack(stack.folder, stack.environ, {**stack.exports, "BAO_TOKEN": token})
    for _ in range(times):
        app.api("GET", f"skyflow/{path}")


def last_use(stack: Stack, path: str, kind: str) -> datetime:
    """When the audit log has a consumer's last ``request`` or ``response`` of this path."""
    entries = map(json.loads, stack.audit_log.read_text().splitlines())
    return max(
        datetime.fromisoformat(one["time"])
        for one in entries
        if one["type"] == kind and one["request"]["path"] == f"skyflow/{path}"
        if "display_name" in one["auth"] and one["auth"]["display_name"] == "approle"
    )


def affected(stack: Stack, text: str, *words: str) -> dict[tuple[str, str], dict]:
    """Plan another manifest, and return who is affected by kind and path."""
    (stack.folder / "mounts.yaml").write_text(text)
    found = stack.json(*words, "--prune", "--audit", str(stack.audit_log))
    return {(one["kind"], one["path"]): one for one in found["data"]["impact"]["objects"]}


def check_used(stack: Stack, one: dict, name: str, consumers: list[str]) -> None:
    path, times = USES[name]
    (by,) = [row for row in one["used"]["by"] if row["auth"] == "approle"]
    assert (by["app"], by["requests"]) == (name, times)
    asked, answered = (last_use(stack, path, kind) for kind in ("request", "response"))
    # The output has milliseconds.
    assert asked - timedelta(milliseconds=1) < datetime.fromisoformat(by["last"]) <= answered
    assert sorted(row["name"] for row in one["consumers"]) == consumers


def test_a_role_a_mount_and_a_credential(stack: Stack) -> None:
    changed = MANIFEST.replace("[skyflow-writer]", "[skyflow-other]")
    role = affected(stack, changed, "plan")["role", "skyflow/order/roles/writer"]
    assert role["action"] == "update"
    check_used(stack, role, "orders", ["orders", "spare"])
    file = stack.dev / "credentials" / "pay.json"
    kept = file.read_bytes()
    file.unlink()  # the dev stack generates another one in its place
    found = affected(stack, MANIFEST, "plan")
    file.write_bytes(kept)
    (credential,) = [one for one in found.values() if one["mount"] == "pay"]
    assert credential["action"] == "replace_credential"
    check_used(stack, credential, "till", ["till"])
    allowed = ("--allow-destroy=skyflow/pay", "--allow-large-prune")
    found = affected(stack, MANIFEST.replace(PAY, ""), "plan", *allowed)
    (mount,) = [one for (kind, _), one in found.items() if kind == "mount"]
    assert (mount["action"], mount["path"]) == ("delete", "sys/mounts/skyflow/pay")
    check_used(stack, mount, "till", [])


def test_the_text_of_plan_and_the_apply_tell_it_too(stack: Stack) -> None:
    text = MANIFEST.replace("[skyflow-writer]", "[skyflow-other]")
    (stack.folder / "mounts.yaml").write_text(text)
    words = ("--audit", str(stack.audit_log))
    shown = stack.cli("plan", *words, exported=True).stdout
    assert "orders (approle): 3 times, last " in shown
    assert "consumers orders, spare" in " ".join(shown.split())
    done = stack.json("apply", "-y", *words)
    (stack.folder / "mounts.yaml").write_text(MANIFEST)
    stack.cli("apply", "-y", exported=True)
    (role,) = done["data"]["impact"]["objects"]
    check_used(stack, role, "orders", ["orders", "spare"])
