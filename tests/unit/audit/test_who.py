"""``audit who`` as it is called: forms of output, hashes, a found token, hostile values."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from support.audit_logs import Story, approle, hashed, three_apps, userpass, written
from support.cli import checked_data, checked_envelope, invoke, schema_of

HOSTILE = "\x1b]0;owned\x07\x1b[2J<script>\u202e=cmd|'/C calc'!A0\n2026"


@pytest.fixture
def log(tmp_path):
    return written(tmp_path, "audit.log", three_apps(plain_ctx=True).device())


def test_every_request_is_a_row_with_the_fields_of_the_design(log):
    data = checked_data(invoke("audit", "who", log, "-o", "json").stdout)
    assert [(one["app"], one["auth"], one["outcome"]) for one in data["requests"]] == [
        ("orders", "approle", "granted"),
        ("bob", "userpass", "granted"),
        ("token-legacy", "token", "granted"),
        ("orders", "approle", "granted"),
        ("bob", "userpass", "denied"),
        ("orders", "approle", "granted"),
    ]
    first = data["requests"][0]
    design = "time app claimed_app auth mount role ctx ctx_hashed outcome request_id node"
    assert list(first)[:11] == design.split()
    assert first["claimed_app"] == "orders-api"
    assert data["requests"][3]["unwrapped_by"] == "bob"
    assert data["requests"][4]["error"] == "permission denied"
    assert data["summary"]["read"]["forwards"] == 1


def test_each_form_has_the_same_rows(log):
    rows = checked_data(invoke("audit", "who", log, "-o", "json").stdout)["requests"]
    events = [
        json.loads(one) for one in invoke("audit", "who", log, "-o", "ndjson").stdout.splitlines()
    ]
    assert [one["type"] for one in events] == ["version", *["request"] * 6, "result"]
    assert [{key: one[key] for key in rows[0]} for one in events[1:-1]] == rows
    Draft202012Validator(schema_of("audit who")).validate(events[-1]["data"])
    cells = list(csv.DictReader(io.StringIO(invoke("audit", "who", log, "-o", "csv").stdout)))
    assert [one["request_id"] for one in cells] == [one["request_id"] for one in rows]
    table = invoke("audit", "who", log)
    assert len(table.stdout.splitlines()) == 7
    assert "6 requests; 34 lines of 1 file read; 1 forwarded by a standby" in table.stderr


def test_nothing_found_is_no_failure_and_is_said(log):
    done = invoke("audit", "who", log, "--app", "nobody")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no such request" in done.stderr


def test_a_name_a_path_and_a_glob_of_mounts(log):
    for mount, found in (
        ("order", 6),
        ("skyflow/order", 6),
        ("ord*", 6),
        ("*/order", 6),
        ("pay", 0),
    ):
        data = checked_data(invoke("audit", "who", log, "--mount", mount, "-o", "json").stdout)
        assert len(data["requests"]) == found, mount


def test_hashed_values_are_told_to_be_out_of_reach_and_found_by_their_hash(tmp_path):
    log = written(tmp_path, "audit.log", three_apps().device())
    done = invoke("audit", "who", log, "--ctx", "order:1")
    assert done.exit_code == 0
    assert "could not be searched" in done.stderr
    assert "--hashed" in done.stderr
    found = invoke("audit", "who", log, "--hashed", hashed("order:1"), "-o", "json")
    assert len(checked_data(found.stdout)["requests"]) == 2


def test_a_server_that_does_not_answer_costs_only_the_hashed_ones(log):
    env = {"BAO_ADDR": "http://127.0.0.1:1", "BAO_TOKEN": "t", "BAO_MAX_RETRIES": "0"}
    done = invoke("audit", "who", log, "--ctx", "order:1", "-o", "json", env=env)
    assert len(checked_data(done.stdout)["requests"]) == 2
    assert "could not be asked for hashes" in done.stderr
    assert invoke("audit", "who", log, "--token", "-", env=env, stdin="b1").exit_code == 69


def test_a_token_is_never_taken_from_the_command_line(log):
    done = invoke("audit", "who", log, "--token", "sky-bearer-on-argv", "-v", "-v")
    assert done.exit_code == 64
    assert "sky-bearer" not in done.output
    assert invoke("audit", "who", log, "--token", "-", stdin="a b").exit_code == 64
    assert invoke("audit", "who", log, "--token", "-", stdin=" \n").exit_code == 64


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no audit log is named"),
        (("-", "--token", "-"), "both read standard input"),
        (("n=-", "--token-file", "-"), "both read standard input"),
        (("nothing-*.log",), "no file matches"),
        (("{log}", "--outcome", "good"), "--outcome good is none"),
        (("{log}", "--since", "2026-11-22", "--until", "2026-11-20"), "--until is not after"),
        (("{log}", "--hashed", "abc"), "--hashed is not a hash"),
        (("{log}", "--ctx", "{nonsense"), "not a JSON object"),
    ],
)
def test_mistakes_are_usage_errors(log, words, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = invoke("audit", "who", *[one.format(log=log) if "log" in one else one for one in words])
    assert done.exit_code == 64, done.output
    assert says in done.stderr


def test_the_environment_names_logs_and_arguments_win(log, tmp_path):
    env = {"SKYFLOWCTL_AUDIT_LOG": f"a={log}:{tmp_path}/none-*"}
    assert invoke("audit", "who", env=env).exit_code == 64
    env = {"SKYFLOWCTL_AUDIT_LOG": f"a={log}"}
    data = checked_data(invoke("audit", "who", "-o", "json", env=env).stdout)
    assert {one["node"] for one in data["requests"]} == {"a"}
    data = checked_data(invoke("audit", "who", f"b={log}", "-o", "json", env=env).stdout)
    assert {one["node"] for one in data["requests"]} == {"b"}


def test_standard_input_is_a_log(log):
    with Path(log).open("rb") as file:
        done = invoke("audit", "who", "-", "-o", "json", stdin=file.read().decode())
    assert len(checked_data(done.stdout)["requests"]) == 6


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_no_value_of_a_caller_acts_on_a_terminal_or_a_spreadsheet(tmp_path, form, verbose):
    story = Story(plain_ctx=True)
    story.creds(
        userpass(HOSTILE),
        HOSTILE,
        role=HOSTILE,
        claimed=HOSTILE,
        run=HOSTILE,
        request_id="=1+1",
        mount="skyflow/=order",
    )
    done = invoke("audit", "who", written(tmp_path, "=a.log", story.device()), "-o", form, *verbose)
    assert done.exit_code == 0, done.output
    for text in (done.stdout, done.stderr):
        assert not set("\x1b\x07\u202e") & set(text)
    if form == "csv":
        rows = list(csv.reader(io.StringIO(done.stdout)))
        assert len(rows) == 2
        assert not [cell for cell in rows[1] if cell[:1] in set("=+-@")]
    elif form == "json":
        assert checked_envelope(done.stdout)["data"]["requests"][0]["ctx"] == HOSTILE


def test_damaged_lines_are_counted_by_reason(tmp_path):
    whole = three_apps().device() + b"half a line\n" + b'{"type":"request"}\n' + b"\xff\n"
    done = invoke("audit", "who", written(tmp_path, "audit.log", whole), "-o", "json")
    damaged = checked_data(done.stdout)["summary"]["read"]["damaged"]
    assert damaged == {"not-an-entry": 1, "not-json": 2}
    assert "3 damaged" in invoke("audit", "who", str(tmp_path / "audit.log")).stderr


def test_d_a_narrow_terminal_cuts_no_word_id_or_path(tmp_path):
    from skyflowctl.cli.commands.audit.view import StreamedTable, request_json
    from skyflowctl.cli.console import Terminal, columns

    class Screen(io.StringIO):
        def isatty(self):
            return True

    from skyflowctl.audit.query import Query
    from skyflowctl.audit.search import Search
    from skyflowctl.audit.sources import open_sources

    story = Story(plain_ctx=True)
    for number in range(3):
        story.creds(approle("a-very-long-name-of-an-application"), f"order:{number}-" + "界" * 20)
    log = written(tmp_path, "audit.log", story.device())
    rows = [request_json(one) for one in Search(open_sources([log]), Query(), ("skyflow",))]
    for width in (60, 80, 100, 120, 150, 200):
        screen = Screen()
        terminal = Terminal(out=screen, no_color=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            table = StreamedTable(terminal)
            for row in rows:
                table.add(row)
            table.flush()
        shown = screen.getvalue()
        lines = shown.splitlines()
        assert max(columns(line) for line in lines) <= width
        assert "…" not in shown
        for row in rows:
            words = (row["app"], row["role"], row["ctx"], row["outcome"], row["mount"][8:])
            assert [word for word in words if word not in shown] == []
        assert lines[0].startswith("TIME") is (width >= 150)
        assert ("AUTH" in lines[0]) is (width == 200)
        assert len(lines) == {60: 12, 80: 9, 100: 6, 120: 6}.get(width, 4)


def test_d_a_later_row_that_has_no_room_in_its_columns_is_a_block(monkeypatch, tmp_path):
    from skyflowctl.cli.commands.audit.view import StreamedTable, request_json
    from skyflowctl.cli.console import Terminal

    class Screen(io.StringIO):
        def isatty(self):
            return True

    from skyflowctl.audit.query import Query
    from skyflowctl.audit.search import Search
    from skyflowctl.audit.sources import open_sources

    story = Story(plain_ctx=True)
    story.creds(approle("orders"), "order:1")
    story.creds(approle("o" * 40), "order:2")
    log = written(tmp_path, "audit.log", story.device())
    rows = [request_json(one) for one in Search(open_sources([log]), Query(), ("skyflow",))]
    monkeypatch.setattr(StreamedTable, "_FIRST", 1)
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen()
    table = StreamedTable(Terminal(out=screen, no_color=True))
    for row in rows:
        table.add(row)
    lines = screen.getvalue().splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["TIME", "2026-11-22"]
    assert lines[2].endswith(f"{'o' * 40} (approle)")
    assert lines[3] == "  skyflow/order/creds/order-producer  ctx order:2"


@pytest.mark.parametrize("name", ["who", "tail", "report", "unused", "denied", "posture"])
def test_d_help_of_each_audit_command_fits_80_columns(name: str, monkeypatch):
    from skyflowctl.cli.console import columns

    monkeypatch.setenv("COLUMNS", "80")
    shown = invoke("audit", name, "--help").stdout
    assert "Usage" in shown
    assert [line for line in shown.splitlines() if columns(line) > 80] == []


def test_more_rows_than_one_object_may_hold_are_refused_with_the_way_out(log, monkeypatch):
    from skyflowctl.cli.commands.audit import rows

    monkeypatch.setattr(rows, "JSON_ROWS_MAX", 5)
    done = invoke("audit", "who", log, "-o", "json")
    assert done.exit_code == 64
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "too-many-rows"
    assert len(invoke("audit", "who", log, "-o", "ndjson").stdout.splitlines()) == 8
