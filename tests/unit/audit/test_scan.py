"""Whole logs in, records out: who asked for what, joined over entries, devices and nodes."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from support.audit_logs import (
    START,
    Story,
    approle,
    created,
    hashed,
    line,
    three_apps,
    userpass,
    written,
)

from skyflowctl.audit import join
from skyflowctl.audit.model import ChangeKind, CredentialChange, RequestOutcome, TokenRequest
from skyflowctl.audit.scan import Scan, scan, scan_marked
from skyflowctl.audit.scan_options import ScanOptions, needle
from skyflowctl.audit.sources import open_sources


def scanned(content: bytes, options: ScanOptions | None = None) -> tuple[list, Scan]:
    found = scan(open_sources(["-"], stdin=io.BytesIO(content)), options)
    return list(found), found


def requests(content: bytes, options: ScanOptions | None = None) -> list[TokenRequest]:
    return [each for each in scanned(content, options)[0] if isinstance(each, TokenRequest)]


def changes(content: bytes) -> list[CredentialChange]:
    return [each for each in scanned(content)[0] if isinstance(each, CredentialChange)]


def test_every_question_is_answered_from_hashed_and_plain_logs() -> None:
    for plain in (False, True):
        rows = requests(three_apps(plain_ctx=plain).device())
        told = [(row.caller.app, row.caller.auth, row.role, row.outcome) for row in rows]
        assert told == [
            ("orders", "approle", "order-producer", RequestOutcome.GRANTED),
            ("bob", "userpass", "order-producer", RequestOutcome.GRANTED),
            ("token-legacy", "token", "order-producer", RequestOutcome.GRANTED),
            ("orders", "approle", "order-producer", RequestOutcome.GRANTED),
            ("bob", "userpass", "order-admin", RequestOutcome.DENIED),
            ("orders", "approle", "order-producer", RequestOutcome.GRANTED),
        ]
        assert rows[0].ctx == ("order:1" if plain else hashed("order:1"))
        assert rows[0].ctx_hashed is not plain
        assert rows[2].ctx == ""


def test_a_row_says_all_that_the_log_knows() -> None:
    story = Story()
    token = story.login(approle("orders"))
    request_id = story.creds(token, "order:1", claimed="api", run="run7", bearer="b1")
    (row,) = requests(story.device())
    assert row.time == START + timedelta(milliseconds=10)
    assert (row.mount, row.role, row.request_id) == ("skyflow/order", "order-producer", request_id)
    assert (row.claimed_app, row.run_id, row.key_id) == ("api", "run7", "k1")
    assert row.remote_address == "127.0.0.1"
    assert row.caller.entity_id == "entity-orders"
    assert row.caller.policies == ("default", "orders-policy")
    assert row.caller.accessor == hashed("accessor-orders-0")
    assert row.granted_by == ("orders-policy",)
    assert row.token_hashes == (hashed("b1"),)
    assert (row.operation, row.namespace, row.error, row.wrapped) == ("read", "", "", False)


def test_changes_of_a_credential_are_told_and_nothing_else_of_the_config() -> None:
    story = Story()
    story.config({"cas": 0, "credentials_json": "{}"})
    story.config({"description": "new words"})
    story.config(None, operation="read")
    story.rotation()
    story.config({"credential_version": 1}, path="config/rollback", key_id="k1")
    story.config(None, path="config/history/1", operation="delete", key_id="k1")
    story.config(None, operation="delete", key_id="")
    found = changes(story.device())
    assert [(each.kind, each.key_id, each.run_id) for each in found] == [
        (ChangeKind.WRITE, "k1", ""),
        (ChangeKind.ROTATION_OPENED, "k1", "run1"),
        (ChangeKind.ROTATION_WRITTEN, "k2", "run1"),
        (ChangeKind.ROTATION_COMMITTED, "k2", "run1"),
        (ChangeKind.ROLLBACK, "k1", ""),
        (ChangeKind.KEPT_DESTROYED, "k1", ""),
        (ChangeKind.REVOKED, "", ""),
    ]


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ("granted", RequestOutcome.GRANTED),
        ("denied", RequestOutcome.DENIED),
        ("refused", RequestOutcome.REFUSED),
        ("refused-by-skyflow", RequestOutcome.REFUSED),
        ("failed", RequestOutcome.FAILED),
        ("unknown", RequestOutcome.UNKNOWN),
    ],
)
def test_outcomes(told: str, outcome: RequestOutcome) -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", outcome=told)
    (row,) = requests(story.device())
    assert row.outcome is outcome


def test_a_forward_is_counted_and_is_no_row() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", outcome="forward")
    found, counted = scanned(story.device())
    assert found == []
    assert (counted.counts().forwards, counted.counts().requests) == (1, 0)


def test_a_second_device_adds_its_hashes_and_no_row(tmp_path: Path) -> None:
    story = three_apps()
    names = [written(tmp_path, f"{salt}.log", story.device(salt)) for salt in "ab"]
    found = scan(open_sources(names))
    rows = [row for row in found if isinstance(row, TokenRequest)]
    assert len(rows) == 6
    assert set(rows[0].ctx_forms) == {hashed("order:1", "a"), hashed("order:1", "b")}
    assert set(rows[0].token_hashes) == {hashed("b1", "a"), hashed("b1", "b")}
    assert {row.node for row in rows} == {"a.log"}
    # 6 answered requests, 5 changes (one of them only aims a rotation) and a forward.
    assert found.counts().duplicates == 2 * (6 + 4 + 1)
    backwards = list(scan(open_sources(names[::-1])))
    assert [each.request_id for each in backwards] == [
        each.request_id for each in scan(open_sources(names))
    ]


def test_one_ctx_counts_once_on_the_fast_path_with_two_devices_in_one_file() -> None:
    story = Story()
    for _ in range(4):
        story.creds(approle("orders"), "order:1")
    first, second = story.lines("a"), story.lines("b")
    mixed: list[bytes] = []
    for number, pair in enumerate(zip(first, second, strict=True)):
        mixed += pair if number % 3 else pair[::-1]
    found = scan(open_sources(["-"], stdin=io.BytesIO(b"".join(mixed))))
    assert len({row.ctx for row in found.rows()}) == 1
    assert found.counts().requests == 4


def test_the_login_tells_the_method_on_either_device(tmp_path: Path) -> None:
    story = Story()
    token = story.login(userpass("bob"))
    plain = userpass("bob")
    assert token == plain
    story.creds(token, "order:1")
    for salt in "ab":
        (row,) = requests(story.device(salt))
        assert (row.caller.app, row.caller.auth) == ("bob", "userpass")


def test_a_batch_token_is_known_by_its_entity() -> None:
    story = Story()
    token = story.login(approle("orders", kind="batch"))
    story.creds(token, "order:1")
    (row,) = requests(story.device())
    assert (row.caller.app, row.caller.auth, row.caller.accessor) == ("orders", "approle", "")


def test_metadata_of_a_created_token_is_no_identity() -> None:
    story = Story()
    forged = created("mine", {"role_name": "orders", "username": "orders"})
    story.creds(forged, "order:1")
    story.login(forged)
    story.creds(forged, "order:1")
    assert [(row.caller.app, row.caller.auth) for row in requests(story.device())] == [
        ("token-mine", "token")
    ] * 2


def test_a_claimed_app_is_no_identity() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", claimed="payments")
    (row,) = requests(story.device())
    assert (row.caller.app, row.claimed_app) == ("orders", "payments")


def test_a_wrapped_answer_is_joined_to_its_unwrap() -> None:
    story = Story()
    orders, bob = approle("orders"), userpass("bob")
    story.creds(orders, "order:1", wrap="w1")
    story.creds(orders, "order:2", wrap="w2")
    story.creds(orders, "order:3", wrap="w3")
    story.unwrap("w1", "b1", by=bob)
    story.unwrap("w2", "b2")
    rows = {row.ctx: row for row in requests(story.device())}
    assert rows[hashed("order:1")].unwrapped_by == "bob"
    assert rows[hashed("order:1")].token_hashes == (hashed("b1"),)
    assert "bearer at 127.0.0.1" in rows[hashed("order:2")].unwrapped_by
    assert rows[hashed("order:3")].unwrapped_by == ""
    assert all(row.wrapped for row in rows.values())


def test_a_wrapped_answer_is_let_go_when_its_time_is_over() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", wrap="w1")
    story.wait(hours=1)
    story.creds(approle("orders"), "order:2")
    story.wait(hours=1)
    story.creds(approle("orders"), "order:3")
    assert [row.ctx for row in requests(story.device())] == [
        hashed(f"order:{number}") for number in (1, 2, 3)
    ]


def test_a_bearer_is_found_in_an_unwrap_through_the_prefilter() -> None:
    story = Story()
    story.login(approle("orders"))
    story.creds(approle("orders"), "order:1", wrap="w1")
    story.creds(approle("orders"), "order:2")
    story.unwrap("w1", "b1", by=userpass("bob"))
    wanted = needle(hashed("b1"))
    assert wanted
    rows = requests(story.device(), ScanOptions(prefilter=(wanted,), wrapped=True))
    assert [row.token_hashes for row in rows if hashed("b1") in row.token_hashes] == [
        (hashed("b1"),)
    ]


def test_the_prefilter_gives_the_same_rows_as_reading_everything(tmp_path: Path) -> None:
    story = three_apps()
    # A login method that the token itself does not tell.
    names = [written(tmp_path, f"{salt}.log", story.device(salt)) for salt in "ab"]
    for salt in "ab":
        wanted = needle(hashed("order:9", salt))
        assert wanted
        all_rows = [
            row for row in scan(open_sources(names)) if hashed("order:9", salt) in _forms(row)
        ]
        fast = scan(open_sources(names), ScanOptions(prefilter=(wanted,)))
        rows = [row for row in fast if hashed("order:9", salt) in _forms(row)]
        # The accessor is the matching device's.
        assert [_told(row) for row in rows] == [_told(row) for row in all_rows]
        assert rows[0].unwrapped_by == "bob"
        assert fast.counts().lines == 2 * len(story.entries)


def _told(row: TokenRequest) -> tuple[object, ...]:
    return row.request_id, row.time, row.caller.app, row.caller.auth, row.unwrapped_by


def _forms(record: object) -> tuple[str, ...]:
    return record.ctx_forms if isinstance(record, TokenRequest) else ()


def test_needles_are_parts_that_no_writer_escapes() -> None:
    assert needle('ünï "order:12345"') == b"order:12345"
    assert needle("a/b<c>") is None
    assert needle("") is None


def test_records_come_in_the_order_of_their_requests() -> None:
    story = Story()
    slow = story.creds(approle("orders"), "order:slow")
    quick = story.creds(approle("orders"), "order:quick")
    first, answer, *rest = story.entries
    story.entries = [first, *rest, answer]
    assert [row.request_id for row in requests(story.device())] == [slow, quick]


def test_nodes_are_merged_by_time(tmp_path: Path) -> None:
    names = []
    for node in ("n1", "n2"):
        story = Story(first_id=1 if node == "n1" else 100)
        story.wait(seconds=0 if node == "n1" else 0.005)
        for number in range(3):
            story.creds(approle("orders"), f"{node}:{number}", plain=True)
        names.append(f"{node}={written(tmp_path, node + '/audit.log', story.device())}")
    rows = [row for row in scan(open_sources(names)) if isinstance(row, TokenRequest)]
    assert [(row.node, row.ctx) for row in rows] == [
        (node, f"{node}:{number}") for number in range(3) for node in ("n1", "n2")
    ]


def test_an_object_ctx_is_sorted_json() -> None:
    story = Story()
    story.creds(approle("orders"), {"b": 3, "a": "x"}, plain=True)
    story.creds(approle("orders"), {"b": 3, "a": "x"})
    plain, masked = requests(story.device())
    assert (plain.ctx, plain.ctx_hashed) == ('{"a":"x","b":3}', False)
    assert (masked.ctx, masked.ctx_hashed) == (f'{{"a":"{hashed("x")}","b":3}}', True)


def test_mounts_of_another_type_are_known_by_path() -> None:
    story = Story(plugin="skyflow-next")
    story.creds(approle("orders"), "order:1")
    content = story.device()
    assert requests(content) == []
    assert len(requests(content, ScanOptions(plugin_names=("skyflow-next",)))) == 1
    assert len(requests(content, ScanOptions(mounts=("skyflow/order/",)))) == 1
    assert requests(content, ScanOptions(mounts=("skyflow/ord",))) == []


def in_namespace(story: Story) -> bytes:
    """The server puts the namespace in front of the mount's path, not of the request's."""
    for entry in story.entries:
        request = entry["request"]
        point = "team/" + request["mount_point"]
        namespace = {"id": "it6cE3", "path": "team/"}
        entry["request"] = {**request, "namespace": namespace, "mount_point": point}
    return story.device()


def test_a_mount_in_a_namespace_is_read() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1")
    content = in_namespace(story)
    for options in (None, ScanOptions(plugin_names=(), mounts=("team/skyflow/order",))):
        (row,) = requests(content, options)
        assert (row.namespace, row.mount, row.role) == ("team/", "skyflow/order", "order-producer")


def test_a_log_without_mount_points_is_read_by_its_paths() -> None:
    story = three_apps()
    expected = [(row.mount, row.role) for row in requests(story.device())]
    for entry in story.entries:
        entry["request"] = {**entry["request"], "mount_point": ""}
    assert [(row.mount, row.role) for row in requests(story.device())] == expected
    assert len(changes(story.device())) == 4


def test_listing_and_other_paths_are_no_token_requests() -> None:
    story = Story()
    for operation in ("list", "delete", "help"):
        story.creds(approle("orders"), "order:1", operation=operation)
    story.creds(approle("orders"), "order:1", role="")
    assert requests(story.device()) == []


def test_followed_lines_give_records_at_once() -> None:
    story = three_apps()
    options = ScanOptions(reorder_seconds=0, hold_wrapped=False)
    pulled: list[bytes] = []

    def lines():
        for each in story.lines():
            pulled.append(each)
            yield each.rstrip(b"\n"), "n1"

    for record in scan_marked(lines(), options):
        assert record.request_id.encode() in pulled[-1]
        assert record.node == "n1"


def test_same_id_with_other_content_is_shown_and_counted() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", request_id="same")
    story.creds(userpass("eve"), "order:1", request_id="same")
    story.creds(approle("orders"), "order:1", request_id="same", role="other")
    found, counted = scanned(story.device())
    assert [(row.caller.app, row.role) for row in found] == [
        ("orders", "order-producer"),
        ("eve", "order-producer"),
        ("orders", "other"),
    ]
    assert dict(counted.counts().damaged)[join.CONFLICTING_ID] == 1


def test_requests_without_answers_stay_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "PENDING_MAX", 100)
    story = Story()
    story.creds(approle("orders"), "order:1", outcome="unknown")
    template = story.lines()[0]
    content = b"".join(template.replace(b"00000001", b"%08d" % number) for number in range(1000))
    found, counted = scanned(content)
    assert len(found) == 1000
    assert {row.outcome for row in found} == {RequestOutcome.UNKNOWN}
    assert counted.counts().unpaired == 1000


def test_a_log_that_starts_between_request_and_response_loses_nothing() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1")
    found, counted = scanned(story.lines()[1])
    assert [row.outcome for row in found] == [RequestOutcome.GRANTED]
    assert counted.counts().unpaired == 1


HOSTILE = {
    "not-json": b'{"time":"2026',
    "not-json ": b"\xff\xfe\x00garbage".replace(b"\x00", b"?"),
    "not-json  ": b'{"type":"request","request":{"id":"\\ud800"}}',
    "not-an-entry": b'{"hello":"world"}',
    "not-json   ": b"[1,2,3]",
    "not-json    ": b"17",
    "wrong-types": b'{"type":"response","request":{"id":5,"path":[]}}',
    "wrong-types ": b'{"type":"response","request":"x"}',
    "wrong-types  ": b'{"type":7,"request":{"id":"x"}}',
    "too-deep": b'{"type":"response","request":{"data":{"ctx":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}}}",
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_a_damaged_line_is_counted_by_its_reason_and_costs_only_itself(reason: str) -> None:
    good = three_apps().lines()
    content = b"".join([*good[:8], HOSTILE[reason] + b"\n", *good[8:]])
    found, counted = scanned(content)
    assert len(found) == len(scanned(b"".join(good))[0])
    assert dict(counted.counts().damaged) == {reason.strip(): 1}
    assert counted.counts().lines == len(good) + 1


def test_nul_bytes_of_a_crash_are_skipped_and_counted() -> None:
    good = three_apps().lines()
    content = b"\0" * 4096 + b"".join(good) + b"\0" * 100
    found, counted = scanned(content)
    assert len(found) == len(scanned(b"".join(good))[0])
    assert dict(counted.counts().damaged) == {"nul-bytes": 2}


def test_windows_line_ends_blank_lines_and_a_missing_last_newline() -> None:
    good = three_apps().lines()
    content = b"\r\n\n".join(each.rstrip() for each in good)
    found, counted = scanned(content)
    assert len(found) == len(scanned(b"".join(good))[0])
    assert counted.counts().damaged == ()
    assert counted.counts().lines == len(good)


@pytest.mark.parametrize(
    "time", ["", "yesterday", "2026-13-40T99:99:99Z", "2026-11-22T18:00:00.x²Z", "9" * 40, "²" * 20]
)
def test_a_request_without_a_time_cannot_be_placed_and_is_counted(time: str) -> None:
    story = Story()
    story.creds(approle("orders"), "order:1")
    for entry in story.entries:
        entry["time"] = time
    found, counted = scanned(story.device())
    assert found == []
    assert dict(counted.counts().damaged) == {"no-time": 1}


def test_times_with_a_zone_are_read() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1")
    for entry in story.entries:
        entry["time"] = "2026-11-22T20:00:00.5+02:00"
    (row,) = requests(story.device())
    assert row.time == START + timedelta(seconds=0.5)


def test_a_clock_that_jumps_back_loses_nothing() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1")
    story.wait(hours=-5)
    story.creds(approle("orders"), "order:2")
    story.wait(days=3000)
    story.creds(approle("orders"), "order:3")
    story.wait(days=-3000)
    story.creds(approle("orders"), "order:4")
    assert sorted(row.ctx for row in requests(story.device())) == sorted(
        hashed(f"order:{number}") for number in range(1, 5)
    )


def test_long_lines_are_cut_before_anything_is_kept() -> None:
    story = Story(plain_ctx=True)
    story.creds(approle("orders"), "x" * 1_000_000, claimed="y" * 500_000)
    story.creds(approle("orders"), {"k" * 9000: ["v"] * 9000})
    first, second = requests(story.device())
    assert (len(first.ctx), len(first.claimed_app)) == (1024, 1024)
    assert len(second.ctx) == 1024


def test_texts_that_callers_wrote_come_out_as_they_are() -> None:
    nasty = "<script>alert(1)</script>\x1b[2J=HYPERLINK()\u202e"
    story = Story(plain_ctx=True)
    story.creds(userpass(nasty), nasty, claimed=nasty)
    (row,) = requests(story.device())
    assert (row.caller.app, row.ctx, row.claimed_app) == (nasty, nasty, nasty)


def test_odd_values_where_texts_belong_in_a_ctx() -> None:
    story = Story()
    for ctx in (5, True, [1, "a"], {"a": None}):
        story.creds(approle("orders"), ctx, plain=True)
    story.entries += [{"type": "other", "request": story.entries[0]["request"], "response": {}}]
    found, counted = scanned(story.device())
    assert [row.ctx for row in found] == ["5", "true", '[1,"a"]', '{"a":null}']
    assert dict(counted.counts().damaged) == {"not-an-entry": 1}


def test_a_ctx_that_looks_like_a_hash_needs_its_length() -> None:
    story = Story()
    story.creds(approle("orders"), "hmac-sha256:abc", plain=True)
    (row,) = requests(story.device())
    assert row.ctx_hashed is False


def test_lines_of_bytes_round_trip_go_escapes() -> None:
    assert line({"a": "<&>"}) == b'{"a":"\\u003c\\u0026\\u003e"}\n'
