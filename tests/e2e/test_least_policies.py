"""The policies of ``init --with operators``: each is enough for its person, and for no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import REPO, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MINT = "creds order order-producer --ctx order:1"
ROTATE = "rotate order --generate -y"
POSTURE = "audit posture --fail-on critical"
ALLOWED = {
    "operator": ("plan", "apply -y", "status", ROTATE, "rotate --rollback order -y"),
    "rotator": (ROTATE,),
    "auditor": (
        "status",
        "role show order order-producer",
        POSTURE,
        "audit who {log} --ctx order:1",
    ),
    "application": (MINT,),
}
REFUSED = {
    "operator": (MINT,),
    "rotator": (MINT, "apply -y"),
    "auditor": (MINT, ROTATE, "apply -y"),
    "application": ("creds order order-producer --ctx txn:1", ROTATE, "apply -y"),
}


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    with running_stack(None) as stack:
        stack.cli("init", "--with", "operators")
        stack.cli("apply", "-y", exported=True)
        yield stack


def test_each_policy_is_enough_for_its_person_and_refuses_the_work_of_others(
    own_stack: Stack,
) -> None:
    stack = own_stack
    add_logins(stack)
    people = {name: logged_in(stack, name) for name in ALLOWED}
    assert "No changes" in people["operator"].cli("plan", exported=True).stdout
    change_manifest(stack)
    for name, lines in REFUSED.items():
        for line in lines:
            done = people[name].cli(*line.split(), exported=True, check=None)
            assert done.returncode == 4, (name, line, done)
    already = len(refused(stack))
    for name, lines in ALLOWED.items():
        for line in lines:
            words = line.format(log=stack.audit_log).split()
            done = people[name].cli(*words, exported=True, check=None)
            assert done.returncode == 0, (name, line, done)
            assert "this login may not" not in done.stdout + done.stderr, (name, line, done)
    assert refused(stack)[already:] == []
    assert "No changes" in people["operator"].cli("plan", exported=True).stdout
    path = people["operator"].bao("policy", "write", "operator", "/dev/null", check=False)
    assert path.returncode != 0


def test_a_rotation_without_the_list_of_nodes_is_not_permitted(own_stack: Stack) -> None:
    """It is 4, and the line that is printed is enough."""
    policy = (REPO / "docs/policies/operator.hcl").read_text()
    text = policy.replace('"sys/ha-status"', '"nothing"')
    own_stack.api("PUT", "sys/policies/acl/half", {"policy": text})
    half = logged_in(own_stack, "half")
    done = half.cli(*ROTATE.split(), exported=True, check=4)
    line = 'path "sys/ha-status" { capabilities = ["read"] }'
    assert f"add to this login's policy: {line}" in done.stderr
    own_stack.api("PUT", "sys/policies/acl/half", {"policy": f"{text}\n{line}"})
    half.cli(*ROTATE.split(), exported=True)


def add_logins(stack: Stack) -> None:
    """A login of each kind that posture reads here, each of them of an application."""
    policies = {"token_policies": ["application"]}
    for method in ("approle", "userpass"):
        stack.api("POST", f"sys/auth/{method}", {"type": method})
    stack.api("POST", "sys/auth/cert", {"type": "cert"})
    stack.api("POST", "auth/approle/role/svc", policies)
    stack.api("POST", "auth/userpass/users/ann", {"password": "not-a-secret-here", **policies})
    ca = Path(stack.exports["BAO_CACERT"]).read_text()
    stack.api("POST", "auth/cert/certs/edge", {"certificate": ca, **policies})
    stack.api("POST", "auth/token/roles/batch", {"allowed_policies": ["application"]})
    stack.api("POST", "identity/entity/name/ann", {"policies": ["application"]})
    stack.api("POST", "identity/group/name/team", {"policies": ["application"]})


def change_manifest(stack: Stack) -> None:
    manifest = stack.folder / "mounts.yaml"
    text = manifest.read_text().replace("Order service writer", "Order writer")
    manifest.write_text(text.replace("Order orchestration", "Orders"))


def refused(stack: Stack) -> list[tuple[str, str]]:
    """Every request that the server refused, from its audit log."""
    entries = map(json.loads, stack.audit_log.read_text().splitlines())
    return [
        (one["request"]["operation"], one["request"]["path"])
        for one in entries
        if one["type"] == "response" and "permission denied" in str(one.get("error") or "")
    ]


def logged_in(stack: Stack, policy: str) -> Stack:
    made = stack.bao("token", "create", f"-policy={policy}", "-field=token").stdout.strip()
    exports = {**stack.exports, "BAO_TOKEN": made, "VAULT_TOKEN": made}
    return Stack(stack.folder, stack.environ, exports)
