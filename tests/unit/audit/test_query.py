"""Which requests a query wants, and what is looked for before anything is decoded."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_logs import START, Story, approle, hashed, three_apps, userpass, written

from skyflowctl.audit import times
from skyflowctl.audit.escape import csv_cell, csv_line
from skyflowctl.audit.globs import any_glob
from skyflowctl.audit.model import RequestOutcome, TokenRequest
from skyflowctl.audit.query import Query, matcher, scan_options
from skyflowctl.audit.scan import scan
from skyflowctl.audit.search import Search
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.wanted import wanted_ctx
from skyflowctl.errors import UsageError

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


def both_devices(text):
    return hashed(text, "a"), hashed(text, "b")


def asked(tmp_path, query, *logs):
    """The ctx of what a query finds, with the early filter and without."""
    paths = [written(tmp_path / str(at), "audit.log", log) for at, log in enumerate(logs)]
    early = list(Search(open_sources(paths), query, ("skyflow",)))
    wanted = matcher(query)
    late = [one for one in scan(open_sources(paths)) if isinstance(one, TokenRequest)]
    late = [one for one in late if wanted(one)]
    assert {one.request_id for one in early} == {one.request_id for one in late}
    assert [one.time for one in early] == sorted(one.time for one in early)
    return early


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(), 6),
        (Query(apps=("orders",)), 3),
        (Query(apps=("ord*", "bob")), 5),
        (Query(roles=("order-adm?n",)), 1),
        (Query(mounts=("skyflow/*",)), 6),
        (Query(mounts=("skyflow/pay*",)), 0),
        (Query(outcomes=(RequestOutcome.DENIED,)), 1),
        (Query(ctx=(wanted_ctx("order:1"),)), 2),
        (Query(ctx=(wanted_ctx("order:*"),)), 5),
        (Query(ctx=(wanted_ctx("*:9"), wanted_ctx("order:2"))), 2),
        (Query(ctx=(wanted_ctx(""),)), 1),
        (Query(ctx=(wanted_ctx("order:1"),), apps=("bob",)), 0),
        (Query(hashes=(hashed("b9"),)), 1),
        (Query(hashes=(hashed("s.orders-0"),)), 3),
        (Query(since=START, until=START), 0),
        (Query(nodes=("audit*",)), 6),
        (Query(runs=("run1",)), 0),
    ],
)
def test_every_field_chooses_and_the_early_filter_chooses_the_same(tmp_path, query, found):
    assert len(asked(tmp_path, query, three_apps(plain_ctx=True).device())) == found


def test_hashed_values_are_found_on_every_device(tmp_path):
    story = three_apps()
    query = Query(ctx=(wanted_ctx("order:1", both_devices),))
    assert scan_options(query, ("skyflow",)).prefilter
    for salts in ("a", "b", "ab"):
        found = asked(tmp_path / salts, query, *[story.device(salt) for salt in salts])
        assert [one.caller.app for one in found] == ["orders", "orders"]


def test_an_object_is_found_plain_and_hashed_whatever_its_order(tmp_path):
    ctx = {"order": "order-77", "n": 12345, "vip": True}
    turned = {"vip": True, "order": "order-77", "n": 12345}
    for plain in (True, False):
        story = Story(plain_ctx=plain)
        story.creds(userpass("bob"), ctx)
        story.creds(userpass("bob"), {**ctx, "n": 1})
        query = Query(ctx=(wanted_ctx(turned, both_devices),))
        assert len(asked(tmp_path / str(plain), query, story.device("b"))) == 1
        value = Query(hashes=(hashed("order-77", "b"),))
        assert len(asked(tmp_path / f"v{plain}", value, story.device("b"))) == (0 if plain else 2)


def test_a_ctx_in_which_json_escapes_something_is_found(tmp_path):
    for number, ctx in enumerate(('a"b<&>', "grün:äöü", "xy", "ctx with blanks", "*", "a*b")):
        story = Story(plain_ctx=True)
        story.creds(approle("orders"), ctx)
        story.creds(approle("orders"), "other")
        found = asked(tmp_path / str(number), Query(ctx=(wanted_ctx(ctx),)), story.device())
        assert ctx in {one.ctx for one in found}


def test_what_could_not_be_searched_is_said(tmp_path):
    path = written(tmp_path, "audit.log", three_apps().device())

    def codes(ctx, hashes=lambda _: ()):
        query = Query(ctx=(wanted_ctx(ctx, hashes),))
        answers = Search(open_sources([path]), query, ("skyflow",))
        list(answers)
        return [one.code for one in answers.warnings()]

    assert codes("order:1") == ["hashed-ctx"]
    assert codes("o") == ["hashed-ctx"]
    assert codes("order:1", both_devices) == []
    assert codes("order:*", both_devices) == ["glob-on-hashes"]
    assert codes("") == []
    assert codes(hashed("order:1")) == []


def test_a_wrapped_one_is_told_in_its_turn(tmp_path):
    story = Story()
    story.creds(approle("orders"), "first", wrap="w1")
    story.creds(userpass("bob"), "second")
    story.wait(seconds=40)
    story.creds(userpass("bob"), "third")
    story.unwrap("w1", "b1", by=userpass("bob"))
    found = asked(tmp_path, Query(), story.device())
    assert [one.wrapped for one in found] == [True, False, False]
    assert found[0].unwrapped_by == "bob"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("1d12h", NOW - timedelta(hours=36)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00:00+02:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
    ],
)
def test_since_reads_spans_days_and_times(text, moment):
    assert times.since(text, NOW) == moment


def test_until_includes_a_whole_day():
    assert times.until("2026-11-20", NOW) == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-22T18:00:00", "99999999d", "2026-13-01", "9999-12-31"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match=r"--until is (not a time|empty)"):
        times.until(text, NOW)


@pytest.mark.parametrize("text", ["0", "0d", "", "-1", "x", "999999999"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(UsageError, match="--days"):
        times.parse_days(text, "--days", NOW)


@given(st.text(max_size=20))
def test_a_text_is_its_own_glob(text):
    assert any_glob([text])(text)
    assert any_glob(["*" + text + "*"])(f"x{text}y")


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\uff1d1", "|calc", "%0", '=cmd|"/C calc"!A0'],
)
def test_a_formula_becomes_a_text(text):
    assert csv_cell(text).startswith(("'", "\\u0009="))


@given(st.text(max_size=30))
def test_no_cell_holds_a_control_character_or_starts_a_formula(text):
    cell = csv_cell(text)
    assert cell[:1] not in tuple("=+-@\t\r\n")
    assert all(each.isprintable() or each == " " or ord(each) > 0x9F for each in cell)
    assert csv_line([text]).count("\n") == 1


@pytest.mark.parametrize(("devices", "certain"), [("a", True), ("b", False), ("ab", False)])
def test_an_answer_is_not_certain_where_another_server_hashed_the_log(tmp_path, devices, certain):
    """A stack's log goes on when its server is made anew, with another salt."""
    story = three_apps()
    logs = [written(tmp_path / salt, "audit.log", story.device(salt)) for salt in devices]
    query = Query(
        ctx=(wanted_ctx("order:ORD-42", lambda text: (hashed(text, "a"),)),),
        device_hashes=(hashed("Bearer", "a"),),
    )
    search = Search(open_sources(logs), query, ("skyflow",))
    list(search)
    assert search.certain == certain
    codes = [one.code for one in search.warnings()]
    assert ("foreign-hashes" in codes) == (not certain)


