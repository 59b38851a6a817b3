"""Every managed field, changed behind skyflowctl's back on a real server, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.stack import EXAMPLE, REPO, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.xdist_group("drift")]

MOUNT = "skyflow/order"
ROLE = "order-producer"

# Manifest property (as the schema names it) -> how to change the server behind its back:
# (API path, body, the field that the plan must name).
CHANGES: dict[str, list[tuple[str, dict[str, Any], str]]] = {
    "mount.description": [
        (f"sys/mounts/{MOUNT}/tune", {"description": "someone else's"}, "description"),
        (f"{MOUNT}/config", {"description": "someone else's"}, "description"),
    ],
    "mount.tags": [(f"{MOUNT}/config", {"tags": ["env:wrong"]}, "tags")],
    "mount.audit": [
        (
            f"sys/mounts/{MOUNT}/tune",
            {"audit_non_hmac_request_keys": ["ctx"]},
            "audit_non_hmac_request_keys",
        ),
        (
            f"sys/mounts/{MOUNT}/tune",
            {"audit_non_hmac_response_keys": ["key_id"]},
            "audit_non_hmac_response_keys",
        ),
    ],
    "manifest": [
        (f"sys/mounts/{MOUNT}/tune", {"options": {"managed_by": ""}}, "options.managed_by"),
        (
            f"sys/mounts/{MOUNT}/tune",
            {"passthrough_request_headers": ["X-Other"]},
            "passthrough_request_headers",
        ),
    ],
    "role.role_ids": [(f"{MOUNT}/roles/{ROLE}", {"role_ids": ["another-role"]}, "role_ids")],
    "role.description": [(f"{MOUNT}/roles/{ROLE}", {"description": "other"}, "description")],
    "role.tags": [(f"{MOUNT}/roles/{ROLE}", {"tags": ["other"]}, "tags")],
    "role.ctx": [
        (f"{MOUNT}/roles/{ROLE}", {"ctx_required": False}, "ctx_required"),
        (f"{MOUNT}/roles/{ROLE}", {"ctx_pattern": "order:p*"}, "ctx_pattern"),
        (f"{MOUNT}/roles/{ROLE}", {"ctx_probe": "order:other"}, "ctx_probe"),
    ],
}
# Properties that say how skyflowctl works, not what the server holds.
NOT_LIVE = {
    "mount.path",  # which mount it is
    "mount.protect",  # a gate of deletions
    "mount.credentials",  # an identity, never written back: tests/scenarios/plan
    "mount.rotation",  # when and from where rotate takes a key
    "mount.roles",  # each role below
    "role.consumers",  # refused until its issue
}


@pytest.fixture(scope="module")
def applied() -> Iterator[Stack]:
    with running_stack(EXAMPLE, apply=True) as stack:
        yield stack


def cases() -> list[tuple[str, dict[str, Any], str]]:
    return [case for listed in CHANGES.values() for case in listed]


def test_every_property_of_the_schema_is_changed_here_or_not_live() -> None:
    schema = json.loads((REPO / "schemas" / "mounts.schema.json").read_text())

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target = node["$ref"].removeprefix("#/").split("/")
            node = schema
            for part in target:
                node = node[part]
        return node

    def inner(node: dict[str, Any]) -> dict[str, Any]:
        node = resolve(node)
        values = list(node.get("patternProperties", {}).values())
        extra = node.get("additionalProperties")
        return resolve(values[0] if values else extra)

    mount = inner(schema["properties"]["mounts"])
    role = inner(mount["properties"]["roles"])
    named = {f"mount.{name}" for name in mount["properties"]}
    named |= {f"role.{name}" for name in role["properties"]}
    assert named == (set(CHANGES) - {"manifest"}) | NOT_LIVE


@pytest.mark.parametrize(("path", "body", "field"), cases())
def test_a_changed_field_is_one_action_and_apply_mends_it_alone(
    applied: Stack, path: str, body: dict[str, Any], field: str
) -> None:
    write(applied, path, body)
    plan = applied.json("plan", "--detailed-exitcode", check=2)
    assert plan["status"] == "changes"
    [action] = plan["data"]["actions"]
    assert [change["field"] for change in action["changes"]] == [field]
    done = applied.json("apply", "-y")["data"]
    assert [item["result"] for item in done["actions"]] == ["done"]
    assert done["summary"]["update"] == 1
    again = applied.json("plan", "--detailed-exitcode", check=0)
    assert again["data"]["actions"] == []


def write(stack: Stack, path: str, body: dict[str, Any]) -> None:
    import ssl
    import urllib.request

    request = urllib.request.Request(
        f"{stack.exports['BAO_ADDR']}/v1/{path}",
        method="POST",
        data=json.dumps(body).encode(),
        headers={"X-Vault-Token": stack.exports["BAO_TOKEN"]},
    )
    context = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
    with urllib.request.urlopen(request, context=context, timeout=30):
        return
