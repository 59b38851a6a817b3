"""``audit incident``: every token of a key, an app or a ctx, what was done since, what is unknown."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from support.audit_logs import ROOT, Hashed, Story, approle, hashed, userpass, written
from support.cli import checked_data, invoke

OLD, NEW = "k1-0f5b9a7c", "k2-77aa01de"
ORDERS, BOB = approle("orders"), userpass("bob")
CUT_OFF = {"reason": "found in a repository", "run": "run-revoke"}


def story() -> Story:
    """Two mounts with one key: one is rotated, the other is cut off and asked again."""
    told = Story(plain_ctx=True)
    told.login(ORDERS)
    told.login(BOB)
    told.creds(ORDERS, "order:1", key_id=OLD)
    told.sign(ORDERS, "order:2", key_id=OLD, ttl=90)
    told.creds(BOB, "order:3", key_id=OLD, mount="skyflow/payment")
    told.creds(BOB, "order:4", outcome="denied")
    told.creds(ORDERS, "order:5", wrap="w1")
    told.unwrap("w1", "b9", by=BOB)
    told.creds(ORDERS, "order:6", wrap="w2")
    told.rotation(to=NEW, run="run-rotate")
    told.wait(minutes=1)
    told.creds(ORDERS, "order:7", key_id=NEW)
    told.creds(ORDERS, "order:8", wrap="w3")
    told.config(CUT_OFF, operation="delete", mount="skyflow/payment", key_id="", run="run-revoke")
    told.wait(minutes=1)
    told.creds(BOB, "order:9", mount="skyflow/payment", outcome="refused")
    told.creds(ORDERS, "order:1", key_id=NEW, outcome="unknown")
    return told


@pytest.fixture
def log(tmp_path):
    return written(tmp_path, "audit.log", story().device())


def incident(*words: str) -> dict:
    return checked_data(invoke("audit", "incident", *words, "-o", "json").stdout)


def asked(data: dict) -> list[tuple]:
    return [(one["mount"], one["kind"], one["app"], one["ctx"]) for one in data["tokens"]]


def codes(data: dict) -> set[str]:
    return {one["code"] for one in data["unknown"]}


def test_a_key_has_every_token_that_it_minted(log):
    data = incident(log, "--key-id", OLD)
    assert asked(data) == [
        ("skyflow/order", "creds", "orders", "order:1"),
        ("skyflow/order", "sign", "orders", "order:2"),
        ("skyflow/payment", "creds", "bob", "order:3"),
        ("skyflow/order", "creds", "orders", "order:5"),
        ("skyflow/order", "creds", "orders", "order:6"),
    ]
    assert [one["key_inferred"] for one in data["tokens"]] == [False, False, False, True, True]
    assert data["tokens"][3]["unwrapped_by"] == "bob"
    assert data["summary"]["tokens"] == 5
    assert data["summary"]["signatures"] == 1
    assert {"not-opened", "wrapped-key", "outside", "use", "log-start"} <= codes(data)


def test_a_key_ends_with_the_change_that_replaced_or_destroyed_it(log):
    data = incident(log, "--key-id", OLD)
    ended = {one["mount"]: one["ended_by"] for one in data["mounts"]}
    assert (ended["skyflow/order"]["kind"], ended["skyflow/order"]["run_id"]) == (
        "rotation-written",
        "run-rotate",
    )
    assert (ended["skyflow/payment"]["kind"], ended["skyflow/payment"]["run_id"]) == (
        "revoked",
        "run-revoke",
    )
    assert [one["after_end"] for one in data["mounts"]] == [0, 0]
    kinds = [(one["kind"], one["run_id"]) for one in data["actions"]]
    assert kinds == [
        ("rotation-opened", "run-rotate"),
        ("rotation-written", "run-rotate"),
        ("rotation-committed", "run-rotate"),
        ("revoked", "run-revoke"),
    ]


def test_a_key_that_a_rollback_made_live_again_has_not_ended(tmp_path):
    told = story()
    told.config({"credential_version": 1}, path="config/rollback", key_id=OLD, run="run-back")
    told.creds(ORDERS, "order:1", key_id=OLD)
    data = incident(written(tmp_path, "audit.log", told.device()), "--key-id", OLD)
    mounts = {one["mount"]: one for one in data["mounts"]}
    assert mounts["skyflow/order"]["ended_by"] is None
    assert mounts["skyflow/order"]["tokens"] == 5


def test_tokens_after_the_end_are_counted(tmp_path):
    told = story()
    told.creds(ORDERS, "order:1", key_id=OLD)
    data = incident(written(tmp_path, "audit.log", told.device()), "--key-id", OLD)
    assert {one["mount"]: one["after_end"] for one in data["mounts"]}["skyflow/order"] == 1


def test_the_end_of_each_token_and_where_it_comes_from(tmp_path):
    told = Story(plain_ctx=True)
    told.login(ORDERS)
    told.creds(ORDERS, "order:1", key_id=OLD)
    told.sign(ORDERS, "order:2", key_id=OLD, ttl=90)
    path, mount = "skyflow/order/creds/order-producer", ("skyflow/order/", "skyflow")
    answer = {"access_token": Hashed("b"), "expires_at": Hashed("x"), "key_id": OLD, "ttl": 3599}
    told.pair(ORDERS, "read", path, mount=mount, response={"data": answer})
    at = told.now - timedelta(milliseconds=3)
    told.pair(ORDERS, "read", path, mount=mount, response={"data": {**answer, "ttl": "x"}})
    data = incident(written(tmp_path, "audit.log", told.device()), "--key-id", OLD)
    ends = [(one["alive_until"], one["alive_until_from"]) for one in data["tokens"]]
    assert ends[0] == ("2026-11-22T19:44:11Z", "expires_at")
    assert ends[1][1] == "expires_at"
    assert ends[2][1] == "ttl"
    assert ends[2][0].startswith((at + timedelta(seconds=3599)).isoformat()[:19])
    assert ends[3] == (None, None)
    assert data["summary"]["alive_until"] == "2026-11-22T19:44:11Z"
    assert data["summary"]["end_unknown"] == 1
    assert "no-end" in codes(data)


def test_an_app_has_its_tokens_and_its_attempts(log):
    data = incident(log, "--app", "bob")
    assert asked(data) == [("skyflow/payment", "creds", "bob", "order:3")]
    assert {one["outcome"]: one["count"] for one in data["attempts"]} == {
        "denied": 1,
        "refused": 1,
    }
    assert [one["ended_by"]["kind"] for one in data["mounts"]] == ["revoked"]


def test_a_request_without_an_answer_may_have_got_a_token(log):
    data = incident(log, "--ctx", "order:1")
    assert [one["outcome"] for one in data["tokens"]] == ["granted", "unknown"]
    assert "no-answer" in codes(data)


def test_a_key_s_requests_without_an_answer_are_named_as_not_known(log):
    assert "no-answer-no-key" in codes(incident(log, "--key-id", OLD))
    assert "no-answer-no-key" not in codes(incident(log, "--ctx", "order:1"))


def test_a_wrapped_token_from_before_the_key_was_live_is_not_of_it(tmp_path):
    told = Story(plain_ctx=True)
    told.login(ORDERS)
    told.creds(ORDERS, "order:1", wrap="w1")
    told.rotation(to=NEW, run="run-rotate")
    told.wait(minutes=1)
    told.creds(ORDERS, "order:2", key_id=NEW)
    log = written(tmp_path, "audit.log", told.device())
    data = incident(log, "--key-id", NEW)
    assert [one["ctx"] for one in data["tokens"]] == ["order:2"]
    assert "wrapped-key" in codes(data)


def test_a_rotation_ends_no_app(log):
    data = incident(log, "--app", "orders")
    assert [(one["mount"], one["ended_by"]) for one in data["mounts"]] == [("skyflow/order", None)]


def test_the_range_is_of_tokens_and_not_of_changes(log):
    data = incident(log, "--key-id", OLD, "--to", "2026-11-22T18:00:01Z")
    assert data["summary"]["tokens"] == 5
    assert [one["kind"] for one in data["actions"]][-1] == "revoked"
    later = incident(log, "--key-id", OLD, "--from", "2026-11-22T18:00:30Z")
    assert later["summary"]["tokens"] == 0
    assert later["certain"]


def test_every_execution_of_a_parked_request_is_a_token(tmp_path):
    told = Story(plain_ctx=True)
    otto = userpass("otto")
    told.login(BOB)
    told.login(otto)
    info = {"ttl": 3600, "token": Hashed("s.parked"), "accessor": Hashed("accessor-1")}
    path, mount = "skyflow/order/creds/order-producer", ("skyflow/order/", "skyflow")
    parked = told.pair(
        BOB, "read", path, mount=mount, data={"ctx": "order:1"}, response={"wrap_info": info}
    )
    told.pair(
        otto,
        "update",
        "sys/control-group/authorize",
        data={"accessor": Hashed("accessor-1")},
        response={"data": {"approved": True}},
    )
    for _ in range(3):
        told.wait(minutes=1)
        told.creds(BOB, "order:1", request_id=parked, key_id=OLD)
    log = written(tmp_path, "audit.log", told.device())
    for words in (("--key-id", OLD), ("--app", "bob"), ("--ctx", "order:1")):
        tokens = incident(log, *words)["tokens"]
        assert [one["execution"] for one in tokens] == [1, 2, 3], words
        assert {one["request_id"] for one in tokens} == {parked}
        assert all(one["approved_by"] == ["otto"] for one in tokens)
    rows = checked_data(invoke("audit", "who", log, "-o", "json").stdout)["requests"]
    assert [one["execution"] for one in rows] == [None, 1, 2, 3]


def test_what_is_missing_is_said(tmp_path):
    told = story()
    lines = told.lines()
    for name, part in (("audit.log.3", lines[:10]), ("audit.log.1", lines[10:20])):
        written(tmp_path, name, part)
    later = Story(plain_ctx=True, start=told.now + timedelta(hours=9), first_id=900)
    later.creds(ORDERS, "order:1", key_id=NEW)
    written(tmp_path, "audit.log", [*later.lines(), b"{damaged\n"])
    data = incident(f"{tmp_path}/audit.log*", "--ctx", "order:1", "--from", "2026-11-01")
    texts = {one["code"]: one["text"] for one in data["unknown"]}
    assert "audit.log.2" in texts["missing-file"]
    assert "9 hours" in texts["silence"] or "no entry between" in texts["silence"]
    assert "begins at 2026-11-22T18:00:00Z" in texts["log-start"]
    assert "damaged-log" in texts
    assert data["certain"] is False


def test_hashes_that_cannot_be_searched_are_said(tmp_path):
    told = Story()
    told.login(ORDERS)
    told.creds(ORDERS, "order:1", key_id=hashed(OLD))
    log = written(tmp_path, "audit.log", told.device())
    assert "hashed-ctx" in codes(incident(log, "--ctx", "order:1"))
    data = incident(log, "--key-id", OLD)
    assert data["summary"]["tokens"] == 0
    assert "hashed-keys" in codes(data)
    assert "hashed-ctx" in codes(incident(log, "--app", "orders"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "one key, one app or one ctx"),
        (("--key-id", "a", "--app", "b"), "one key, one app or one ctx"),
        (("--app", ""), "the value is empty"),
        (("--app", "a", "--from", "2026-11-22", "--to", "2026-11-20"), "--to is not after"),
        (("--app", "a", "--from", "soon"), "--from is not a time"),
    ],
)
def test_mistakes_are_usage_errors(log, words, says):
    done = invoke("audit", "incident", log, *words)
    assert done.exit_code == 64
    assert says in done.stderr


def test_the_text_tells_the_same(log):
    shown = invoke("audit", "incident", log, "--key-id", OLD, env={"COLUMNS": "200"}).stdout
    assert f"key {OLD}" in shown
    assert "5 tokens, 1 of them requests to sign" in shown
    for words in ("rotation-written", "run-revoke", "Not known", "copy of the key"):
        assert words in shown


def test_the_evidence_has_the_page_the_tables_and_their_digests(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(
        *("audit", "incident", log, "--key-id", OLD, "--evidence", "e", "--prepared-by", "Ana <b>")
    )
    assert done.exit_code == 0, done.output
    folder = tmp_path / "e"
    sums = dict(
        reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    names = {"incident.html", "tokens.csv", "tokens.ndjson", "groups.csv", "actions.csv"}
    assert names | {"evidence.json", "results.json"} == set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    rows = list(csv.DictReader(io.StringIO((folder / "tokens.csv").read_text())))
    results = json.loads((folder / "results.json").read_text())
    assert [one["request_id"] for one in rows] == [one["request_id"] for one in results["tokens"]]
    page = (folder / "incident.html").read_text()
    log_digest = hashlib.sha256(Path(log).read_bytes()).hexdigest()
    assert log_digest in page.replace("<wbr>", "")
    assert "Ana &lt;b&gt;" in page
    assert "Reviewed by (name)" in page
    assert invoke("audit", "incident", log, "--app", "orders", "--evidence", "e").exit_code == 0


def test_without_a_cut_off_or_a_token_nothing_fails(tmp_path):
    told = Story(plain_ctx=True)
    told.pair(ROOT, "read", "sys/mounts")
    log = written(tmp_path, "audit.log", told.device())
    done = invoke("audit", "incident", log, "--key-id", OLD, "--evidence", str(tmp_path / "e"))
    assert done.exit_code == 0
    assert "no token" in done.stderr


def test_an_app_is_one_name_and_no_pattern(log):
    done = invoke("audit", "incident", log, "--app", "ord*", "-o", "json")
    assert done.exit_code == 64
    assert "--app has a wildcard" in done.stdout


def test_the_table_of_evidence_says_of_a_key_what_the_answer_says(log, tmp_path):
    folder = tmp_path / "found"
    data = incident(log, "--app", "orders", "--evidence", str(folder))
    lines = (folder / "tokens.csv").read_text().splitlines()
    at = lines[0].split(",").index("key_inferred")
    assert {line.split(",")[at].lower() for line in lines[1:]} == {"false"}
    assert {one["key_inferred"] for one in data["tokens"]} == {False}
