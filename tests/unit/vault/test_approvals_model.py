"""Random interleavings of requests, changes, approvals, expiry, and attempts to lift the guard.

Each walk ends at its first violation of: nothing is written unapproved, no request runs twice or
on an object that changed, and nothing is reported as done that is parked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from support.guarded_server import (
    APPROVER,
    ATTACKS,
    CONFIG,
    FREE,
    ROLE,
    GuardedServer,
    InProcessPool,
    Reply,
    guarded_policy,
)

from skyflowctl.errors import SkyflowctlError
from skyflowctl.operations.approvals import approve_request, refuse_approval, review_request
from skyflowctl.secret import Secret
from skyflowctl.vault import http_transport
from skyflowctl.vault.approving_transport import ApprovalPolicy, ApprovingTransport
from skyflowctl.vault.errors import OutcomeUnknownError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.pending_store import StoredRequest
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Request

FIRST_HOUR = datetime(2026, 1, 1, tzinfo=UTC)


class Store:
    """Keeps requests in memory."""

    kind = "file"

    def __init__(self) -> None:
        self.entries: list[StoredRequest] = []

    def load(self) -> list[StoredRequest]:
        return list(self.entries)

    def change(self, change: Callable[[list[StoredRequest]], list[StoredRequest]]) -> None:
        self.entries = change(list(self.entries))


class Walk:
    """One interleaving; ``run`` asserts after each step."""

    def __init__(self, seed: int, policy: str, transport: type[ApprovingTransport]) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a repeatable walk
        self.time = FIRST_HOUR
        self.transport = transport
        self.server = GuardedServer(lambda: (self.time - FIRST_HOUR).total_seconds())
        self.server.policies = {"operator": policy, "approver": APPROVER}
        self.server.groups["ops"] = ["rita", "rolf", "olga"]
        self.root = self.server.login("root", "root", entity="")
        self.olga = self.server.login("olga", "operator", "approver")
        self.others = {
            name: self.server.login(name, "approver", entity=entity)
            for name, entity in (("rita", "rita"), ("rolf", "rolf"), ("otto", "otto"), ("bot", ""))
        }
        self.store = Store()
        self.number = 0
        for path in (CONFIG, ROLE, FREE):
            self.by_root("POST", path, {"description": "first"})

    def by_root(self, method: str, path: str, body: dict[str, str]) -> Reply:
        return self.server.call(self.root, method, path, body)

    def over(self, token: str) -> ApprovingTransport:
        """A command's connection to the server."""
        self.number += 1
        target = Target("http://server", "", Secret(token), "flags", max_retries=0)
        return self.transport(
            target,
            run_id=f"run-{self.number}",
            policy=ApprovalPolicy(lambda _: self.store),
            now=lambda: self.time,
            sleep=lambda _: None,
        )

    def run(self) -> None:
        steps = {self.command: 6, self.approve: 8, self.attack: 2, self.change: 1, self.wait: 1,
                 self.unwrap: 1, self.end: 0.5}  # fmt: skip
        for step in self.random.choices([*steps], [*steps.values()], k=20):
            step()
            self.check_server()

    def command(self) -> None:
        """Olga's command writes one of few texts, so that the same request comes again."""
        path = self.random.choice((CONFIG, CONFIG, ROLE, FREE))
        text = self.random.choice(("one", "one", "one", "two"))
        body = {"description": text}
        if self.random.random() < 0.5:
            body["cas"] = self.server.objects.get(path, {}).get("version", 0)
        self.server.drops_next_unwrap = self.random.random() < 0.1
        before, pending = len(self.server.executed), ""
        over = self.over(self.olga)
        try:
            over.send(Request("POST", path, body=body, idempotent=True))
        except PendingError as error:
            assert self.server.executed[before:] == [], "it is pending and was written"
            pending = error.request.accessor
        except OutcomeUnknownError:
            pass  # it says that it does not know
        except SkyflowctlError:
            assert self.server.executed[before:] == [], "it failed and was written"
        else:
            live = self.server.objects.get(path, {}).get("description")
            assert live == text, f"it is done and {path} has {live}"
        finally:
            self.server.drops_next_unwrap = False
            over.close()
        held = {one.accessor for one in self.server.held.values()}
        assert pending in {"", *held}, "it is pending and not on the server"
        ran = self.server.executed[before:]
        assert not any(one.stale for one in ran), "it ran although its object had changed"

    def approve(self) -> None:
        """Somebody reviews a request of the mount, and approves it as the command does."""
        held = [one for one in self.server.held.values() if one.path.startswith("skyflow/")]
        if not held:
            return
        one = self.random.choice(held)
        name = self.random.choice(
            ("rita", "rita", "rita", "rolf", "rolf", "rolf", "otto", "bot", "olga")
        )
        over = self.over(self.others.get(name, self.olga))
        before = len(self.server.executed)
        try:
            gateway = Gateway(over)
            found = review_request(gateway, one.accessor)
            after = approve_request(gateway, found.held, refuse_approval(gateway, found))
            assert name in after.approvers, "it says approved and the server does not"
        except SkyflowctlError:
            pass
        finally:
            over.close()
        assert len(self.server.executed) == before, "an approval ran a request"

    def attack(self) -> None:
        """Olga sends what would lift the guard, or approves her own request past the command."""
        if self.random.random() < 0.2 and self.server.held:
            accessor = self.random.choice([*self.server.held.values()]).accessor
            body: dict[str, object] | None = {"accessor": accessor}
            self.server.call(self.olga, "POST", "sys/control-group/authorize", body)
            return
        method, path, body = self.random.choice(ATTACKS)
        self.server.call(self.olga, method, path, body)

    def change(self) -> None:
        path = self.random.choice((CONFIG, ROLE))
        self.by_root("POST", path, {"description": self.random.choice(("one", "mine"))})

    def wait(self) -> None:
        self.time += timedelta(minutes=self.random.choice((1, 20, 40)))

    def unwrap(self) -> None:
        """Olga runs a request before it is approved, with another client."""
        waiting = [key for key, one in self.server.held.items() if len(one.approvers) < 2]
        if waiting:
            body = {"token": self.random.choice(waiting)}
            self.server.call(self.olga, "POST", "sys/wrapping/unwrap", body)

    def end(self) -> None:
        """Olga's login ends, or she withdraws a request with another client."""
        if self.random.random() < 0.3:
            self.server.call(self.olga, "POST", "auth/token/revoke-self", None)
            self.olga = self.server.login("olga", "operator", "approver")
        elif self.server.held:
            self.server.call(
                self.random.choice([*self.server.held]), "POST", "auth/token/revoke-self", None
            )

    def check_server(self) -> None:
        ran = [one for one in self.server.executed if one.name != "root" and one.path != FREE]
        for one in ran:
            approvers = set(one.held.approvers) & {"rita", "rolf"} if one.held else set()
            assert len(approvers) == 2, f"unapproved: {one.method} {one.path}"
        accessors = [one.held.accessor for one in ran if one.held]
        assert len(accessors) == len(set(accessors)), "one request ran twice"


