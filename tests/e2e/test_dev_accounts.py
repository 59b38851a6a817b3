"""On a real dev stack: a look at another manifest changes nothing, and a sealed one is 69."""

from __future__ import annotations

import re

import pytest
from support.stack import running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.xdist_group("dev")]

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

        stack.bao("operator", "seal")
        for line in ("plan", "apply -y", "apply --dry-run"):
            whole = stack.json(*line.split(), check=69)
            assert [one["code"] for one in whole["errors"]] == ["sealed"]
        stack.cli("health", exported=True, check=6)
