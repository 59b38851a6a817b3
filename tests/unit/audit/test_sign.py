"""Requests for signed data tokens beside those for bearers, in every command that shows rows."""

from __future__ import annotations

import csv
import io
import json

import pytest
from support.audit_logs import ROOT, Story, approle, hashed, userpass, written
from support.cli import checked_data, invoke

from skyflowctl.audit.denied import CtxWords, missing_policy
from skyflowctl.planner.desired import SIGN_PARAMETERS

DATA_TOKEN = "5479-4229-4622-1393"


def story(*, plain_ctx: bool = False) -> Story:
    told = Story(plain_ctx=plain_ctx)
    orders, bob = told.login(approle("orders")), told.login(userpass("bob"))
    told.creds(orders, "order:1")
    told.sign(orders, "order:1", data_tokens=(DATA_TOKEN,))
    told.sign(bob, "order:2", outcome="denied")
    told.sign(orders, "order:3", outcome="refused")
    told.sign(orders, "order:1", answered=False)
    told.sign(orders, "order:4", role="sign-only", data_tokens=(DATA_TOKEN,) * 64)
    told.pair(ROOT, "list", "skyflow/order/sign", mount=("skyflow/order/", "skyflow"))
    return told


@pytest.fixture
def log(tmp_path):
    return written(tmp_path, "audit.log", story().device())


def who(*words: str) -> list[dict[str, object]]:
    return checked_data(invoke("audit", "who", *words, "-o", "json").stdout)["requests"]


def test_a_signature_is_a_row_of_its_own_kind(log):
    rows = [(one["kind"], one["role"], one["app"], one["outcome"]) for one in who(log)]
    assert rows == [
        ("creds", "order-producer", "orders", "granted"),
        ("sign", "order-producer", "orders", "granted"),
        ("sign", "order-producer", "bob", "denied"),
        ("sign", "order-producer", "orders", "refused"),
        ("sign", "order-producer", "orders", "unknown"),
        ("sign", "sign-only", "orders", "granted"),
    ]
    granted = who(log)[1]
    assert (granted["ctx"], granted["ctx_hashed"]) == (hashed("order:1"), True)
    assert granted["key_id"] == "k1"


def test_a_signature_is_found_by_its_ctx_and_its_role(tmp_path):
    plain = written(tmp_path, "plain.log", story(plain_ctx=True).device())
    assert [one["kind"] for one in who(plain, "--ctx", "order:1")] == ["creds", "sign", "sign"]
    assert [one["role"] for one in who(plain, "--role", "sign-only")] == ["sign-only"]
    assert len(who(plain, "--hashed", hashed("order:4"))) == 0


def test_no_form_shows_a_data_token(log):
    for words in (["-v"], ["-o", "json"], ["-o", "ndjson"], ["-o", "csv"], []):
        shown = invoke("audit", "who", log, *words).stdout
        assert DATA_TOKEN not in shown
        assert hashed(DATA_TOKEN) not in shown
        assert hashed(f"signed_token_{DATA_TOKEN}") not in shown


def test_the_table_and_the_details_name_the_path(log):
    table = invoke("audit", "who", log).stdout
    assert "sign/order-producer" in table
    assert "signed" in table
    assert "skyflow/order/sign/sign-only" in invoke("audit", "who", log, "-v").stdout
    cells = list(csv.DictReader(io.StringIO(invoke("audit", "who", log, "-o", "csv").stdout)))
    assert [one["kind"] for one in cells][:2] == ["creds", "sign"]


def test_tail_shows_them(log):
    lines = invoke("audit", "tail", log, "-o", "ndjson").stdout.splitlines()
    kinds = [one.get("kind") for one in map(json.loads, lines) if one["type"] == "request"]
    assert kinds == ["creds", "sign", "sign", "sign", "sign", "sign"]


def test_a_denied_signature_has_the_policy_of_its_path(log):
    groups = checked_data(invoke("audit", "denied", log, "-o", "json").stdout)["denied"]
    denied = next(one for one in groups if one["outcome"] == "denied")
    assert denied["kind"] == "sign"
    assert denied["policy"].startswith('path "skyflow/order/sign/order-producer" {')
    assert 'capabilities = ["update"]' in denied["policy"]
    assert "update skyflow/order/sign/order-producer" in " ".join(
        invoke("audit", "denied", log).stdout.split()
    )


def test_the_policy_of_a_signature_allows_what_a_request_to_sign_has():
    rule = CtxWords(required=True, pattern="order:*")
    policy = missing_policy("skyflow/order", "r", "update", rule, path="sign")
    assert policy is not None
    for name in SIGN_PARAMETERS:
        assert f'"{name}" = []' in policy
    assert "data_tokens" not in str(missing_policy("skyflow/order", "r", "update", rule))


def test_a_signature_is_a_use(tmp_path):
    told = story()
    told.wait(hours=5)
    told.creds(told.login(userpass("bob")), "order:1")
    log = written(tmp_path, "audit.log", told.device())
    data = checked_data(invoke("audit", "unused", log, "--days", "1h", "-o", "json").stdout)
    times = {one["name"]: one["last_used"] for one in data["unused"] if one["kind"] == "role"}
    assert times["skyflow/order/creds/sign-only"].startswith("2026-11-22T18:00:00")


def test_the_report_counts_signatures_among_the_requests(log):
    data = checked_data(invoke("audit", "report", log, "-o", "json").stdout)
    rows = {(one["role"], one["app"]): one for one in data["usage"]}
    producer = rows["order-producer", "orders"]
    assert (producer["requests"], producer["signed"], producer["granted"]) == (4, 3, 2)
    assert (rows["sign-only", "orders"]["requests"], rows["sign-only", "orders"]["signed"]) == (
        1,
        1,
    )
    assert (data["totals"]["requests"], data["totals"]["signed"]) == (6, 5)
    assert "SIGN" in invoke("audit", "report", log, env={"COLUMNS": "200"}).stdout


def test_an_execution_after_approval_is_told_apart(tmp_path):
    told = Story()
    orders = told.login(approle("orders"))
    parked = {"wrap_info": {"ttl": 60, "token": "", "accessor": ""}}
    first = told.sign(orders, "order:1", outcome="failed", answered=True)
    assert first
    path, mount = "skyflow/order/sign/order-producer", ("skyflow/order/", "skyflow")
    request = told.pair(orders, "update", path, mount=mount, response=parked)
    told.wait(minutes=5)
    told.sign(orders, "order:1", request_id=request)
    told.sign(orders, "order:1", request_id=request)
    log = written(tmp_path, "audit.log", told.device())
    rows = [one for one in who(log) if one["request_id"] == request]
    assert [one["outcome"] for one in rows] == ["pending", "granted", "granted"]
    assert {one["kind"] for one in rows} == {"sign"}
