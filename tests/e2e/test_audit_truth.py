"""Every question of ``audit`` on a dev stack's real log, against what the test itself did.

Three applications, an operator and a rotation use the stack; a list of their requests is
kept meanwhile. The questions are asked of a copy of the log, so that their order, and what
they do to the server, does not matter.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.audit_story import ORDER, PAYMENT, PURCHASE, Admin, Asked
from support.audit_told import CTX, HOSTILE, OBJECT, OPERATOR, PLAIN, Told, use
from support.stack import running_stack

from skyflowctl.clock import parse_rfc3339

pytestmark = [pytest.mark.real_server, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with running_stack(apply=True) as stack:
        yield use(stack)


def same(rows: list[dict[str, Any]], wanted: list[Asked]) -> None:
    """The rows tell these requests, each once, in their order, and everything about them."""
    assert [(r["app"], r["auth"], r["mount"], r["role"], r["outcome"]) for r in rows] == [
        (one.app, one.auth, one.mount, one.role, one.outcome) for one in wanted
    ]
    for row, one in zip(rows, wanted, strict=True):
        assert row["claimed_app"] == one.claimed
        assert row["run_id"] == one.run_id
        assert row["wrapped"] == one.wrapped
        assert row["unwrapped_by"] == one.unwrapped_by
        assert row["remote_address"] == "127.0.0.1"
        if one.request_id:
            assert row["request_id"] == one.request_id
        if one.key_id:
            assert row["key_id"] == one.key_id


def times(rows: list[dict[str, Any]]) -> list[datetime]:
    return [parse_rfc3339(row["time"]) for row in rows]


def test_every_request_is_a_row_and_nothing_else_is(told: Told):
    rows = told.who()
    same(rows, told.story.asked)
    assert times(rows) == sorted(times(rows))
    assert len({row["request_id"] for row in rows}) == len(rows)
    for number, (row, one) in enumerate(zip(rows, told.story.asked, strict=True)):
        readable = readable_ctx(one, plain=number >= len(rows) - PLAIN)
        assert row["ctx_hashed"] == (one.ctx is not None and not readable)
        if readable:
            assert row["ctx"] == one.ctx
        else:
            assert (one.ctx is None) == (row["ctx"] is None) or "hmac-sha256:" in row["ctx"]


def readable_ctx(one: Asked, *, plain: bool) -> bool:
    """Whether the log has this ctx in plain: the server hashes the texts in an object always."""
    return plain and one.ctx is not None and not one.ctx.startswith("{")


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--mount", "payment"], lambda one: one.mount == PAYMENT),
        (["--mount", "p*", "--role", "*-producer"], lambda one: one.role.startswith("p") and one.role.endswith("-producer")),
        (["--mount", ORDER, "--mount", PURCHASE], lambda one: one.mount != PAYMENT),
        (["--role", "order-producer"], lambda one: one.role == "order-producer"),
        (["--role", "*-consumer-*"], lambda one: "-consumer-" in one.role),
        (["--app", "bob"], lambda one: one.app == "bob"),
        (["--app", "token-*"], lambda one: one.auth == "token"),
        (["--app", "mallory"], lambda _: False),
        (["--app", "order-service", "--outcome", "denied"], lambda one: one.mount == PURCHASE),
        (["--outcome", "refused"], lambda one: one.outcome == "refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_who_by_mount_role_app_and_outcome(told: Told, args: list[str], wanted):
    same(told.who(*args), told.story.those(wanted))


def test_who_by_time(told: Told):
    same(told.who("--until", told.halfway), told.story.asked[: told.halfway_at])
    same(told.who("--since", told.halfway), told.story.asked[told.halfway_at :])


def test_who_by_run(told: Told):
    same(told.who("--run", told.creds_run), told.story.those(lambda one: one.run_id is not None))
    assert told.who("--run", told.rotate_run) == []


def test_a_ctx_is_found_hashed_and_plain_when_the_server_is_named(told: Told):
    same(told.who("--ctx", CTX, server=True), told.story.those(lambda one: one.ctx == CTX))
    for ctx in (OBJECT, dict(reversed(OBJECT.items()))):
        rows = told.who("--ctx", json.dumps(ctx), server=True)
        same(rows, told.story.those(lambda one: one.role == "payment-consumer-settlement"))


def test_without_a_server_the_plain_ones_are_found_and_the_others_are_warned_of(told: Told):
    plain = told.story.asked[-PLAIN:]
    for ctx, warning in ((CTX, "could not be searched"), ("order:*", "a glob cannot find them")):
        done = told.run("audit", "who", str(told.log), "--ctx", ctx)
        fits = [one for one in plain if one.ctx == CTX or ("*" in ctx and "order:" in str(one.ctx))]
        same(json.loads(done.stdout)["data"]["requests"], fits)
        assert warning in done.stderr


def test_a_hash_is_found_without_a_server(told: Told):
    asked = told.stack.api("POST", "sys/audit-hash/file", {"input": CTX})["data"]["hash"]
    hashed = told.story.asked[:-PLAIN]
    same(told.who("--hashed", asked), [one for one in hashed if one.ctx == CTX])


def test_a_found_bearer_names_who_got_it(told: Told):
    got = told.story.those(lambda one: bool(one.bearer))
    chosen = [got[0], got[-1], *(one for one in got if one.wrapped or one.run_id)]
    for one in chosen:
        rows = told.who("--token", "-", server=True, stdin=f"Bearer {one.bearer}\n")
        same(rows, [one])
    other = got[0].bearer[:-4] + "AAAA"
    assert told.who("--token", "-", server=True, stdin=other) == []


def test_a_found_server_token_names_all_that_it_asked_for(told: Told):
    rows = told.who("--token", "-", server=True, stdin=told.bob.token)
    same(rows, told.story.those(lambda one: one.app == "bob"))


def test_no_token_is_shown_by_any_answer(told: Told):
    bearers = [one.bearer for one in told.story.asked if one.bearer]
    tokens = [app.token for app in (told.order_app, told.bob, told.tool)]
    for args in (("who", "-v"), ("report",), ("denied",)):
        shown = told.stack.cli("audit", *args, str(told.log)).stdout
        assert not [one for one in (*bearers, *tokens) if one in shown]


def test_denied_says_who_and_its_policy_lets_them_in(told: Told):
    found = told.envelope("audit", "denied", str(told.log))["data"]["denied"]
    turned = told.story.those(lambda one: one.outcome in {"denied", "refused"})
    assert Counter(
        (one["app"], one["mount"], one["role"], one["outcome"])
        for one in found
        for _ in range(one["count"])
    ) == Counter((one.app, one.mount, one.role, one.outcome) for one in turned)
    assert all(bool(one["policy"]) == (one["outcome"] == "denied") for one in found)
    reasons = {one["reason"] for one in found if one["outcome"] == "refused"}
    assert "the ctx is not of the form that the role wants" in reasons, "of the one in plain"
    admin = Admin(told.story.http, told.stack.exports["BAO_TOKEN"])
    ctx = {"order-producer": CTX, "purchase-producer": "cart:CART-7"}
    for number, one in enumerate(one for one in found if one["policy"]):
        admin.policy(f"missing-{number}", one["policy"])
        let_in = admin.plain_token("let-in", [f"missing-{number}"])
        path = f"{one['mount']}/creds/{one['role']}?ctx="
        assert told.story.http.send(let_in.token, "GET", path + ctx[one["role"]])[0] == 200
        assert told.story.http.send(let_in.token, "GET", path + "no:1")[0] == 403
        assert (
            told.story.http.send(let_in.token, "GET", f"{ORDER}/creds/order-consumer-support")[0]
            == 403
        )


def test_unused_is_what_gave_no_token(told: Told):
    logs = f"{told.log}*"
    data = told.envelope("audit", "unused", logs, "--days", "90", server=True)["data"]
    assert data["certain"]
    by_kind: dict[str, set[str]] = {"role": set(), "consumer": set(), "policy": set()}
    for one in data["unused"]:
        by_kind[one["kind"]].add(one["name"])
    gave = {f"{one.mount}/creds/{one.role}" for one in told.story.asked if one.outcome == "granted"}
    assert len(by_kind["role"]) == 10 - len(gave)
    assert gave.isdisjoint(by_kind["role"])
    assert by_kind["consumer"] >= {"sleeper"}
    assert by_kind["consumer"].isdisjoint({"order-service", "bob"})
    assert "idle" in by_kind["policy"]
    assert by_kind["policy"].isdisjoint({"order-service", "support", "payments"})
    short = told.run("audit", "unused", str(told.log), "--days", "90", server=True)
    assert not json.loads(short.stdout)["data"]["certain"]
    assert "not the 90 days" in " ".join(short.stderr.split())


def test_report_adds_up(told: Told):
    data = told.envelope("audit", "report", str(told.log))["data"]
    groups: dict[tuple[str, ...], list[Asked]] = {}
    for one in told.story.asked:
        groups.setdefault((one.mount, one.role, one.app, one.auth), []).append(one)
    usage = {(u["mount"], u["role"], u["app"], u["auth"]): u for u in data["usage"]}
    assert usage.keys() == groups.keys()
    plain = {id(one) for one in told.story.asked[-PLAIN:]}
    for key, asked in groups.items():
        outcomes = Counter(one.outcome for one in asked)
        found = usage[key]
        assert found["requests"] == len(asked)
        assert {
            name: found[name] for name in ("granted", "denied", "refused", "failed", "unknown")
        } == {
            name: outcomes[name] for name in ("granted", "denied", "refused", "failed", "unknown")
        }
        assert found["wrapped"] == sum(one.wrapped for one in asked)
        # Nobody can tell that a hash and a text are the same ctx.
        assert found["distinct_ctx"] == len(
            {(one.ctx, readable_ctx(one, plain=id(one) in plain)) for one in asked if one.ctx}
        )
    totals = data["totals"]
    assert (totals["requests"], totals["errors"], totals["wrapped"]) == (
        len(told.story.asked), len(told.story.those(lambda one: one.outcome != "granted")), 1,
    )  # fmt: skip
    assert data["counts"]["damaged"] == {}
    assert data["counts"]["unpaired"] == 0


def test_report_tells_every_change_of_a_credential(told: Told):
    every = told.envelope("audit", "report", str(told.log))["data"]["changes"]
    assert {one["kind"] for one in every} >= {"mount-enabled", "role-written", "policy-written"}
    kinds = ("write", "rotation-opened", "rotation-written", "rotation-committed", "rollback")
    changes = [one for one in every if one["kind"] in kinds]
    assert {(one["app"], one["auth"], one["outcome"]) for one in changes} == {
        (OPERATOR, "token", "granted")
    }
    written = [one for one in changes if one["kind"] == "write"]
    assert {one["mount"] for one in written} == {ORDER, PURCHASE, PAYMENT}
    chain = [one for one in changes if one["run_id"] == told.rotate_run]
    assert [(one["kind"], one["mount"], one["key_id"]) for one in chain] == [
        ("rotation-opened", PAYMENT, told.old_key),
        ("rotation-written", PAYMENT, told.new_key),
        ("rotation-committed", PAYMENT, told.new_key),
    ]
    assert len(changes) == len(written) + len(chain) == 6


def test_evidence_is_the_same_twice_and_its_sums_are_right(told: Told, tmp_path: Path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        told.stack.cli("audit", "report", str(told.log), "--evidence", str(folder))
    one, two = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
    assert one == two
    for line in one["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(one[name]).hexdigest() == digest
    inputs = json.loads(one["evidence.json"])["inputs"]
    assert [each["sha256"] for each in inputs] == [
        hashlib.sha256(told.log.read_bytes()).hexdigest()
    ]


def test_csv_and_html_hold_nothing_that_runs(told: Told, tmp_path: Path):
    rows = list(
        csv.DictReader(
            io.StringIO(told.stack.cli("audit", "who", str(told.log), "-o", "csv").stdout)
        )
    )
    assert len(rows) == len(told.story.asked)
    claims = [row["claimed_app"] for row in rows if row["claimed_app"]]
    assert claims == ["checkout", HOSTILE, "skyflowctl", "'=1+1"]
    page = tmp_path / "page.html"
    told.stack.cli("audit", "report", str(told.log), "--html", str(page))
    text = page.read_text()
    assert HOSTILE not in text
    assert "Content-Security-Policy" in text
    assert "token-nightly" in text


def test_tail_shows_the_newest(told: Told):
    done = told.stack.cli("audit", "tail", str(told.log), "-n", "5", "-o", "ndjson")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    rows = [line for line in lines if line["type"] == "request"]
    same(rows, told.story.asked[-5:])


def test_the_dev_stacks_log_needs_no_name(told: Told):
    done = told.stack.json("audit", "who", "--dev", "--run", told.creds_run)
    same(done["data"]["requests"], told.story.those(lambda one: one.run_id is not None))
