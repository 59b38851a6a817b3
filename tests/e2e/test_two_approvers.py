"""Changes of a mount that two persons approve, from the manifest to the mount, by commands alone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.approvals import Approvals, codes, free, running_approvals

from skyflowctl.vault.approvals import body_digest

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
REVIEWER = (
    free("sys/control-group/*"),
    free("auth/token/lookup-accessor", "update"),
    free("skyflow/*", "read"),
    free("sys/mounts/*", "read"),
)
GROUP = "control_groups: {payment: {approvers: [ops], approvals: 2, ttl: TTL}}\n"


class Team:
    """An operator whose changes of ``payment`` two approvers approve.

    Args:
        place: the server.
        file: the manifest.
        pending: where the operator's requests are stored.
    """

    def __init__(self, place: Approvals) -> None:
        self.place = place
        self.file = place.stack.folder / "mounts.yaml"
        self.plain = self.file.read_text()
        self.pending = place.stack.folder / "pending.json"
        place.user("olga", "operator")
        self.approvers = [place.operator(*REVIEWER, name=name) for name in ("rita", "rolf")]
        ids = [self.entity(one) for one in self.approvers]
        place.api("POST", "identity/group/name/ops", {"member_entity_ids": ids})
        self.operator = place.login("olga")

    def entity(self, token: str) -> str:
        found = self.place.api("GET", "auth/token/lookup-self", token=token)
        return str(found[1]["data"]["entity_id"])

    def root(self, *args: str) -> None:
        self.place.run(self.place.stack.exports["BAO_TOKEN"], *args)

    def guard(self, ttl: str = "1h") -> None:
        self.file.write_text(self.plain + GROUP.replace("TTL", ttl))
        self.root("apply", "-y")

    def describe(self, **texts: str) -> None:
        text = self.file.read_text()
        for mount, words in texts.items():
            text = re.sub(rf"(\n  {mount}:\n    description: ).*", rf"\g<1>{words}", text)
        self.file.write_text(text)

    def run(self, *args: str, check: int | None = 0) -> dict[str, Any]:
        return self.place.run(self.operator, *args, "--pending", str(self.pending), check=check)

    def stored(self) -> dict[str, str]:
        """What the operator's ``approvals list`` shows: accessors by path."""
        found = self.run("approvals", "list")["data"]["requests"]
        return {one["path"]: one["accessor"] for one in found}

    def approve(self, who: int, accessor: str, check: int = 0) -> dict[str, Any]:
        return self.place.run(
            self.approvers[who], "approvals", "approve", accessor, "-y", check=check
        )

    def approve_all(self) -> None:
        for accessor in self.stored().values():
            for who in (0, 1):
                self.approve(who, accessor)

    def live(self, mount: str = "payment") -> str:
        return str(self.place.config(mount)["description"])


@pytest.fixture(scope="module")
def shared() -> Iterator[Team]:
    with running_approvals() as place:
        yield Team(place)


@pytest.fixture
def team(shared: Team) -> Iterator[Team]:
    shared.guard()
    yield shared
    shared.place.withdraw_all()
    shared.pending.unlink(missing_ok=True)
    shared.guard()


def test_a_saved_plan_is_finished_by_the_same_command(team: Team) -> None:
    team.describe(payment="Payments, twice approved", order="Orders, free")
    plan = str(team.file.with_name("p.json"))
    team.place.run(team.operator, "plan", "--out", plan)
    first = team.run("apply", plan, check=7)
    assert (first["status"], set(codes(first))) == ("pending", {"approval-pending"})
    assert (team.live("order"), team.live()) == ("Orders, free", team.live())
    rounds = 0
    while waiting := team.stored():
        rounds += 1
        assert team.live() != "Payments, twice approved"
        for path, accessor in waiting.items():
            shown = team.place.run(team.approvers[0], "approvals", "show", accessor)["data"]
            assert (shown["path"], shown["approved"], shown["compared"]) == (path, False, True)
            assert team.approve(0, accessor)["data"]["approved"] is False
        again = team.run("apply", plan, check=7)  # one approval of two: nothing is sent
        assert (team.stored(), again["status"]) == (waiting, "pending")
        for accessor in waiting.values():
            assert team.approve(1, accessor)["data"]["approved"] is True
        done = team.run("apply", plan, check=None)
        assert rounds < 4, done
    assert (done["status"], team.live()) == ("ok", "Payments, twice approved")
    assert done["data"]["actions"][-1]["sent_by_run"] != done["run_id"]
    assert team.place.run(team.operator, "plan")["data"]["actions"] == []
    assert codes(team.run("apply", plan, check=5)) == ["plan-outdated"]