@pytest.fixture(scope="module")
def guards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return guarded_policy(tmp_path_factory.mktemp("manifest"))


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every transport reach the server of the walk that made it."""
    monkeypatch.setattr(
        http_transport, "TargetPool", lambda target, _: InProcessPool(_current[0].server, target)
    )


_current: list[Walk] = []


def walks(
    policy: str, number: int, transport: type[ApprovingTransport] = ApprovingTransport
) -> Iterator[Walk]:
    for seed in range(number):
        walk = Walk(seed, policy, transport)
        _current[:] = [walk]
        walk.run()
        yield walk


@pytest.mark.parametrize("number", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_nothing_is_written_unapproved_and_nothing_parked_is_done(guards: str, number: int) -> None:
    done = list(walks(guards, number))
    ran = sum(one.held is not None for walk in done for one in walk.server.executed)
    assert ran > number / 10  # approved requests do run


def guard_blocks(policy: str) -> list[str]:
    generated = policy.partition("\n\n")[0]
    return [f'path "{part}' for part in generated.split('path "')[1:]]


GUARDED = 14
"""The guarded paths; a removed one must be found by the walks."""


@pytest.mark.parametrize("number", range(GUARDED))
def test_a_guard_that_is_missing_is_found(guards: str, number: int) -> None:
    blocks = guard_blocks(guards)
    assert len(blocks) == GUARDED
    with pytest.raises(AssertionError, match="unapproved"):
        list(walks(guards.replace(blocks[number], "", 1), 100))


def test_a_guard_with_too_few_approvals_is_found(guards: str) -> None:
    with pytest.raises(AssertionError, match="unapproved"):
        list(walks(guards.replace("approvals = 2", "approvals = 1"), 100))


class Blind(ApprovingTransport):
    """Does not look whether the object changed."""

    def _has_changed(self, stored: StoredRequest) -> bool:
        return False


class Believing(ApprovingTransport):
    """Takes 200 for done."""

    def _parked(self, call, outcome):
        return outcome.reply


@pytest.mark.parametrize(
    ("client", "said"),
    [(Blind, "had changed"), (Believing, "it is done and")],
)
def test_a_client_that_is_careless_is_found(guards: str, client, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        list(walks(guards, 100, client))
