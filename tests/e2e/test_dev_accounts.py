"""On a real dev stack: looking changes nothing, a cut-off stays, warnings arrive, sealed is 69."""

from __future__ import annotations

import re
from typing import Any

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
    stack.bao("delete", "skyflow/order/config")
    looked = stack.json("plan", "--detailed-exitcode")
    assert looked["data"]["actions"] == []
    assert "cut-off-credential" in _codes(looked)
    assert "cut-off-credential" in _codes(stack.json("apply", "-y"))
    assert stack.cli(*CREDS, exported=True, check=None).returncode != 0

    written = stack.json("apply", "-y", "--replace-credential", "order")
    assert [one["path"] for one in written["data"]["actions"]] == ["skyflow/order/config"]
    (told,) = [one for one in written["data"]["warnings"] if one["code"] == "engine-warning"]
    assert told["summary"].startswith("skyflow/order: ")
    assert "stranger" in told["summary"]
    stack.cli(*CREDS, exported=True)


def _codes(whole: dict[str, Any]) -> list[str]:
    return [one["code"] for one in whole["data"]["warnings"]]
