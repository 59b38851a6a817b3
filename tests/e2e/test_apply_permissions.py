"""Work that its login may not do as a whole is refused before the first write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server]

READS = """
path "sys/mounts" { capabilities = ["read"] }
path "sys/config/auditing/request-headers" { capabilities = ["read", "sudo"] }
path "sys/plugins/catalog*" { capabilities = ["read", "sudo"] }
path "sys/policies/*" { capabilities = ["read", "list"] }
path "sys/auth" { capabilities = ["read"] }
path "sys/control-group/request" { capabilities = ["update"] }
path "skyflow/*" { capabilities = ["read", "list"] }
"""
NODES = 'path "sys/ha-status" { capabilities = ["read"] }'
MANIFEST = """
version: 1
manifest: preflight
mounts:
  fresh:
    credentials: {file: credentials/order.json}
    roles: {reader: {role_ids: [reader]}, writer: {role_ids: [writer]}}
policies: {fresh-readers: {rules: {"skyflow/fresh/creds/reader": [read]}}}
"""
SECOND = """
version: 1
manifest: second
mounts:
  second:
    credentials: {file: credentials/second.json}
    roles: {reader: {role_ids: [reader]}}
"""
PROOFS = """
path "auth/approle/role/*" { capabilities = ["read", "list"] }
path "skyflow/+/config/verify" { capabilities = ["read", "update", "list"] }
path "sys/mounts/skyflow/pens" { capabilities = ["read"] }
"""
WRITERS = """
version: 1
manifest: writers
mounts:
  pens:
    credentials: {file: credentials/pens.json}
    roles:
      reader: {role_ids: [reader], consumers: {approle: {pens-app: {}}}}
      writer: {role_ids: [writer]}
  late: {credentials: {file: credentials/late.json}, roles: {one: {role_ids: [one]}}}
