"""A mount whose changes another person approves, from the manifest to the changed mount."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.approvals import Approvals, codes, free, running_approvals

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
GROUP = "control_groups: {payment: {approvers: [ops], approvals: 1, ttl: 1h}}\n"


@pytest.fixture(scope="module")
def place() -> Iterator[Approvals]:
    """The example with a control group on ``payment``, applied; and an operator."""
    with running_approvals() as found:
        file = found.stack.folder / "mounts.yaml"
        file.write_text(file.read_text() + GROUP)
        found.stack.cli("apply", "-y", exported=True)
        found.user("olga", "operator")
        yield found


@pytest.fixture
def keep(tmp_path) -> tuple[str, str]:
    return ("--pending", str(tmp_path / "pending.json"))


def root(place: Approvals, *args: str, check: int = 0):
    return place.run(place.stack.exports["BAO_TOKEN"], *args, check=check)


def test_the_guards_are_planned_once_and_read_back(place):
    assert root(place, "plan")["data"]["actions"] == []
    policy = place.api("GET", "sys/policies/acl/operator")[1]["data"]["policy"]
    place.api("PUT", "sys/policies/acl/operator", {"policy": policy.replace('["ops"]', '["all"]')})
    (action,) = root(place, "plan")["data"]["actions"]
    assert (action["kind"], action["path"]) == ("policy", "sys/policies/acl/operator")
    assert any("group_names: [ops]" in str(one["after"]) for one in action["changes"])
    root(place, "apply", "-y")
    assert root(place, "plan")["data"]["actions"] == []
    assert place.api("GET", "sys/policies/acl/operator")[1]["data"]["policy"] == policy


def test_every_way_around_the_guard_waits_for_an_approval(place):
    token = place.login("olga")
    mine = place.api("GET", "auth/token/lookup-self", token=token)[1]["data"]["entity_id"]
    other = place.api("GET", "auth/token/lookup-self", token=place.approver)[1]["data"]["entity_id"]
    everything = {"policy": free("*")}
    ways = [
        ("PUT", "sys/policies/acl/operator", everything),
        ("POST", "sys/policies/detailed/acl/operator", everything),
        ("PUT", "sys/policy/operator", everything),
        ("POST", "sys/mounts/skyflow/payment", {"type": "kv"}),
        ("DELETE", "sys/mounts/skyflow/payment", None),
        ("POST", "sys/mounts/skyflow/payment/tune", {"description": "taken"}),
        ("POST", "sys/remount", {"from": "skyflow/payment", "to": "skyflow/free"}),
        ("POST", "identity/group/name/ops", {"member_entity_ids": [mine]}),
        ("POST", "identity/group", {"name": "ops", "member_entity_ids": [mine]}),
        ("POST", f"identity/entity/id/{other}", {"policies": ["operator"]}),
        ("POST", "identity/entity/merge", {"from_entity_ids": [mine], "to_entity_id": "x"}),
        ("POST", "identity/persona", {"entity_id": mine, "name": "otto", "mount_accessor": "x"}),
        ("POST", "identity/alias", {"entity_id": mine, "name": "otto", "mount_accessor": "x"}),
        ("POST", "skyflow/payment/config", {"description": "taken"}),
        ("DELETE", "skyflow/payment/config", None),
        ("POST", "skyflow/payment/config/rollback", {}),
        ("DELETE", "skyflow/payment/config/history/1", None),
        ("POST", "skyflow/payment/roles/mine", {"role_ids": ["r"]}),
        ("DELETE", "skyflow/payment/roles/payment-producer", None),
    ]
    before = place.config("payment")
    for method, path, body in ways:
        status, answer = place.api(method, path, body, token=token)
        assert (status, bool((answer.get("wrap_info") or {}).get("token"))) == (200, True), path
    assert place.config("payment") == before
    place.withdraw_all()


def test_the_other_mounts_need_no_approval(place, keep):
    token = place.login("olga")
    words = ("config", "write", "order", "--description", "Orders", *keep)
    assert place.run(token, *words)["status"] == "ok"
    root(place, "apply", "-y")


def test_a_change_of_payment_end_to_end(place, keep):
    token = place.login("olga")
    file = place.stack.folder / "mounts.yaml"
    text = file.read_text()
    new = re.sub(r"(\n  payment:\n    description: ).*", r"\1Payments, approved", text)
    assert new != text
    file.write_text(new)
    try:
        first = place.run(token, "apply", "-y", *keep, check=7)
        assert (first["status"], set(codes(first))) == ("pending", {"approval-pending"})
        pending = {
            one["path"]: one["pending"]["accessor"]
            for one in first["data"]["actions"]
            if one.get("pending")
        }
        assert pending
        assert place.config("payment")["description"] != "Payments, approved"
        while pending:
            for accessor in pending.values():
                place.approve(accessor)
            done = place.run(token, "apply", "-y", *keep, check=None)
            pending = {
                one["path"]: one["pending"]["accessor"]
                for one in done["data"]["actions"]
                if one.get("pending")
            }
        assert done["status"] == "ok"
        assert place.config("payment")["description"] == "Payments, approved"
        assert place.run(token, "plan")["data"]["actions"] == []
    finally:
        file.write_text(text)
        root(place, "apply", "-y")


def with_descriptions(place: Approvals, **texts: str) -> str:
    """Change descriptions in the manifest; return its text before."""
    file = place.stack.folder / "mounts.yaml"
    text = new = file.read_text()
    for mount, words in texts.items():
        new = re.sub(rf"(\n  {mount}:\n    description: ).*", rf"\1{words}", new)
    file.write_text(new)
    return text


def test_where_approvals_are_required_nothing_is_written_without_one(place, keep):
    token = place.login("olga")
    words = ("apply", "-y", "--require-approval", *keep)
    text = with_descriptions(place, payment="Approved only", order="Free")
    try:
        refused = place.run(token, *words, check=5)
        assert codes(refused) == ["approval-not-required"]
        assert place.waiting() == {}
        root_token = place.stack.exports["BAO_TOKEN"]
        assert codes(place.run(root_token, *words, check=5)) == ["approval-not-required"]
        assert root(place, "plan")["data"]["summary"]["update"] > 1
        (place.stack.folder / "mounts.yaml").write_text(text)
        with_descriptions(place, payment="Approved only")
        waits = place.run(token, *words, check=7)
        assert {one["result"] for one in waits["data"]["actions"]} <= {"pending", "waiting"}
        assert place.config("payment")["description"] != "Approved only"
    finally:
        (place.stack.folder / "mounts.yaml").write_text(text)
        place.withdraw_all()
        root(place, "apply", "-y")


def test_a_login_without_an_entity_writes_nothing_of_a_plan_with_a_guarded_path(place, keep):
    body = {"policies": ["operator"]}
    token = place.api("POST", "auth/token/create", body)[1]["auth"]["client_token"]
    text = with_descriptions(place, payment="By nobody", order="By nobody")
    try:
        refused = place.run(token, "apply", "-y", *keep, check=4)
        assert codes(refused) == ["no-entity"]
        assert place.config("order")["description"] != "By nobody"
        words = ("config", "write", "payment", "--description", "By nobody", *keep)
        assert codes(place.run(token, *words, check=4)) == ["no-entity"]
        assert place.waiting() == {}
        words = ("config", "write", "order", "--description", "By nobody", *keep)
        assert place.run(token, *words)["status"] == "ok"
    finally:
        (place.stack.folder / "mounts.yaml").write_text(text)
        root(place, "apply", "-y")


def lifted(place: Approvals) -> list[dict[str, Any]]:
    report = root(place, "audit", "posture", check=None)
    return [one for one in report["data"]["findings"] if one["check"] == "lifted-guards"]


def test_posture_is_critical_if_another_policy_lifts_a_guard(place):
    assert lifted(place) == []
    path = "skyflow/payment/roles/payment-producer"
    place.api("PUT", "sys/policies/acl/helper", {"policy": free(path, "update")})
    place.user("otis", "operator", "helper")
    token = place.login("otis")
    (finding,) = lifted(place)
    assert finding["grade"] == "critical"
    status, answer = place.api("POST", path, {"description": "lifted"}, token=token)
    assert (status, answer.get("wrap_info")) == (200, None)
    place.api("DELETE", "auth/userpass/users/otis")
    place.api("DELETE", "sys/policies/acl/helper")
    place.api("POST", "auth/token/revoke-self", token=token)
    root(place, "apply", "-y")


@pytest.mark.parametrize("by", ["group", "nested group", "entity"])
def test_posture_is_critical_if_an_identity_lifts_a_guard(place, by):
    path = "skyflow/payment/roles/payment-producer"
    place.api("PUT", "sys/policies/acl/helper", {"policy": free(path, "update")})
    place.user("ann", "operator")
    token = place.login("ann")
    mine = place.api("GET", "auth/token/lookup-self", token=token)[1]["data"]["entity_id"]
    place.api("POST", "auth/token/revoke-self", token=token)
    assert lifted(place) == []
    groups = {
        "group": [{"name": "helpers", "policies": ["helper"], "member_entity_ids": [mine]}],
        "nested group": [
            {"name": "inner", "member_entity_ids": [mine]},
            {"name": "helpers", "policies": ["helper"]},
        ],
        "entity": [],
    }[by]
    ids: list[str] = []
    try:
        for body in groups:
            inner = {"member_group_ids": ids} if ids else {}
            made = place.api("POST", "identity/group", {**body, **inner})[1]["data"]["id"]
            ids.append(made)
        if by == "entity":
            place.api("POST", f"identity/entity/id/{mine}", {"policies": ["helper"]})
        # Nobody is logged in: it is known from logins and identities alone.
        (finding,) = lifted(place)
        assert (finding["grade"], finding["unchecked"]) == ("critical", False)
        assert "userpass user userpass/ann with the entity" in finding["evidence"][-1]
        token = place.login("ann")
        status, answer = place.api("POST", path, {"description": "lifted"}, token=token)
        assert (status, answer.get("wrap_info")) == (200, None)
        place.api("POST", "auth/token/revoke-self", token=token)
    finally:
        for one in ids:
            place.api("DELETE", f"identity/group/id/{one}")
        place.api("DELETE", f"identity/entity/id/{mine}")
        place.api("DELETE", "auth/userpass/users/ann")
        place.api("DELETE", "sys/policies/acl/helper")
        root(place, "apply", "-y")


def test_without_the_section_the_policy_is_pruned_as_others_are(place):
    file = place.stack.folder / "mounts.yaml"
    text = file.read_text()
    file.write_text(text.replace(GROUP, ""))
    try:
        assert root(place, "apply", "-y")["data"]["actions"] == []
        done = root(place, "apply", "-y", "--prune", "--allow-large-prune")
        assert [one["path"] for one in done["data"]["actions"]] == ["sys/policies/acl/operator"]
        assert place.api("GET", "sys/policies/acl/operator")[0] == 404
    finally:
        file.write_text(text)
        root(place, "apply", "-y")
