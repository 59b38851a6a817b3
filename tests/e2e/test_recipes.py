"""The token sources of ``consumer manifest --for node|java|go``, against a server of the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.recipes import LANGUAGES, RunningRecipe, running_recipe
from support.scripted import Answer, ScriptedServer, Seen, scripted
from support.snippets import consumer, manifest

from skyflowctl.clock import rfc3339
from skyflowctl.operations.consumer_manifest.write import SnippetOptions, write_snippet

pytestmark = [pytest.mark.slow, pytest.mark.needs("node", "javac", "go")]

DENIED = Answer(403, {"errors": ["permission denied"]})


@dataclass
class Bench:
    """A recipe, and the server that it asks."""

    source: RunningRecipe
    server: ScriptedServer
    folder: Path

    def __post_init__(self) -> None:
        """Let the server answer by what is set here."""
        self.failures: list[Answer] = []
        self.login_failures: list[Answer] = []
        self.minutes = 60.0
        self.lease = 1200
        self.logins = self.reads = 0
        self.name = f"s{len(self.server.seen)}"
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self.server.script = self.answer

    def answer(self, seen: Seen) -> Answer:
        assert seen.method == "POST"
        body = json.loads(seen.body)
        if seen.path == "/v1/auth/approle/login":
            assert body == {"role_id": "role", "secret_id": "secret"}
            assert not seen.headers.get("x-vault-token")
            if self.login_failures:
                return self.login_failures.pop(0)
            self.logins += 1
            auth = {"client_token": f"{self.name}.{self.logins}", "lease_duration": self.lease}
            return Answer(200, {"lease_duration": 0, "data": None, "auth": auth})
        assert seen.path == "/v1/skyflow/order/creds/producer"
        if seen.headers["x-vault-token"] != f"{self.name}.{self.logins}":
            return DENIED
        self.reads += 1
        self.gate.wait(20)
        if self.failures:
            return self.failures.pop(0)
        ends = datetime.now(UTC) + timedelta(minutes=self.minutes)
        data = {"access_token": f"{body.get('ctx', '')}.{self.reads}", "expires_at": rfc3339(ends)}
        return Answer(200, {"lease_duration": 0, "data": data, "auth": None})


@pytest.fixture(scope="module", params=LANGUAGES)
def started(request, tmp_path_factory) -> Iterator[tuple[RunningRecipe, ScriptedServer, Path]]:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "role-id").write_text("role\n")
    (folder / "secret-id").write_text("secret\n")
    with scripted(Answer(500)) as server:
        wanted = SnippetOptions(request.param, ctx="order:nightly", address=server.address)
        text = write_snippet(manifest(), consumer("approle"), wanted).text
        text = text.replace("/etc/order-service/", f"{folder}/")
        with running_recipe(request.param, text, folder) as source:
            yield source, server, folder


@pytest.fixture
def bench(started) -> Iterator[Bench]:
    made = Bench(*started)
    made.source.tokens(f"first {made.name}")
    assert made.logins == 1  # the login of an earlier test was refused
    made.reads = 0
    yield made
    made.gate.set()


def test_equal_calls_share_one_request_and_its_token_is_kept(bench):
    bench.gate.clear()
    threading.Timer(0.5, bench.gate.set).start()
    assert bench.source.tokens(*["shared"] * 8) == ["shared.1"] * 8
    assert bench.source.tokens("shared", "", "other") == ["shared.1", *_of(bench)]
    assert (bench.reads, bench.logins) == (3, 1)


def _of(bench: Bench) -> list[str]:
    """The tokens of no ctx and of another one, which were asked for in any order."""
    bodies = [json.loads(one.body).get("ctx", "") for one in bench.server.seen[-2:]]
    return [f"{name}.{2 + bodies.index(name)}" for name in ("", "other")]


def test_a_token_is_read_again_when_less_than_five_minutes_are_left(bench):
    bench.minutes = 4.9
    assert bench.source.tokens("short") == ["short.1"]
    bench.minutes = 5.2
    assert bench.source.tokens("short") == ["short.2"]
    assert bench.source.tokens("short") == ["short.2"]


@pytest.mark.parametrize(
    "failure",
    [
        Answer(503, b"<html>"),
        Answer(429),
        Answer(500, {"errors": ["no leader"]}),
        Answer(drop=True),
    ],
    ids=["503", "429", "500", "closed"],
)
def test_a_failure_that_passes_is_tried_again(bench, failure):
    bench.failures = [failure, failure]
    name = f"passes {failure.status} {failure.drop}"
    assert bench.source.tokens(name, name) == [f"{name}.3"] * 2
    assert bench.logins == 1


@pytest.mark.parametrize(
    "failure",
    [
        Answer(400, {"errors": ["mount not configured"]}),
        Answer(502, {"errors": ["token service refused: 401 Unauthorized"]}),
    ],
    ids=["400", "502"],
)
def test_a_lasting_failure_is_told_to_every_caller_and_not_kept(bench, failure):
    bench.gate.clear()
    threading.Timer(0.5, bench.gate.set).start()
    bench.failures = [failure]
    name = f"lasts {failure.status}"
    first, second = bench.source.tokens(name, name)
    assert first == second
    assert first.startswith("error: ")
    assert bench.name not in first
    assert bench.reads == 1
    assert bench.source.tokens(name) == [f"{name}.2"]


def test_a_redirect_is_not_followed(bench):
    with scripted(Answer(200, {})) as elsewhere:
        bench.failures = [Answer(307, headers={"Location": f"{elsewhere.address}/v1/x"})]
        bench.source.tokens("redirected")
        assert elsewhere.seen == []
    assert bench.failures == []


def test_a_login_that_was_revoked_is_replaced_once_for_all_callers(bench):
    bench.failures = [DENIED]
    assert bench.source.tokens("revoked") == ["revoked.2"]
    assert bench.logins == 2


def test_what_a_new_login_may_not_read_either_is_an_error(bench):
    bench.failures = [DENIED, DENIED]
    (answer,) = bench.source.tokens("forbidden")
    assert answer.startswith("error: ")
    assert "permission denied" in answer
    assert (bench.reads, bench.logins) == (2, 2)


def test_a_login_is_made_again_before_it_ends(bench):
    bench.failures, bench.lease = [DENIED], -1  # it has ended when it arrives
    bench.source.tokens("with a login that ends at once")
    assert bench.logins == 2
    bench.lease = 1200
    assert bench.source.tokens("next") == ["next.3"]
    assert bench.logins == 3


def test_a_login_that_is_refused_is_an_error_and_one_that_passes_is_tried_again(bench):
    bench.failures, bench.login_failures = [DENIED], [Answer(503)]
    assert bench.source.tokens("again") == ["again.2"]
    bench.failures = [DENIED]
    bench.login_failures = [Answer(400, {"errors": ["invalid role or secret ID"]})]
    (answer,) = bench.source.tokens("no login")
    assert answer.startswith("error: ")
    assert "invalid role or secret ID" in answer
    assert "secret_id" not in answer


def test_it_gives_up_after_six_tries(bench):
    bench.failures = [Answer(503)] * 6
    assert bench.source.tokens("down")[0].startswith("error: ")
    assert bench.reads == 6


def test_its_memory_is_bounded(bench):
    for at in range(0, 1100, 20):
        bench.source.tokens(*(f"many {number}" for number in range(at, at + 20)))
    bench.reads = 0
    bench.source.tokens(*(f"many {number}" for number in range(20)))
    assert bench.reads == 20