auth: {approle: {}}
"""
WRITE = ["create", "read", "update", "list"]
FIRST_WRITES = (
    ("config write pens --description Pens", "skyflow/pens/config", WRITE),
    ("role write pens writer --description Writer -y", "skyflow/pens/roles/writer", WRITE),
    ("role delete pens writer -y", "skyflow/pens/roles/writer", ["read", "delete", "list"]),
    ("mount enable late", "sys/mounts/skyflow/late", ["read", "update"]),
    ("consumer issue pens-app", "auth/approle/role/pens-app/secret-id", WRITE),
    (
        "config revoke pens --reason test -y",
        "skyflow/pens/config",
        ["read", "delete", "list"],
    ),
    (
        "mount disable pens -y --allow-destroy=skyflow/pens",
        "sys/mounts/skyflow/pens",
        ["read", "delete"],
    ),
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(None) as made:
        made.cli("init")
        made.cli("apply", "-y", exported=True)
        yield made


def test_nothing_is_written_and_the_printed_rules_are_enough(stack: Stack) -> None:
    manifest = stack.folder / "fresh.yaml"
    manifest.write_text(MANIFEST)
    reader = logged_in(stack, "preflight", READS)
    before = state(stack)
    seen = len(writes(stack))
    refused = reader.json("apply", "-y", "-f", "fresh.yaml", check=4)
    assert refused["status"] == "error"
    assert {one["result"] for one in refused["data"]["actions"]} == {"skipped"}
    (problem,) = refused["errors"]
    assert problem["code"] == "missing-permissions"
    assert "parameters, control groups and quotas are not covered" in problem["why"]
    assert writes(stack)[seen:] == ["sys/capabilities-self"]
    assert state(stack) == before

    seen = len(writes(stack))
    saved = reader.cli("plan", "-f", "fresh.yaml", "--out", "p.json", exported=True)
    assert "missing-permissions" not in saved.stderr
    assert writes(stack)[seen:] == []
    reader.cli("apply", "p.json", exported=True, check=4)
    assert state(stack) == before

    rules = problem["fix"].partition(":  ")[2]
    stack.api("PUT", "sys/policies/acl/preflight", {"policy": f"{READS}\n{rules}"})
    done = reader.json("apply", "-y", "-f", "fresh.yaml")
    assert {one["result"] for one in done["data"]["actions"]} == {"done"}
    seen = len(writes(stack))
    assert reader.json("apply", "-y", "-f", "fresh.yaml")["data"]["actions"] == []
    assert "sys/capabilities-self" not in writes(stack)[seen:]


def test_one_missing_capability_is_named_with_all_that_its_rule_must_keep(stack: Stack) -> None:
    """A role that exists needs update; create alone, which makes new ones, is not enough."""
    stack.cli("apply", "-y", exported=True)
    policy = f'{READS}path "skyflow/order/*" {{ capabilities = ["create", "read", "list"] }}'
    login = logged_in(stack, "creator", policy)
    manifest = stack.folder / "mounts.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("Order service writer", "Another writer"))
    try:
        told = login.cli("apply", "-y", exported=True, check=4)
        rule = (
            'path "skyflow/order/roles/order-producer" '
            '{ capabilities = ["create", "read", "update", "list"] }'
        )
        assert rule in told.stderr
        assert "order-producer (update)" in told.stderr
        stack.api("PUT", "sys/policies/acl/creator", {"policy": f"{policy}\n{rule}"})
        login.cli("apply", "-y", exported=True)
    finally:
        manifest.write_text(text)


def test_a_login_that_may_not_ask_is_told_so_and_not_taken_for_permitted(stack: Stack) -> None:
    stack.cli("apply", "-y", exported=True)
    manifest = stack.folder / "mounts.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("Order service writer", "A third writer"))
    silent = 'path "sys/capabilities-self" { capabilities = ["deny"] }'
    login = logged_in(stack, "silent", f"{READS}{silent}")
    try:
        told = login.json("apply", "-y", check=4)
        codes = [one["code"] for one in told["data"]["warnings"]]
        assert "permissions-unknown" in codes
        assert [one["result"] for one in told["data"]["actions"]] == ["failed"]
    finally:
        manifest.write_text(text)


def test_a_plan_shows_what_its_login_may_not_apply(stack: Stack) -> None:
    (stack.folder / "shown.yaml").write_text(MANIFEST.replace("fresh", "shown"))
    reader = logged_in(stack, "shown", READS)
    words = ("plan", "-f", "shown.yaml", "--check-permissions")
    plan = reader.json(*words)
    (problem,) = [one for one in plan["data"]["warnings"] if one["code"] == "missing-permissions"]
    rule = 'path "skyflow/shown/roles/writer" { capabilities = ["create", "read", "list"] }'
    assert rule in problem["fix"]
    assert "control groups and quotas are not covered" in problem["why"]
    seen = reader.cli(*words, exported=True)
    assert "apply refuses the whole plan with this login" in seen.stdout
    assert rule in seen.stderr
    page = reader.cli(*words, "-o", "markdown", exported=True).stdout
    assert rule in page
    sarif = json.loads(reader.cli(*words, "-o", "sarif", exported=True).stdout)
    rules_found = [one["ruleId"] for one in sarif["runs"][0]["results"]]
    assert "missing-permissions" in rules_found
    may = stack.json(*words)
    assert not [one for one in may["data"]["warnings"] if "permission" in one["code"]]
    assert (plan["data"]["permissions"], may["data"]["permissions"]) == ("missing", "granted")
    line = "Permissions: this login may do all of the plan;"
    assert line in stack.cli(*words, exported=True).stdout
    assert line not in seen.stdout


def test_a_rotation_without_one_permission_writes_nothing_and_makes_no_key(stack: Stack) -> None:
    stack.cli("apply", "-y", exported=True)
    login = logged_in(stack, "halfway", READS + NODES + rules("order", "verify", "rollback"))
    before, seen = key_of(stack, "order"), len(writes(stack))
    refused = login.json("rotate", "order", "--generate", "-y", check=4)
    (problem,) = refused["errors"]
    assert problem["code"] == "missing-permissions"
    assert "the rotation of order" in problem["summary"]
    assert refused["data"]["mounts"][0]["result"] == "failed"
    assert refused["data"]["mounts"][0]["steps"] == []
    assert writes(stack)[seen:] == ["sys/capabilities-self"]
    assert key_of(stack, "order") == before
    previewed = login.json("rotate", "order", "--generate", "--dry-run", check=4)
    assert [one["code"] for one in previewed["errors"]] == ["missing-permissions"]

    printed = problem["fix"].partition(":  ")[2]
    assert re.findall(r'path "([^"]+)"', printed) == ["skyflow/order/config/commit"]
    policy = f"{READS}{NODES}{rules('order', 'verify', 'rollback')}{printed}"
    stack.api("PUT", "sys/policies/acl/halfway", {"policy": policy})
    done = login.json("rotate", "order", "--generate", "-y")
    assert done["data"]["mounts"][0]["result"] == "rotated"
    assert key_of(stack, "order") != before


@pytest.mark.slow
def test_mounts_that_may_be_rotated_are_not_held_up_by_one_that_may_not(stack: Stack) -> None:
    stack.cli("apply", "-y", exported=True)
    (stack.folder / "second.yaml").write_text(SECOND)
    stack.cli("apply", "-y", "-f", "second.yaml", exported=True)
    allowed = rules("second", "verify", "rollback", "commit")
    login = logged_in(stack, "seconds", f"{READS}{NODES}{allowed}")
    seen = len(writes(stack))
    both = login.json("rotate", "order", "second", "--generate", "-y", check=3)
    assert [one["result"] for one in both["data"]["mounts"]] == ["failed", "rotated"]
    assert [one["code"] for one in both["errors"]] == ["missing-permissions"]
    assert not [one for one in writes(stack)[seen:] if one.startswith("skyflow/order/")]


@pytest.mark.slow
def test_the_403_of_a_first_write_names_the_rules_that_are_enough(stack: Stack) -> None:
    (stack.folder / "writers.yaml").write_text(WRITERS)
    stack.cli("apply", "-y", "-f", "writers.yaml", exported=True)
    stack.bao("secrets", "disable", "skyflow/late")
    for number, (line, path, needed) in enumerate(FIRST_WRITES):
        policy = f"{READS}{NODES}{PROOFS}"
        login, seen = logged_in(stack, f"writer{number}", policy), len(writes(stack))
        refused = login.json(*line.split(), "-f", "writers.yaml", check=4)
        (problem,) = refused["errors"]
        asked_first = line.startswith("mount enable")  # it reads the mount after the write
        assert problem["code"] == ("missing-permissions" if asked_first else "forbidden"), line
        rule = f'path "{path}" {{ capabilities = {json.dumps(needed)} }}'
        assert problem["fix"] == f"add to a policy of this login:  {rule}", line
        tried = set(writes(stack)[seen:]) - {"sys/capabilities-self", "sys/control-group/request"}
        # A cut-off tries the key first.
        assert tried <= (set() if asked_first else {path, f"{path}/verify"}), line
        stack.api("PUT", f"sys/policies/acl/writer{number}", {"policy": f"{policy}\n{rule}"})
        login.cli(*line.split(), "-f", "writers.yaml", exported=True)


def rules(mount: str, *steps: str) -> str:
    """What a rotation writes of a mount, as rules."""
    paths = ["config", *(f"config/{step}" for step in steps)]
    line = 'path "skyflow/{}/{}" {{ capabilities = ["read", "update"] }}\n'
    return "".join(line.format(mount, path) for path in paths)


def key_of(stack: Stack, mount: str) -> str:
    return stack.api("GET", f"skyflow/{mount}/config")["data"]["key_id"]


def state(stack: Stack) -> dict[str, object]:
    """What an apply of the manifest would change."""
    roles = stack.api("LIST", "skyflow/order/roles")["data"]
    policies = stack.api("LIST", "sys/policies/acl")["data"]["keys"]
    mounts = sorted(stack.api("GET", "sys/mounts")["data"])
    return {"roles": roles, "policies": policies, "mounts": mounts}


def writes(stack: Stack) -> list[str]:
    """Every path that was written to, in order, from the server's audit log."""
    entries = map(json.loads, Path(stack.audit_log).read_text().splitlines())
    return [
        one["request"]["path"]
        for one in entries
        if one["type"] == "response" and one["request"]["operation"] in {"create", "update"}
    ]


def logged_in(stack: Stack, name: str, policy: str) -> Stack:
    stack.api("PUT", f"sys/policies/acl/{name}", {"policy": policy})
    token = stack.bao("token", "create", f"-policy={name}", "-field=token").stdout.strip()
    exports = {**stack.exports, "BAO_TOKEN": token, "VAULT_TOKEN": token}
    return Stack(stack.folder, stack.environ, exports)
