"""1,000 pods for one hour of simulated time: how often the engine mints, with and without reuse.

Every pod is a token source of its own with the real cache; the engine is the real one. Between
them are no sockets, and the test is the pods' background worker: so an hour takes seconds. All
pods have one login, as those of one Kubernetes service account: one entity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.engine import Bench, FrozenClock, ScriptedTokenService
from support.keys import unsigned_token

from skyflowctl.client import FixedToken, TokenSource
from skyflowctl.client.connections import ServerRequest
from skyflowctl.client.values import SystemTime
from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import Exchange

PODS, MINUTES = 1_000, 60
ALLOWED = 1_100
CONTEXTS = 10
"""How many values of ctx the pods have in common."""


class HourTime(SystemTime):
    """The engine's clock, for the pods."""

    def __init__(self, clock: FrozenClock) -> None:
        self._clock = clock

    def wall(self) -> float:
        return self._clock.monotonic()

    def monotonic(self) -> float:
        return self._clock.monotonic()


class HourTokens(ScriptedTokenService):
    """Mints tokens of one hour by the simulated clock."""

    clock: FrozenClock

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        self.scopes.append(scope)
        ends = int(self.clock.monotonic()) + 3600
        return Exchange(Secret(unsigned_token(exp=ends)), "Bearer", "req")


@dataclass
class Deployment:
    """The engine, and the pods that read from it."""

    bench: Bench
    loop: asyncio.AbstractEventLoop
    pods: list[TokenSource] = field(default_factory=list)

    def call(self, request: ServerRequest) -> Mapping[str, Any]:
        """Answer a pod's request, as its session would."""
        query = {name: text.reveal() for name, text in request.params.items()}
        path = request.path.removeprefix("skyflow/order/")
        asked = self.bench.call("read", path, query, entity_id="entity-of-the-pods")
        return self.loop.run_until_complete(asked).data

    def close(self) -> None:
        """A pod ends."""

    def start_pod(self) -> None:
        """Start a pod; this test is its worker, so it starts no thread."""
        pod = TokenSource(
            FixedToken("unused"), server="http://127.0.0.1:1", clock=HourTime(self.bench.clock)
        )
        pod._session = self
        pod._cache._wake = lambda: None
        self.pods.append(pod)

    def hour(self) -> int:
        """Let an hour pass, in which every pod asks each minute; return the mints."""
        minted = len(self.bench.tokens.scopes)
        for minute in range(MINUTES):
            if minute < 5:  # a rolling start
                for _ in range(PODS // 5):
                    self.start_pod()
            for number, pod in enumerate(self.pods):
                token = pod.token("skyflow/order", "r1", ctx=f"order:{number % CONTEXTS}")
                assert token.seconds_left() >= 300
                while pod._cache.work_once():
                    """Renew what is due."""
            self.bench.clock.pass_seconds(60)
        return len(self.bench.tokens.scopes) - minted


@pytest.fixture
def deployment():
    tokens = HourTokens()
    bench = Bench(tokens=tokens)
    tokens.clock = bench.clock
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bench.configured("skyflow-role-order-prod"))
    made = Deployment(bench, loop)
    yield made
    for pod in made.pods:
        pod.close()
    loop.close()


@pytest.mark.parametrize("per", ["entity", "role"])
def test_with_reuse_the_mints_do_not_grow_with_the_pods(deployment: Deployment, per: str):
    role = {"reuse_min_ttl": "30m", "reuse_per": per}
    deployment.loop.run_until_complete(deployment.bench.write("roles/r1", **role))
    mints = deployment.hour()
    assert len(deployment.pods) == PODS
    assert mints <= 3 * CONTEXTS <= ALLOWED


def test_without_reuse_every_pod_mints_for_itself(deployment: Deployment):
    """Once, and again with 20 minutes left: more than 1,100, which only reuse keeps."""
    mints = deployment.hour()
    assert ALLOWED < mints <= 2 * PODS
