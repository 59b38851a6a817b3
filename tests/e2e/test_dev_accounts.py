"""On a real dev stack: looking changes nothing, a cut-off stays, warnings arrive, sealed is 69."""

from __future__ import annotations

import re

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

CREDS = ("creds", "order", "order-producer", "--ctx", "order:ORD-42")


@pytest.mark.timeout(300)
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
        _every_command_says_why(stack)

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


def _every_command_says_why(stack: Stack) -> None:
    reason = "INC-1042: key in a log"
    revoke = ("config", "revoke", "purchase", "--reason", reason, "-y")
    told = stack.json(*revoke)
    config = stack.json("config", "show", "purchase")["data"]
    revoked = config["revoked"]
    key = told["data"]["live_key_id"]
    assert (revoked["reason"], revoked["run"], revoked["key_id"]) == (reason, told["run_id"], key)
    assert revoked["at"] == told["data"]["cut_off_at"]
    sentence = (
        f"cut off since {revoked['at']} by {revoked['by']} because {reason} (run {told['run_id']})"
    )
    for command in (("status",), ("mount", "show", "purchase")):
        shown = stack.cli(*command, exported=True).stdout
        assert f"purchase is {sentence}" in shown
        assert "write a new key" in shown
    mounts = {one["name"]: one for one in stack.json("status")["data"]["mounts"]}
    assert [name for name, one in mounts.items() if "revoked" in one] == ["purchase"]
    assert mounts["purchase"]["revoked"] == revoked
    (sick,) = stack.json("health", "purchase", check=6)["data"]["mounts"]
    assert (sick["state"], sick["detail"]) == ("unconfigured", sentence)
    (drift,) = [one for one in stack.json("plan")["data"]["drift"] if one["kind"] == "revoked"]
    assert (drift["since"], drift["by"], drift["reason"]) == (
        revoked["at"],
        revoked["by"],
        reason,
    )
    report = stack.json("audit", "report", str(stack.audit_log), "--server-roles")["data"]
    assert report["cut_off"] == [
        {"mount": "skyflow/purchase", "namespace": "", "api": "full", **revoked}
    ]
    rows = [one for one in report["changes"] if told["run_id"] in one.values()]
    assert [(one["mount"], one["kind"]) for one in rows] == [("skyflow/purchase", "revoked")]
    # The reason is for the operators: the server's log has it hashed.
    assert reason not in stack.audit_log.read_text()
