"""D: a request that a control group parks is pending; every execution after is its own row."""

from __future__ import annotations

import pytest
from support.audit_logs import Hashed, Story, Token, approle, userpass, written
from support.cli import checked_data, invoke

ANA, OTTO = userpass("ana"), userpass("otto")
ROLE = "order-producer"


def parked(story: Story, number: int, *, token: Token = ANA, wrap_ttl: int = 0) -> str:
    """As OpenBao 2.7 logs it: answered with a wrapping token that nobody asked for."""
    info = {
        "ttl": 3600,
        "token": Hashed(f"s.parked-{number}"),
        "accessor": Hashed(f"accessor-{number}"),
        "creation_path": f"skyflow/order/creds/{ROLE}",
    }
    return story.pair(
        token,
        "read",
        f"skyflow/order/creds/{ROLE}",
        mount=("skyflow/order/", "skyflow"),
        data={"ctx": f"order:{number}"},
        response={"wrap_info": info},
        extra={"wrap_ttl": wrap_ttl} if wrap_ttl else None,
    )


def approve(story: Story, number: int, by: Token = OTTO) -> None:
    story.pair(
        by,
        "update",
        "sys/control-group/authorize",
        data={"accessor": Hashed(f"accessor-{number}")},
        response={"data": {"approved": True}},
    )


def execute(story: Story, number: int, request_id: str) -> None:
    """Under its first id, login and run, whoever unwraps, and as often as somebody does."""
    story.creds(ANA, f"order:{number}", role=ROLE, request_id=request_id)


@pytest.fixture
def story() -> Story:
    """One parked, one approved and executed, one executed three times."""
    story = Story(plain_ctx=True)
    story.login(ANA)
    story.login(OTTO)
    parked(story, 1)
    once = parked(story, 2)
    approve(story, 2)
    story.wait(minutes=5)
    execute(story, 2, once)
    thrice = parked(story, 3)
    approve(story, 3)
    for _ in range(3):
        story.wait(minutes=1)
        execute(story, 3, thrice)
    return story


EXPECTED = [
    ("order:1", "pending", []),
    ("order:2", "pending", []),
    ("order:2", "granted", ["otto"]),
    ("order:3", "pending", []),
    ("order:3", "granted", ["otto"]),
    ("order:3", "granted", ["otto"]),
    ("order:3", "granted", ["otto"]),
]


def told(data: dict) -> list[tuple]:
    return [(one["ctx"], one["outcome"], one["approved_by"]) for one in data["requests"]]


def who(*args: str) -> dict:
    return checked_data(invoke("audit", "who", *args, "-o", "json").stdout)


def test_d_a_parked_request_is_pending_and_every_execution_a_row_of_its_own(story, tmp_path):
    data = who(written(tmp_path, "audit.log", story.device()))
    assert told(data) == EXPECTED
    assert {one["app"] for one in data["requests"]} == {"ana"}
    assert not any(one["wrapped"] for one in data["requests"])
    read = data["summary"]["read"]
    assert (read["duplicates"], read["damaged"], read["unpaired"]) == (0, {}, 0)


@pytest.mark.parametrize("args", [("--ctx", "order:3"), ("--role", ROLE)])
def test_d_a_search_finds_them_with_their_approver(story, tmp_path, args):
    data = who(written(tmp_path, "audit.log", story.device()), *args)
    wanted = [one for one in EXPECTED if args[0] == "--role" or one[0] == args[1]]
    assert told(data) == wanted


@pytest.mark.parametrize("one_file", [True, False])
def test_d_another_devices_copies_of_them_count_once(story, tmp_path, one_file):
    pairs = zip(story.lines("a"), story.lines("b"), strict=True)
    if one_file:
        logs = [written(tmp_path, "audit.log", [line for pair in pairs for line in pair])]
    else:
        logs = [written(tmp_path, f"{salt}.log", story.device(salt)) for salt in "ab"]
    data = who(*logs)
    assert told(data) == EXPECTED
    assert data["summary"]["read"]["damaged"] == {}


def test_d_report_counts_them_apart(story, tmp_path):
    log = written(tmp_path, "audit.log", story.device())
    totals = checked_data(invoke("audit", "report", log, "-o", "json").stdout)["totals"]
    counted = (totals["requests"], totals["granted"], totals["pending"], totals["errors"])
    assert counted == (7, 4, 3, 0)


def test_d_a_role_that_was_only_parked_is_unused(tmp_path):
    story = Story()
    parked(story, 1)
    story.wait(hours=2)
    story.creds(approle("orders"), role="other")
    log = written(tmp_path, "audit.log", story.device())
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "version: 1\nmanifest: shop\nplugin: {name: skyflow, version: v1.0.0}\nmounts:\n"
        "  order:\n    path: skyflow/order\n    credentials: {file: x.json}\n    roles:\n"
        f"      {ROLE}: {{role_ids: [a]}}\n      other: {{role_ids: [b]}}\n"
    )
    done = invoke("audit", "unused", log, "--days", "1h", "-f", str(manifest), "-o", "json")
    data = checked_data(done.stdout)
    assert data["certain"]
    assert [one["name"] for one in data["unused"] if one["kind"] == "role"] == [
        f"skyflow/order/creds/{ROLE}"
    ]


def test_d_a_parked_request_that_asked_for_wrapping_is_pending_once_it_is_executed(tmp_path):
    story = Story(plain_ctx=True)
    request_id = parked(story, 1, wrap_ttl=60)
    approve(story, 1)
    execute(story, 1, request_id)
    data = who(written(tmp_path, "audit.log", story.device()))
    assert told(data) == [("order:1", "pending", []), ("order:1", "granted", ["otto"])]


def test_d_text_and_csv_say_pending_and_who_approved(story, tmp_path):
    log = written(tmp_path, "audit.log", story.device())
    shown = invoke("audit", "who", log, "-v").stdout
    assert shown.count("pending") == 3
    assert shown.count("approved_by") == 4
    lines = invoke("audit", "who", log, "-o", "csv").stdout.splitlines()
    assert [",otto," in line for line in lines[1:]] == [bool(one[2]) for one in EXPECTED]


def test_d_the_very_same_lines_again_are_copies(story, tmp_path):
    data = who(written(tmp_path, "audit.log", story.lines() * 2))
    assert sorted(told(data)) == sorted(EXPECTED)
    assert data["summary"]["read"]["duplicates"] == 2 * len(EXPECTED)
