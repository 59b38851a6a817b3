"""The server of the model test answers as OpenBao does, step by step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from support.approvals import Approvals
from support.guarded_server import (
    APPROVER,
    ATTACKS,
    CONFIG,
    ROLE,
    GuardedServer,
    Reply,
    guarded_policy,
)

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
MERGE = {"Content-Type": "application/merge-patch+json"}


class Pair:
    """OpenBao and the model, asked the same; tokens and accessors are kept side by side."""

    def __init__(self, place: Approvals, policy: str) -> None:
        self.place, self.model = place, GuardedServer(lambda: 0.0)
        self.model.policies = {"operator": policy, "approver": APPROVER}
        for name, text in self.model.policies.items():
            assert place.api("PUT", f"sys/policies/acl/{name}", {"policy": text})[0] == 204
        self.tokens = {"root": (place.stack.exports["BAO_TOKEN"], self.model.login("root", "root"))}
        for name in ("olga", "rita", "rolf", "otto"):
            place.user(name, *self.policies_of(name))
            self.log_in(name)
        made = place.api("POST", "auth/token/create", {"policies": ["approver"]})[1]
        bot = self.model.login("bot", "approver", entity="")
        self.tokens["bot"] = (made["auth"]["client_token"], bot)
        ids = [self.entity(name) for name in ("rita", "rolf", "olga")]
        place.api("POST", "identity/group/name/ops", {"member_entity_ids": ids})
        self.model.groups["ops"] = ["rita", "rolf", "olga"]

    @staticmethod
    def policies_of(name: str) -> tuple[str, ...]:
        return ("operator", "approver") if name == "olga" else ("approver",)

    def log_in(self, name: str) -> None:
        model = self.model.login(name, *self.policies_of(name))
        self.tokens[name] = (self.place.login(name), model)

    def entity(self, name: str) -> str:
        found = self.place.api("GET", "auth/token/lookup-self", token=self.tokens[name][0])
        return str(found[1]["data"]["entity_id"])

    def ask(self, name: str, method: str, path: str, *bodies: Any) -> tuple[Reply, Reply]:
        """Send a request to both; ``bodies``: one for both, or one for each."""
        of_real, of_model = (*bodies, *bodies)[:2] if bodies else (None, None)
        real, model = self.tokens[name]
        headers = MERGE if method == "PATCH" else {}
        return (
            self.place.api(method, path, of_real, token=real, headers=headers),
            self.model.call(model, method, path, of_model),
        )

    def same(self, name: str, method: str, path: str, *bodies: Any) -> tuple[Reply, Reply]:
        """Send a request to both, which answer alike."""
        real, model = self.ask(name, method, path, *bodies)
        assert seen(real) == seen(model), (name, method, path, bodies, real)
        return real, model


def seen(answer: Reply) -> tuple[str, Any]:
    """What a client tells apart in an answer."""
    status, body = answer
    if (body.get("wrap_info") or {}).get("token"):
        return "parked", None
    approved = (body.get("data") or {}).get("approved")
    return ("done" if status < 300 else str(status)), approved


@pytest.fixture(scope="module")
def pair(approvals: Approvals, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield Pair(approvals, guarded_policy(tmp_path_factory.mktemp("manifest")))
    approvals.withdraw_all()
    approvals.api("DELETE", "sys/policies/acl/operator")
    approvals.set_up()  # the group and the policy that the other tests expect


def test_what_would_lift_the_guard_is_parked_or_refused_alike(pair: Pair) -> None:
    for method, path, body in ATTACKS:
        real, _ = pair.same("olga", method, path, *([body] if body else []))
        assert seen(real)[0] in {"parked", "403"}, path


@pytest.mark.parametrize("seed", [1, 2])
def test_requests_approvals_and_their_ends_go_alike(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable walk
    held: list[tuple[dict[str, str], dict[str, str]]] = []

    def write() -> None:
        path = chance.choice((CONFIG, ROLE))
        real, model = pair.same("olga", "POST", path, {"description": chance.choice("abc")})
        held.append((real[1]["wrap_info"], model[1]["wrap_info"]))

    def ask(verb: str, name: str) -> None:
        bodies = [{"accessor": one["accessor"]} for one in chance.choice(held)]
        pair.same(name, "POST", f"sys/control-group/{verb}", *bodies)

    def approve() -> None:
        ask("authorize", chance.choice(("rita", "rita", "rolf", "rolf", "otto", "bot", "olga")))

    def unwrap() -> None:
        verb, who = chance.choice(("unwrap", "lookup")), chance.choice(("olga", "rita"))
        pair.same(
            who,
            "POST",
            f"sys/wrapping/{verb}",
            *[{"token": one["token"]} for one in chance.choice(held)],
        )

    def end() -> None:
        real, model = (one["token"] for one in chance.choice(held))
        answer = pair.place.api("POST", "auth/token/revoke-self", token=real)
        assert seen(answer) == seen(pair.model.call(model, "POST", "auth/token/revoke-self", None))

    write()
    steps = {write: 1, approve: 8, unwrap: 4, end: 0.3, lambda: ask("request", "rita"): 2}
    for step in chance.choices([*steps], [*steps.values()], k=120):
        step()
        live = pair.place.config("payment")["description"]
        assert live == pair.model.objects.get(CONFIG, {}).get("description", live)
    assert any(one.held for one in pair.model.executed)


def test_a_login_that_ended_runs_nothing_and_a_cas_counts_at_the_unwrap(pair: Pair) -> None:
    versions = [pair.place.config("payment")["version"], 1]
    pair.model.objects[CONFIG] = {"version": 1}
    bodies = [{"description": "late", "cas": one} for one in versions]
    real, model = pair.same("olga", "POST", CONFIG, *bodies)
    infos = real[1]["wrap_info"], model[1]["wrap_info"]
    for name in ("rita", "rolf"):
        path = "sys/control-group/authorize"
        pair.same(name, "POST", path, *[{"accessor": one["accessor"]} for one in infos])
    pair.same("root", "POST", CONFIG, {"description": "moved"})
    tokens = [{"token": one["token"]} for one in infos]
    real, _ = pair.same("olga", "POST", "sys/wrapping/unwrap", *tokens)
    assert real[0] == 409
    pair.same("olga", "POST", "auth/token/revoke-self")
    pair.log_in("olga")
    real, _ = pair.same("rita", "POST", "sys/wrapping/unwrap", *tokens)
    assert real[0] == 403
