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
import secrets
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.audit_story import (
    ORDER,
    PAYMENT,
    PURCHASE,
    Admin,
    App,
    Asked,
    Story,
    http_of,
    now,
    reads,
)
from support.stack import BIN, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.timeout(180)]

CTX = "order:ORD-42"
OBJECT = {"purpose": "settlement", "batch": 118}
OPERATOR = "token-dev-operator"
HOSTILE = "<script>alert(1)</script>"
AGED = timedelta(days=100)


@dataclass
class Told:
    """A stack, what was done on it, and copies of its log."""

    stack: Stack
    story: Story
    order_app: App
    bob: App
    tool: App
    log: Path
    halfway: str = ""
    halfway_at: int = 0
    creds_run: str = ""
    rotate_run: str = ""
    old_key: str = ""
    new_key: str = ""

    def who(self, *args: str, server: bool = False, **extra: Any) -> list[dict[str, Any]]:
        """The rows that ``audit who`` answers, as a process."""
        told = ("audit", "who", str(self.log), *args)
        return self.envelope(*told, server=server, **extra)["data"]["requests"]

    def envelope(self, *args: str, server: bool = False, stdin: str = "") -> dict[str, Any]:
        """What a command answers in JSON; ``server``: it is named to it."""
        return json.loads(self.run(*args, server=server, stdin=stdin).stdout)

    def run(
        self, *args: str, server: bool = False, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Ask as a person's script would, in JSON; it has to work."""
        environ = {**self.stack.environ, **(self.stack.exports if server else {})}
        done = subprocess.run(
            [str(BIN / "skyflowctl"), *args, "-o", "json"],
            env=environ,
            cwd=self.stack.folder,
            text=True,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with running_stack(apply=True) as stack:
        http = http_of(stack)
        admin = Admin(http, stack.exports["BAO_TOKEN"])
        order_app, bob, tool = log_in(admin)
        story = Story(http)
        copy = stack.folder / "kept" / "audit.log"
        told = Told(stack, story, order_app, bob, tool, copy)
        hashed_part(told)
        told.halfway, told.halfway_at = now(), len(story.asked)
        rotate(told)
        plain_part(told)
        copy.parent.mkdir()
        shutil.copy(stack.audit_log, copy)
        add_an_aged_log(copy)
        yield told


def log_in(admin: Admin) -> tuple[App, App, App]:
    for method in ("approle", "userpass"):
        admin.do("POST", f"sys/auth/{method}", {"type": method})
    admin.policy("order-service", reads(f"{ORDER}/creds/order-producer"))
    admin.policy(
        "support",
        reads(
            f"{ORDER}/creds/order-consumer-support",
            f"{ORDER}/creds/order-consumer-analytics",
        ),
    )
    admin.policy("payments", reads(f"{PAYMENT}/creds/+"))
    admin.policy("idle", reads(f"{PURCHASE}/creds/purchase-consumer-portal"))
    admin.do("POST", "auth/approle/role/sleeper", {"token_policies": ["idle"]})
    return (
        admin.approle("order-service", ["order-service"]),
        admin.user("bob", secrets.token_hex(12), ["support"]),
        admin.plain_token("nightly", ["payments"], role_name="order-service", username="bob"),
    )


def hashed_part(told: Told) -> None:
    """Requests while the mounts hash every ctx."""
    ask = told.story.ask
    ask(told.order_app, ORDER, "order-producer", CTX, claimed="checkout")
    ask(told.order_app, ORDER, "order-producer", "order:ORD-43")
    ask(told.bob, ORDER, "order-consumer-support", "ticket:CASE-1", claimed=HOSTILE)
    ask(told.bob, ORDER, "order-consumer-analytics")
    ask(told.tool, PAYMENT, "payment-risk-engine", "txn:PAY-1")
    ask(told.tool, PAYMENT, "payment-consumer-settlement", OBJECT)
    ask(told.bob, ORDER, "order-producer", CTX)
    ask(told.order_app, ORDER, "order-producer", "cart:CART-7")
    wrapped = ask(told.order_app, ORDER, "order-producer", CTX, wrap=True)
    told.story.unwrap(told.bob, wrapped)
    ask(told.order_app, PURCHASE, "purchase-producer", "cart:CART-7")


def rotate(told: Told) -> None:
    """A token through skyflowctl, a rotation, and one of the new key."""
    told.old_key = told.story.asked[4].key_id or ""
    creds = told.stack.json("creds", "payment", "payment-producer", "--ctx", "txn:PAY-2")
    told.creds_run = creds["run_id"]
    data = creds["data"]
    operator = Asked(OPERATOR, "token", PAYMENT, "payment-producer", "txn:PAY-2", "granted")
    operator.request_id, operator.key_id = data["request_id"], data["key_id"]
    operator.claimed = "skyflowctl"
    operator.run_id, operator.bearer = told.creds_run, data["access_token"]
    told.story.asked.append(operator)
    rotated = told.stack.json("rotate", "payment", "--generate", "-y")
    told.rotate_run = rotated["run_id"]
    told.new_key = rotated["data"]["mounts"][0]["to"]
    after = told.story.ask(told.tool, PAYMENT, "payment-risk-engine", "txn:PAY-3")
    assert after.key_id == told.new_key != told.old_key


def plain_part(told: Told) -> None:
    """The same manifest with readable ctx, and requests after that."""
    manifest = told.stack.folder / "mounts.yaml"
    manifest.write_text(manifest.read_text().replace("plain_ctx: false", "plain_ctx: true"))
    told.stack.cli("apply", "-y", exported=True)
    told.story.ask(told.order_app, ORDER, "order-producer", CTX)
    told.story.ask(told.order_app, ORDER, "order-producer", "order:ORD-77", claimed="=1+1")
    told.story.ask(told.tool, PAYMENT, "payment-consumer-settlement", OBJECT)
    told.story.ask(told.order_app, ORDER, "order-producer", "cart:CART-9")


def add_an_aged_log(log: Path) -> None:
    """A rotated log that begins long ago, with one entry that asks for nothing."""
    with log.open() as lines:
        entry = json.loads(next(lines))
    entry["time"] = (datetime.now(UTC) - AGED).isoformat().replace("+00:00", "Z")
    (log.parent / "audit.log.1").write_text(json.dumps(entry) + "\n")


PLAIN = 4
"""So many of the last requests have their ctx in plain in the log."""


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


def times(rows: list[dict[str, Any]]) -> list[str]:
    return [row["time"] for row in rows]


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
    changes = told.envelope("audit", "report", str(told.log))["data"]["changes"]
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
