"""The policy for an identity that rotates: enough for all of it, and nothing in it unused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.stack import EXAMPLE, REPO, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

POLICY = REPO / "docs" / "policies" / "rotator.hcl"
_STANZA = re.compile(r'path "([^"]+)" \{\s*capabilities = \[([^\]]*)\]\s*\}')


def stanzas() -> set[tuple[str, str]]:
    """Every path and capability that the policy grants."""
    found = _STANZA.findall(POLICY.read_text())
    return {(path, word) for path, words in found for word in re.findall(r"\w+", words)}


def granted(path: str, operation: str) -> tuple[str, str] | None:
    """What of the policy a request relies on; the server's own default policy is not in it."""
    for pattern, word in stanzas():
        form = re.escape(pattern).replace(r"\+", "[^/]+").replace(r"\*", ".*")
        if word == operation and re.fullmatch(form, path):
            return pattern, word
    return None


def test_it_is_enough_for_every_way_of_rotate_and_holds_no_right_to_tokens() -> None:
    with running_stack(EXAMPLE, apply=True) as stack:
        stack.bao("policy", "write", "rotator", str(POLICY))
        token = stack.bao("token", "create", "-policy=rotator", "-field=token").stdout.strip()
        as_rotator = Stack(
            stack.folder, stack.environ, {**stack.exports, "BAO_TOKEN": token, "VAULT_TOKEN": token}
        )
        for line in (
            "rotate payment --generate -y",
            "rotate --retire payment --now --allow-destroy=skyflow/payment",
            "rotate order --generate -y --dry-run",
            "rotate order --generate -y",
            "rotate --rollback order",
            "rotate --all --generate -y",
            "config history order",
        ):
            as_rotator.cli(*line.split(), exported=True)
        read = as_rotator.json("creds", "payment", "payment-producer", "--ctx", "txn:1", check=4)
        assert read["status"] == "error"

        made = [one for one in answered(stack) if "rotator" in one["auth"]["policies"]]
        denied = [one["request"]["path"] for one in made if "permission denied" in error(one)]
        assert denied == ["skyflow/payment/creds/payment-producer"]
        used = {granted(one["request"]["path"], one["request"]["operation"]) for one in made}
        assert used - {None} == stanzas()


def answered(stack: Stack) -> list[dict[str, Any]]:
    entries = map(json.loads, stack.audit_log.read_text().splitlines())
    return [
        entry for entry in entries if entry["type"] == "response" and entry["auth"].get("policies")
    ]


def error(entry: dict[str, Any]) -> str:
    return str(entry.get("error") or "")