def test_an_answer_in_the_clear_is_no_answer_of_another_server(tmp_path):
    """A device with log_raw hashes nothing, so there is nothing that could not be searched."""
    log = Path(written(tmp_path, "audit.log", three_apps().device("a")))
    plain = re.sub(
        rb'"(access_token|token_type)":"hmac-sha256:[0-9a-f]{64}"', rb'"\1":"x"', log.read_bytes()
    )
    assert plain != log.read_bytes()
    log.write_bytes(plain)
    ctx = (wanted_ctx("order:ORD-42", lambda text: (hashed(text, "a"),)),)
    search = Search(
        open_sources([str(log)]),
        Query(ctx=ctx, device_hashes=(hashed("Bearer", "a"),)),
        ("skyflow",),
    )
    list(search)
    assert search.certain
    assert "foreign-hashes" not in [one.code for one in search.warnings()]


def log_of_a_key(folder: Path, salt: str, key: str) -> str:
    """A log of one device, whose answers name this key."""
    log = Path(written(folder, "audit.log", three_apps().device(salt)))
    log.write_text(log.read_text().replace('"key_id":"k1"', f'"key_id":"{key}"'))
    return str(log)


def search_for_key(log: str, key: str) -> Search:
    """A search where the server of salt ``a`` was asked for hashes."""
    query = Query(keys=(key, hashed(key, "a")), device_hashes=(hashed("Bearer", "a"),))
    return Search(open_sources([log]), query, ("skyflow",))


@pytest.mark.parametrize(
    ("salt", "logged", "found", "certain"),
    [
        ("b", "key-0001", True, True),
        ("b", hashed("key-0001", "b"), False, False),
        ("a", hashed("key-0001", "a"), True, True),
        ("a", hashed("key-0002", "a"), False, True),
    ],
)
def test_only_a_hashed_key_of_another_server_can_be_missed(
    tmp_path, salt: str, logged: str, found: bool, certain: bool
):
    search = search_for_key(log_of_a_key(tmp_path, salt, logged), "key-0001")
    assert bool(list(search)) == found
    assert search.certain == certain
    assert ("foreign-hashes" in [one.code for one in search.warnings()]) == (not certain)
