"""Rows added up: per mount, role and app, over time, with limits that are told."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from support.audit_logs import START, Story, approle, three_apps, userpass, written
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.audit import buckets, usage
from skyflowctl.audit import report as reporting
from skyflowctl.audit.model import ChangeKind
from skyflowctl.audit.report import ReportScope, report
from skyflowctl.audit.report_model import Report, Tally, UnusualKind
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.unusual import Pattern


def reported(*contents: bytes, asked: ReportScope | None = None) -> Report:
    """What logs of one device each add up to."""
    (joined,) = [b"".join(contents)]
    return report(open_sources(["-"], stdin=io.BytesIO(joined)), asked=asked)


def test_every_row_of_the_three_apps() -> None:
    found = reported(three_apps().device())
    rows = {(row.app, row.auth, row.role): row for row in found.usage}
    assert [*rows] == [
        ("bob", "userpass", "order-admin"),
        ("bob", "userpass", "order-producer"),
        ("orders", "approle", "order-producer"),
        ("token-legacy", "token", "order-producer"),
    ]
    orders = rows["orders", "approle", "order-producer"]
    assert orders.tally == Tally(requests=3, granted=3)
    assert (orders.distinct_ctx, orders.more_ctx, orders.wrapped) == (2, False, 1)
    assert (orders.busiest_hour, orders.busiest_count) == (18, 3)
    assert orders.first < orders.last
    assert rows["bob", "userpass", "order-admin"].tally == Tally(requests=1, denied=1)
    assert rows["token-legacy", "token", "order-producer"].distinct_ctx == 0
    assert found.totals.tally == Tally(requests=6, granted=5, denied=1)
    totals = found.totals
    assert (totals.mounts, totals.roles, totals.apps, totals.wrapped) == (1, 2, 3, 1)


def test_every_way_to_end_is_told_apart() -> None:
    story = Story()
    token = story.login(approle("orders"))
    for outcome in ("granted", "denied", "refused", "refused-by-skyflow", "failed", "unknown"):
        story.creds(token, outcome=outcome)
    (row,) = reported(story.device()).usage
    assert row.tally == Tally(6, granted=1, denied=1, refused=2, failed=1, unknown=1)
    assert row.tally.errors == 4


def test_changes_say_which_key_who_and_in_which_run() -> None:
    found = reported(three_apps().device())
    told = [(each.kind, each.key_id, each.run_id, each.caller.app) for each in found.changes]
    assert told == [
        (ChangeKind.WRITE, "k1", "run0", "root"),
        (ChangeKind.ROTATION_OPENED, "k1", "run1", "root"),
        (ChangeKind.ROTATION_WRITTEN, "k2", "run1", "root"),
        (ChangeKind.ROTATION_COMMITTED, "k2", "run1", "root"),
    ]
    assert found.totals.changes == 4


def test_two_devices_give_the_same_report_as_one(tmp_path: Path) -> None:
    story = three_apps()
    one = report(open_sources([written(tmp_path, "a.log", story.device("a"))]))
    written(tmp_path, "b.log", story.device("b"))
    both = report(open_sources([f"n1={tmp_path}/a.log", f"n1={tmp_path}/b.log"]))
    assert both.usage == one.usage
    assert both.totals == one.totals
    assert both.counts.duplicates > 0


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    first, second = Story(), Story(start=START + timedelta(hours=1), first_id=500)
    for story, app in ((first, "orders"), (second, "bills")):
        story.creds(approle(app), "c")
    names = [
        written(tmp_path, "n1/a.log", first.device()),
        written(tmp_path, "n2/a.log", second.device()),
    ]
    assert report(open_sources(names)) == report(open_sources(names[::-1]))


def test_a_range_includes_its_start_and_not_its_end() -> None:
    story = Story()
    times = []
    for _ in range(3):
        times.append(story.now)
        story.creds(approle("orders"), "c")
        story.config({"credentials_json": "{}"})
        story.wait(minutes=1)
    found = reported(story.device(), asked=ReportScope(since=times[1], until=times[2]))
    assert found.totals.tally.requests == 1
    assert len(found.changes) == 1
    assert (found.range.first, found.range.log_first) == (times[1], times[0])


def test_filters_leave_out_other_mounts_and_their_changes() -> None:
    story = Story()
    for mount in ("skyflow/order", "skyflow/payment"):
        story.creds(approle("orders"), mount=mount)
        story.config({"credentials_json": "{}"}, mount=mount)
    story.creds(approle("bills"))
    story.creds(approle("orders"), role="other")
    asked = ReportScope(
        mount=lambda mount: mount == "skyflow/order",
        role=lambda role: role == "order-producer",
        app=lambda app: app == "orders",
    )
    found = reported(story.device(), asked=asked)
    assert [(row.mount, row.role, row.app) for row in found.usage] == [
        ("skyflow/order", "order-producer", "orders")
    ]
    assert [each.mount for each in found.changes] == ["skyflow/order"]


def test_mounts_of_two_namespaces_are_two() -> None:
    story = Story()
    for namespace in ({"id": "root"}, {"id": "a1b2c3", "path": "team/"}):
        story.creds(approle("orders"), namespace=namespace)
    found = reported(story.device())
    assert [row.mount for row in found.usage] == ["skyflow/order", "team/skyflow/order"]


def test_time_has_equal_buckets_and_none_is_left_out() -> None:
    story = Story()
    story.creds(approle("orders"))
    story.wait(minutes=90)
    story.creds(approle("orders"), outcome="denied")
    story.creds(approle("orders"), mount="skyflow/payment")
    story.creds(approle("orders"), mount="skyflow/payment")
    story.creds(approle("orders"), mount="skyflow/payment")
    series = reported(story.device()).series
    assert series.bucket_seconds == 60
    assert len(series.starts) == 91
    assert {after - before for before, after in pairwise(series.starts)} == {timedelta(minutes=1)}
    payment, order = series.lines
    assert (payment.mount, order.mount) == ("skyflow/payment", "skyflow/order")
    assert (order.requests[0], order.requests[90], sum(order.requests)) == (1, 1, 2)
    assert (order.errors[0], order.errors[90]) == (0, 1)


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        (timedelta(hours=3), 300),
        (timedelta(days=3), 3600),
        (timedelta(days=90), 86_400),
        (timedelta(days=365 * 30), 7 * 86_400),
    ],
)
def test_there_are_never_too_many_buckets(span: timedelta, seconds: int) -> None:
    line = buckets.Timeline()
    for at in range(50):
        line.add("m", f"{START + span * at / 49:%Y-%m-%dT%H:%M}", 2, 1)
    series = line.series()
    assert 1 < len(series.starts) <= buckets.BUCKETS_MAX
    assert series.bucket_seconds >= seconds
    assert sum(series.lines[0].requests) == 100
    assert series.starts[0] <= START < series.starts[1]


def test_many_minutes_become_hours_days_and_months_and_nothing_is_lost() -> None:
    line = buckets.Timeline(cells_max=10)
    for at in range(3000):
        line.add("m", f"{START + timedelta(hours=7 * at):%Y-%m-%dT%H:%M}", 1, 0)
    series = line.series()
    assert sum(series.lines[0].requests) == 3000
    assert len(series.starts) <= buckets.BUCKETS_MAX
    assert line.apart == 13


def test_the_first_and_the_last_time_that_there_is() -> None:
    line = buckets.Timeline()
    line.add("m", "0001-01-01T00:00", 1, 0)
    line.add("m", "9999-12-31T23:59", 1, 0)
    series = line.series()
    assert sum(series.lines[0].requests) == 2
    assert len(series.starts) <= buckets.BUCKETS_MAX


def test_the_heat_map_has_a_cell_for_each_hour_of_the_week() -> None:
    story = Story(start=datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))  # a Sunday
    story.creds(approle("orders"))
    story.wait(seconds=2)
    story.creds(approle("orders"))
    (heat,) = reported(story.device()).heat
    assert (heat.cells[6][23], heat.cells[0][0], sum(heat.hours)) == (1, 1, 2)


def test_top_apps_are_the_busiest_over_all_mounts() -> None:
    story = Story()
    for mount in ("skyflow/order", "skyflow/payment"):
        story.creds(approle("orders"), mount=mount)
    story.creds(userpass("bob"))
    found = reported(story.device())
    assert [(each.app, each.tally.requests, each.roles) for each in found.top_apps] == [
        ("orders", 2, 2),
        ("bob", 1, 1),
    ]


def test_limits_are_told_and_nothing_beyond_them_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "ROWS_MAX", 2)
    monkeypatch.setattr(reporting, "CHANGES_MAX", 1)
    monkeypatch.setattr(usage, "CTX_MAX", 3)
    story = Story()
    for number in range(5):
        story.creds(approle("orders"), f"ctx:{number}")
        story.creds(approle(f"app-{number}"))
        story.config({"credentials_json": "{}"})
    found = reported(story.device())
    limits = {limit.name: limit.left_out for limit in found.limits}
    assert limits == {"rows": 4, "distinct-ctx": 1, "changes": 4}
    assert len(found.usage) == 2
    orders = found.usage[1]
    assert (orders.distinct_ctx, orders.more_ctx) == (3, True)
    assert found.totals.changes == 5


def test_ctx_is_counted_up_to_a_limit_over_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = usage.CtxBudget(3)
    monkeypatch.setattr(reporting, "CtxBudget", lambda: budget)
    story = Story()
    for number in range(4):
        story.creds(approle(f"app-{number}"), "c")
    rows = reported(story.device()).usage
    assert [(row.distinct_ctx, row.more_ctx) for row in rows] == [
        (1, False),
        (1, False),
        (1, False),
        (0, True),
    ]


def test_ctx_that_is_not_the_roles_pattern() -> None:
    story = Story(plain_ctx=True)
    for ctx in ("order:1", "refund:1", "refund:2"):
        story.creds(approle("orders"), ctx)
    story.creds(approle("orders"), "refund:3", plain=False)
    story.creds(approle("orders"), "refund:4", outcome="refused")
    patterns = {("skyflow/order", "order-producer"): _starts_with("order:")}
    found = reported(story.device(), asked=ReportScope(patterns=patterns))
    (unusual,) = found.unusual
    assert unusual.kind is UnusualKind.CTX_OUTSIDE_PATTERN
    assert (unusual.count, unusual.granted) == (3, 2)
    assert unusual.detail == "ctx refund:1 does not match the role's pattern order:*"
    assert found.usage[0].unusual == (UnusualKind.CTX_OUTSIDE_PATTERN,)
    (rule,) = [one for one in found.rules if one.kind is UnusualKind.CTX_OUTSIDE_PATTERN]
    assert rule.not_applied == ""


def _starts_with(text: str) -> Pattern:
    return Pattern(f"{text}*", lambda ctx: ctx.startswith(text))


def test_an_empty_log_is_an_empty_report() -> None:
    found = reported(b"")
    assert (found.usage, found.unusual, found.changes, found.series.starts) == ((), (), (), ())
    assert found.totals.tally == Tally()
    assert found.range.first is None


# The command ------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    story = three_apps(plain_ctx=True)
    story.creds(userpass("=2+5\x1b[31m"), "order:1")
    written(tmp_path, "audit.log", story.device())
    return "audit.log"


def test_the_command_prints_json_after_its_schema(log: str) -> None:
    done = invoke("audit", "report", log, "-o", "json")
    assert done.exit_code == 0, done.output
    data = checked_data(done.stdout)
    assert data["totals"]["requests"] == 7
    assert [each["name"] for each in data["inputs"]] == ["audit.log"]


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_the_tables_fit_and_hold_no_control(
    log: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skyflowctl.cli.commands.audit.report_view import show_report
    from skyflowctl.cli.console import Terminal

    data = json.loads(invoke("audit", "report", log, "-o", "json").stdout)["data"]

    monkeypatch.setattr(Terminal, "width", columns)
    monkeypatch.setattr(Terminal, "interactive_out", True)
    out = io.StringIO()
    show_report(data, Terminal(out=out, no_color=True))
    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= columns
    assert "\x1b" not in out.getvalue()
    assert any("orders" in line for line in lines)


def test_csv_has_a_row_for_each_use_and_no_formula(log: str) -> None:
    done = invoke("audit", "report", log, "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 5
    assert {row["app"][:2] for row in rows if "2+5" in row["app"]} == {"'="}
    assert "\x1b" not in done.stdout


def test_a_folder_of_csv_has_every_table(log: str) -> None:
    done = invoke("audit", "report", log, "--csv", "tables", "-q")
    assert done.exit_code == 0, done.output
    names = {path.name for path in Path("tables").iterdir()}
    assert names == {
        *("usage.csv", "unusual.csv", "changes.csv", "series.csv", "hours.csv", "top_apps.csv")
    }
    changes = list(csv.DictReader(io.StringIO(Path("tables/changes.csv").read_text())))
    assert [row["key_id"] for row in changes] == ["k1", "k1", "k2", "k2"]


def test_patterns_come_from_the_manifest(log: str) -> None:
    Path("mounts.yaml").write_text(
        "version: 1\nmanifest: shop\nmounts:\n  order:\n    credentials: {file: key.json}\n"
        "    roles:\n      order-producer:\n        role_ids: [role-1]\n"
        "        ctx: {pattern: 'order:1*', probe: 'order:1'}\n"
    )
    done = invoke("audit", "report", log, "-f", "mounts.yaml", "--mount", "order", "-o", "json")
    data = checked_data(done.stdout)
    told = [(each["app"], each["detail"]) for each in data["unusual"]]
    assert ("bob", "ctx order:2 does not match the role's pattern order:1*") in told


def test_filters_and_times_of_the_command(log: str) -> None:
    words = ("--app", "b*", "--role", "order-*", "--since", "2026-11-22", "--until", "2026-11-22")
    data = checked_data(invoke("audit", "report", log, *words, "-o", "json").stdout)
    assert {row["app"] for row in data["usage"]} == {"bob"}
    assert data["range"]["until"] == "2026-11-23T00:00:00Z"


def test_damaged_lines_are_warned_of(log: str) -> None:
    with Path(log).open("ab") as file:
        file.write(b"{broken\n")
    done = invoke("audit", "report", log)
    assert done.exit_code == 0
    assert "not-json 1" in done.stderr


def test_mistakes_of_the_command_line(log: str) -> None:
    for words, code in (
        (("nobody.log",), 65),
        ((log, "--since", "yesterday"), 64),
        ((log, "--csv", log), 5),
    ):
        done = invoke("audit", "report", *words, "-o", "json")
        assert done.exit_code == code, words
        assert checked_envelope(done.stdout)["errors"]
