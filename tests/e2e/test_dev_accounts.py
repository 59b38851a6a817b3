"""On a real dev stack: looking changes nothing, a cut-off stays, warnings arrive, sealed is 69."""

from __future__ import annotations

import re

import pytest
from support.stack import Stack, running_stack

pytestmark = pytest.mark.real_server

CREDS = ("creds", "order", "order-producer", "--ctx", "order:ORD-42")


def test_looking_changes_nothing_and_a_sealed_stack_is_said():
    with running_stack(apply=True) as stack:
        text = (stack.folder / "mounts.yaml").read_text()
        other = stack.folder / "other.yaml"
        other.write_text(re.sub(r"role_ids: \[[^]]*\]", "role_ids: [another-role]", text))
        stack.cli("plan", "-f", str(other), exported=True)
        stack.cli("apply", "--dry-run", "-f", str(other), exported=True)
        stack.cli("health", "--refresh", exported=True)
        stack.cli(*CREDS, exported=True)

        _cut_off_and_written_back_on_purpose(stack)

        stack.bao("operator", "seal")
        for line in ("plan", "apply -y", "apply --dry-run"):
            whole = stack.json(*line.split(), check=69)
            assert [one["code"] for one in whole["errors"]] == ["sealed"]
        stack.cli("health", exported=True, check=6)


def _cut_off_and_written_back_on_purpose(stack: Stack) -> None:
    stack.bao("write", "skyflow/order/roles/stranger", "role_ids=nobodys-role")
    key = stack.api("GET", "skyflow/order/config")["data"]["key_id"]
    stack.bao("delete", "skyflow/order/config")
    looked = stack.json("plan", "--detailed-exitcode", check=2)
    assert looked["data"]["actions"] == []
    assert [(one["kind"], one["path"]) for one in looked["data"]["drift"]] == [
        ("revoked", "skyflow/order")
    ]
    skipped = stack.json("apply", "-y", check=3)
    assert [one["code"] for one in skipped["errors"]] == ["cut-off-credential"]
    refused = stack.json("apply", "-y", "--replace-credential", "order", check=5)
    assert [one["code"] for one in refused["errors"]] == ["revoked-key"]
    assert stack.cli(*CREDS, exported=True, check=None).returncode != 0

    written = stack.json("apply", "-y", f"--allow-revoked-key={key}")
    assert [one["path"] for one in written["data"]["actions"]] == ["skyflow/order/config"]
    (told,) = [one for one in written["data"]["warnings"] if one["code"] == "engine-warning"]
    assert told["summary"].startswith("skyflow/order: ")
    assert "stranger" in told["summary"]
    stack.cli(*CREDS, exported=True)