def test_several_requests_of_one_apply_are_approved_in_any_order(team: Team) -> None:
    names = team.place.api("LIST", "skyflow/payment/roles")[1]["data"]["keys"]
    roles = sorted(f"skyflow/payment/roles/{name}" for name in names)
    for role in roles:
        team.place.api("DELETE", role)
    team.describe(payment="Payments again")
    plan = str(team.file.with_name("p.json"))
    team.place.run(team.operator, "plan", "--out", plan)
    seen: list[list[str]] = []
    while (done := team.run("apply", plan, check=None))["status"] == "pending":
        waiting = team.stored()
        seen.append(sorted(waiting))
        for accessor in reversed(waiting.values()):
            team.approve(1, accessor)
            team.approve(0, accessor)
    assert (done["status"], team.live()) == ("ok", "Payments again")
    assert seen == [["sys/mounts/skyflow/payment/tune"], roles, ["skyflow/payment/config"]]
    assert len(roles) > 1
    assert [team.place.api("GET", role)[0] for role in roles] == [200] * len(roles)
    assert team.stored() == {}


def sent(team: Team, text: str) -> str:
    """Have the operator send a change of the config; return its accessor."""
    words = ("config", "write", "payment", "--description", text)
    return str(team.run(*words, check=7)["data"]["pending"]["accessor"])


def test_the_requester_approves_nothing(team: Team) -> None:
    accessor = sent(team, "by myself")
    told = team.place.run(team.operator, "approvals", "approve", accessor, "-y", check=5)
    assert codes(told) == ["self-approval"]
    team.approve(0, accessor)
    told = team.approve(0, accessor, check=5)
    assert codes(told) == ["approval-refused"]
    assert codes(team.run("config", "write", "payment", "--description", "by myself", check=7))
    assert team.live() != "by myself"


def test_a_stale_request_is_not_approved_and_never_runs(team: Team) -> None:
    accessor = sent(team, "stale")
    team.root("config", "write", "payment", "--description", "meanwhile")
    told = team.approve(0, accessor, check=5)
    assert codes(told) == ["request-is-stale"]
    body = {"accessor": accessor}
    for token in team.approvers:  # by another client than ours
        team.place.api("POST", "sys/control-group/authorize", body, token=token)
    told = team.run("config", "write", "payment", "--description", "stale", check=5)
    assert (codes(told), team.live()) == (["changed-meanwhile"], "meanwhile")


def test_a_changed_manifest_does_not_use_an_approval_of_another_change(team: Team) -> None:
    first = sent(team, "reviewed")
    for who in (0, 1):
        team.approve(who, first)
    assert sent(team, "not reviewed") != first
    assert team.live() not in {"reviewed", "not reviewed"}
    assert codes(team.approve(0, first, check=64)) == ["no-such-request"]  # it was withdrawn


def test_an_expired_request_is_sent_anew_and_must_be_approved_again(team: Team) -> None:
    team.guard(ttl="2s")
    first = sent(team, "late")
    deadline = time.monotonic() + 20
    while team.place.request(first)[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert codes(team.approve(0, first, check=64)) == ["no-such-request"]
    assert sent(team, "late") != first
    assert team.live() != "late"


def test_a_tampered_or_expired_plan_sends_nothing(team: Team) -> None:
    team.describe(payment="Payments, planned")
    plan = team.file.with_name("p.json")
    team.place.run(team.operator, "plan", "--out", str(plan))
    good = plan.read_text()
    for change, code in (
        ({"expires_at": "2020-01-01T00:00:00Z"}, "plan-expired"),
        ({"actions": []}, "plan-outdated"),
        (
            {"untouched_sha256": "0" * 64, "actions": json.loads(good)["actions"][:1]},
            "plan-outdated",
        ),
    ):
        rest = {**json.loads(good), **change}
        rest.pop("sha256")
        plan.write_text(json.dumps({**rest, "sha256": body_digest(rest)}))
        assert codes(team.run("apply", str(plan), check=5)) == [code]
    plan.write_text(good.replace("Payments, planned", "Payments, taken"))
    assert codes(team.run("apply", str(plan), check=5)) == ["plan-changed"]
    assert team.stored() == {}
