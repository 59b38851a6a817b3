"""``audit incident`` on a dev stack's real log, against what the test itself did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from support.audit_story import PAYMENT, Admin, App, Story, http_of, reads
from support.stack import Stack, running_stack

from skyflowctl.clock import parse_rfc3339

pytestmark = [pytest.mark.real_server, pytest.mark.timeout(180)]

ROLE, DATA_TOKEN = "payment-producer", "5479-4229-4622-1393"


class Place:
    """A stack on which a key was used, replaced and its mount cut off."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.story = Story(http_of(stack))
        admin = Admin(self.story.http, stack.exports["BAO_TOKEN"])
        admin.do("POST", "sys/auth/approle", {"type": "approle"})
        rules = reads(f"{PAYMENT}/creds/{ROLE}")
        rules += f'path "{PAYMENT}/sign/{ROLE}" {{ capabilities = ["update"] }}\n'
        admin.policy("payments", rules)
        self.app = admin.approle("payments", ["payments"])
        self.old = stack.json("status")["data"]["mounts"]
        self.key = next(one for one in self.old if one["path"] == PAYMENT)["credential"]["key_id"]
        self.asked = [self.story.ask(self.app, PAYMENT, ROLE, f"txn:PAY-{n}") for n in range(3)]
        self.wrapped = self.story.ask(self.app, PAYMENT, ROLE, "txn:PAY-9", wrap=True)
        self.story.unwrap(self.app, self.wrapped)
        self.signed = sign(self, self.app, "txn:PAY-1")
        self.rotate_run = stack.json("rotate", "payment", "--generate", "-y")["run_id"]
        self.later = self.story.ask(self.app, PAYMENT, ROLE, "txn:PAY-1")
        done = stack.json("config", "revoke", "payment", "--reason", "drill", "-y")
        self.revoke_run = done["run_id"]
        self.refused = self.story.ask(self.app, PAYMENT, ROLE, "txn:PAY-1")

    def incident(self, *words: str) -> dict[str, Any]:
        done = self.stack.cli("audit", "incident", "--dev", *words, "-o", "json")
        return json.loads(done.stdout)["data"]


def sign(place: Place, app: App, ctx: str) -> dict[str, Any]:
    body = {"ctx": ctx, "data_tokens": [DATA_TOKEN], "ttl": 90}
    status, answer = place.story.http.send(app.token, "POST", f"{PAYMENT}/sign/{ROLE}", body)
    assert status == 200, answer
    return answer


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_stack(apply=True) as stack:
        yield Place(stack)


def ids(data: dict[str, Any]) -> list[str]:
    return [one["request_id"] for one in data["tokens"] if one["app"] == "payments"]


def test_a_key_has_exactly_the_tokens_that_it_minted(place: Place):
    data = place.incident("--key-id", place.key)
    wanted = [*(one.request_id for one in place.asked), place.wrapped.request_id]
    found = {one["request_id"]: one for one in data["tokens"] if one["app"] == "payments"}
    known = [one for one in wanted if one]
    assert set(known) | {place.signed["request_id"]} <= set(found)
    assert len(found) == 5
    assert {one["kind"] for one in found.values()} == {"creds", "sign"}
    wrapped = [one for one in found.values() if one["wrapped"]]
    assert [one["unwrapped_by"] for one in wrapped] == ["payments"]
    assert place.later.request_id not in found


def test_its_end_and_the_runs_are_those_that_were_made(place: Place):
    data = place.incident("--key-id", place.key)
    (mount,) = [one for one in data["mounts"] if one["mount"] == PAYMENT]
    assert mount["ended_by"]["kind"] == "rotation-written"
    assert mount["ended_by"]["run_id"] == place.rotate_run
    runs = {one["run_id"] for one in data["actions"] if one["mount"] == PAYMENT}
    assert {place.rotate_run, place.revoke_run} <= runs
    assert place.incident("--app", "payments")["mounts"][0]["ended_by"]["run_id"] == (
        place.revoke_run
    )


def test_the_ends_are_those_that_the_callers_were_told(place: Place):
    data = place.incident("--key-id", place.key)
    by_id = {one["request_id"]: one for one in data["tokens"]}
    signed = by_id[place.signed["request_id"]]
    assert signed["alive_until"] == place.signed["data"]["expires_at"]
    for one in place.asked:
        row = by_id[one.request_id]
        assert row["alive_until_from"] == "expires_at"
        assert parse_rfc3339(row["alive_until"]) > parse_rfc3339(row["time"])
    (wrapped,) = [one for one in data["tokens"] if one["wrapped"]]
    alive = parse_rfc3339(wrapped["alive_until"]) - parse_rfc3339(wrapped["time"])
    assert timedelta(minutes=50) < alive <= timedelta(minutes=61)


def test_a_hashed_ctx_is_found_with_the_server_and_said_without(place: Place):
    data = place.incident("--ctx", "txn:PAY-1")
    mine = [one for one in data["tokens"] if one["app"] == "payments"]
    assert [one["kind"] for one in mine] == ["creds", "sign", "creds"]
    assert {one["outcome"]: one["count"] for one in data["attempts"]}["refused"] >= 1
    log = str(place.stack.audit_log)
    done = place.stack.cli("audit", "incident", log, "--ctx", "txn:PAY-1", "-o", "json")
    codes = {one["code"] for one in json.loads(done.stdout)["data"]["unknown"]}
    assert "hashed-ctx" in codes


def test_who_shows_the_signature_and_never_the_data_token(place: Place):
    for form in ("json", "csv", "ndjson", "table"):
        shown = place.stack.cli("audit", "who", "--dev", "--role", ROLE, "-o", form).stdout
        assert "sign" in shown
        assert DATA_TOKEN not in shown
    assert DATA_TOKEN not in place.stack.audit_log.read_text()
