"""``approvals list``, ``show`` and ``approve`` against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.approvals import Approvals, codes, free, guarded

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
CONFIG, ROLE = "skyflow/order/config", "skyflow/order/roles/order-producer"
REVIEWER = (
    free("sys/control-group/*"),
    free("auth/token/lookup-accessor", "update"),
    free("skyflow/*", "read"),
    free("sys/policies/acl/*", "read"),
)


@pytest.fixture
def place(approvals: Approvals) -> Iterator[Approvals]:
    approvals.stack.cli("apply", "-y", exported=True)
    yield approvals
    approvals.withdraw_all()
    approvals.stack.cli("apply", "-y", exported=True)


@pytest.fixture
def keep(tmp_path) -> tuple[str, str]:
    return ("--pending", str(tmp_path / "pending.json"))


def entity(place: Approvals, token: str) -> str:
    return place.api("GET", "auth/token/lookup-self", token=token)[1]["data"]["entity_id"]


@pytest.fixture
def rita(place) -> Iterator[str]:
    """An approver who may read what she approves."""
    token = place.operator(*REVIEWER, name="rita")
    yield from membership(place, token)


def membership(place: Approvals, token: str) -> Iterator[str]:
    usual = [entity(place, place.approver)]
    group = "identity/group/name/ops"
    place.api("POST", group, {"member_entity_ids": [*usual, entity(place, token)]})
    yield token
    place.api("POST", group, {"member_entity_ids": usual})


def sent(place: Approvals, token: str, path: str, body: object, method: str = "POST") -> str:
    return place.api(method, path, body, token=token)[1]["wrap_info"]["accessor"]


def show(place: Approvals, token: str, accessor: str) -> dict[str, Any]:
    return place.run(token, "approvals", "show", accessor)["data"]


def test_a_change_is_reviewed_approved_and_run_by_commands_alone(place, rita, keep):
    token = place.operator(guarded(CONFIG))
    before = place.description()
    accessor = place.write(token, "Orders", *keep, check=7)["data"]["pending"]["accessor"]
    assert f"'skyflowctl approvals approve {accessor}'" in place.told
    (mine,) = place.run(token, "approvals", "list", *keep)["data"]["requests"]
    assert (mine["accessor"], mine["state"], mine["stored"]) == (accessor, "waiting", "file")
    assert "the server has no list" in place.told
    seen = show(place, rita, accessor)
    assert (seen["path"], seen["operation"], seen["approved"]) == (CONFIG, "update", False)
    assert seen["requester"]["logins"] == ["userpass/ana"]
    assert seen["changes"] == [{"field": "description", "before": before, "after": "Orders"}]
    assert 3500 < seen["ttl"] <= 3600
    assert 0 <= seen["age_seconds"] < 60
    assert seen["warnings"] == []
    refused = place.run(rita, "approvals", "approve", accessor, check=5)
    assert codes(refused) == ["needs-confirmation"]
    assert place.request(accessor)[1]["data"]["approved"] is False
    done = place.run(rita, "approvals", "approve", accessor, "-y")
    assert (done["data"]["approved"], done["data"]["path"]) == (True, CONFIG)
    assert place.description() == before
    (mine,) = place.run(token, "approvals", "list", *keep)["data"]["requests"]
    assert mine["state"] == "approved"
    assert place.write(token, "Orders", *keep, check=0)["status"] == "ok"
    assert place.description() == "Orders"
    assert place.run(token, "approvals", "list", *keep)["data"]["requests"] == []
    assert codes(place.run(rita, "approvals", "show", accessor, check=64)) == ["no-such-request"]


def test_nobody_approves_their_own_request(place, keep):
    token = place.operator(guarded(CONFIG), free("sys/control-group/*"))
    for member in membership(place, token):
        accessor = place.write(token, "mine", *keep, check=7)["data"]["pending"]["accessor"]
        told = place.run(member, "approvals", "approve", accessor, "-y", check=5)
        assert codes(told) == ["self-approval"]
        again = place.login("ana")
        told = place.run(again, "approvals", "approve", accessor, "-y", check=5)
        assert codes(told) == ["self-approval"]
        assert place.request(accessor)[1]["data"]["approved"] is False


def test_a_login_without_an_entity_neither_approves_nor_has_its_request_approved(place, rita):
    token = place.operator(guarded(CONFIG))
    root = place.stack.exports["BAO_TOKEN"]
    accessor = sent(place, token, CONFIG, {"description": "x"})
    assert codes(place.run(root, "approvals", "approve", accessor, "-y", check=4)) == ["no-entity"]
    made = place.api("POST", "auth/token/create", {"policies": ["ana"]})[1]["auth"]["client_token"]
    accessor = sent(place, made, CONFIG, {"description": "x"})
    told = place.run(rita, "approvals", "approve", accessor, "-y", check=5)
    assert codes(told) == ["requester-without-entity"]
    assert place.request(accessor)[1]["data"]["approved"] is False


def test_an_approval_that_does_not_count_is_not_called_one(place):
    token = place.operator(guarded(CONFIG))
    outsider = place.operator(*REVIEWER, name="nora")
    accessor = sent(place, token, CONFIG, {"description": "x"})
    told = place.run(outsider, "approvals", "approve", accessor, "-y", check=4)
    assert codes(told) == ["not-an-approver"]


def test_a_request_that_needs_two_people_says_so_after_the_first(place, rita):
    two = guarded(CONFIG).replace("approvals = 1", "approvals = 2")
    accessor = sent(place, place.operator(two), CONFIG, {"description": "x"})
    first = place.run(rita, "approvals", "approve", accessor, "-y")["data"]
    assert (first["approved"], len(first["approved_by"])) == (False, 1)
    told = place.run(rita, "approvals", "approve", accessor, "-y", check=5)
    assert codes(told) == ["approval-refused"]
    place.approve(accessor)
    assert place.request(accessor)[1]["data"]["approved"] is True


def test_no_secret_of_a_request_is_shown(place, rita):
    token = place.operator(guarded(CONFIG), guarded("team-kv/*"))
    place.api("POST", "sys/mounts/team-kv", {"type": "kv"})
    key = "SECRET-of-the-request-4711"
    for path, body in ((CONFIG, {"credentials_json": key, "description": "d"}),
                       ("team-kv/app", {"anything": key})):  # fmt: skip
        accessor = sent(place, token, path, body)
        for form in ((), ("-o", "json")):
            done = place.stack.cli(
                *("approvals", "show", accessor, *form), exported=True, env=place.env(rita)
            )
            assert key not in done.stdout + done.stderr
            assert "(hidden)" in done.stdout
    place.api("DELETE", "sys/mounts/team-kv")


def test_policies_are_compared_rule_by_rule_and_deletions_field_by_field(place, rita):
    token = place.operator(guarded("sys/policies/acl/*"), guarded(ROLE))
    place.api("PUT", "sys/policies/acl/team", {"policy": free("a", "read")})
    text = free("a", "read") + "\n" + free("b", "update")
    seen = show(place, rita, sent(place, token, "sys/policies/acl/team", {"policy": text}, "PUT"))
    assert seen["changes"] == [{"field": 'path "b"', "before": None, "after": "update"}]
    seen = show(place, rita, sent(place, token, ROLE, None, "DELETE"))
    gone = {one["field"]: one for one in seen["changes"]}
    assert seen["operation"] == "delete"
    assert gone["role_ids"]["after"] is None
    assert gone["role_ids"]["before"]
    place.api("DELETE", "sys/policies/acl/team")


def test_what_changed_meanwhile_is_compared_with_what_is_live_now(place, rita):
    token = place.operator(guarded(CONFIG))
    version = place.config()["version"]
    accessor = sent(place, token, CONFIG, {"description": "theirs", "cas": version})
    assert show(place, rita, accessor)["warnings"] == []
    place.api("POST", CONFIG, {"description": "meanwhile"})
    seen = show(place, rita, accessor)
    assert seen["changes"] == [{"field": "description", "before": "meanwhile", "after": "theirs"}]
    assert [one["code"] for one in seen["warnings"]] == ["request-is-stale"]


def test_who_may_not_read_the_object_is_told_that_nothing_was_compared(place):
    accessor = sent(place, place.operator(guarded(CONFIG)), CONFIG, {"description": "x"})
    seen = show(place, place.approver, accessor)
    found = {one["code"] for one in seen["warnings"]}
    assert found == {"request-not-compared", "request-times-unknown"}
    assert (seen["ttl"], seen["changes"][0]["before"]) == (None, "(not read)")


def test_the_list_says_what_became_of_each_request(place, keep, tmp_path):
    token = place.operator(guarded(CONFIG), guarded("skyflow/purchase/config"))
    place.write(token, "one", *keep, check=7)
    words = ("config", "write", "purchase", "--description", "two", *keep)
    accessor = place.run(token, *words, check=7)["data"]["pending"]["accessor"]
    place.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    file = tmp_path / "pending.json"
    held = json.loads(file.read_text())
    held["requests"].append({**held["requests"][0], "cluster": "another"})
    file.write_text(json.dumps(held))
    listed = place.run(token, "approvals", "list", *keep)["data"]["requests"]
    assert [one["state"] for one in listed] == ["waiting", "gone", "of another server"]
    assert json.loads(file.read_text()) == held
    token_text = held["requests"][0]["token"]
    assert token_text not in json.dumps(listed) + place.told
