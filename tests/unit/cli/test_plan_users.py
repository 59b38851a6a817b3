"""Who is affected by a plan: consumers of the manifest, and apps in the audit logs."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.audit_logs import Story, approle, userpass, written
from support.cli import checked_data, invoke
from support.reached import MANIFEST, reached

WITH_CONSUMERS = (
    MANIFEST.replace(
        "      writer: {role_ids: [skyflow-writer]}",
        """      writer:
        role_ids: [skyflow-writer]
        consumers: {approle: {orders: {}}}""",
    )
    + """policies:
  wide: {text: 'path "skyflow/order/*" { capabilities = ["read"] }'}
auth:
  approle:
    type: approle
    roles:
      auditor: {policies: [wide]}
"""
)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with the manifest and a role that is none of it; then a role was changed."""
    found = reached(tmp_path, monkeypatch)
    Path("mounts.yaml").write_text(
        MANIFEST.replace("  pay:", "      old: {role_ids: [skyflow-old]}\n  pay:")
    )
    assert invoke("apply", "-y").exit_code == 0
    Path("mounts.yaml").write_text(MANIFEST)
    found.roles["skyflow/order"]["writer"]["role_ids"] = ["skyflow-other"]
    return found


@pytest.fixture
def story():
    made = Story()
    orders, bob = made.login(approle("orders")), made.login(userpass("bob"))
    for number in range(3):
        made.creds(orders, f"order:{number}", role="writer")
    made.creds(orders, "order:9", role="old")
    made.creds(bob, "order:9", role="writer")
    made.creds(bob, "order:9", role="old", outcome="denied")
    return made


def impact_of(*args: str) -> dict:
    done = invoke("plan", "--prune", *args, "-o", "json")
    assert done.exit_code == 0, done.stderr
    return checked_data(done.stdout)["impact"]


def test_who_used_what_how_often_and_when_last(server, story, tmp_path):
    found = impact_of("--audit", written(tmp_path, "audit.log", story.device()))
    writer, old = found["objects"]
    assert (writer["action"], writer["kind"], writer["path"]) == (
        "update",
        "role",
        "skyflow/order/roles/writer",
    )
    assert [(one["app"], one["auth"], one["requests"]) for one in writer["used"]["by"]] == [
        ("bob", "userpass", 1),
        ("orders", "approle", 3),
    ]
    assert writer["used"]["requests"] == 4
    assert writer["used"]["last"] == writer["used"]["by"][0]["last"] > "2026-11-22T18:00"
    assert old["action"] == "delete"
    assert [(one["app"], one["requests"]) for one in old["used"]["by"]] == [("orders", 1)]
    assert found["log"]["certain"] is True
    assert (found["log"]["start"], found["log"]["files"]) == ("2026-11-22T18:00:00Z", 1)


def test_the_text_and_the_page_say_it(server, story, tmp_path):
    log = written(tmp_path, "audit.log", story.device())
    text = invoke("plan", "--prune", "--audit", log).stdout
    assert "    used by    orders (approle): 1 time, last 2026-11-22T18:00" in text
    assert "               orders (approle): 3 times, last 2026" in text
    assert "\nAudit logs: 2026-11-22T18:00" in text
    page = invoke("plan", "--prune", "--audit", log, "-o", "markdown").stdout
    assert "#     used by    bob (userpass): 1 time, last 2026" in page


def test_nobody_is_said_only_of_what_could_be_read(server, story, tmp_path):
    quiet = Story()
    quiet.creds(quiet.login(approle("x")), role="another")
    log = written(tmp_path, "audit.log", quiet.device())
    assert "nobody in these logs" in invoke("plan", "--prune", "--audit", log).stdout
    written(tmp_path, "audit.log", quiet.device() + b"{broken\n" + quiet.device())
    text = invoke("plan", "--prune", "--audit", log).stdout
    assert "nobody in what could be read" in text
    assert "; not certain: 1 line could not be read" in text
    written(tmp_path, "audit.log", b"")
    text = invoke("plan", "--prune", "--audit", log).stdout
    assert "no entry could be read, so it is not known who used what" in text


def test_several_nodes_and_packed_logs_are_one(server, story, tmp_path):
    other = Story(first_id=1000)
    other.creds(other.login(approle("orders", number=7)), "order:5", role="old")
    written(tmp_path, "a.log.1.gz", gzip.compress(story.device()))
    written(tmp_path, "b.log", other.device())
    _, old = impact_of("--audit", "a=a.log*", "--audit", "b=b.log")["objects"]
    assert old["used"]["requests"] == 2


def test_consumers_are_named_without_logs(server):
    assert [one["consumers"] for one in impact_of()["objects"]] == [[], []]
    Path("mounts.yaml").write_text(WITH_CONSUMERS)
    found = impact_of()
    writer, old = found["objects"]
    names = [[one["name"] for one in each["consumers"]] for each in (writer, old)]
    assert names == [["auditor", "orders"], ["auditor"]]
    assert (writer["used"], found["log"]) == (None, None)
    text = invoke("plan", "--prune").stdout
    assert "    consumers  auditor, orders\n" in text
    assert "Audit logs" not in text


def test_a_plan_that_touches_nobody_has_no_field_and_reads_no_log(server, story, tmp_path):
    del server.roles["skyflow/order"]["old"]
    assert invoke("apply", "-y").exit_code == 0
    log = written(tmp_path, "audit.log", story.device())
    assert "impact" not in checked_data(invoke("plan", "-o", "json").stdout)
    assert impact_of("--audit", log) == {"objects": [], "log": None}
    assert "Audit logs: not read" in invoke("plan", "--audit", log).stdout


def test_apply_shows_it_before_its_question_and_returns_it(server, story, tmp_path):
    log = written(tmp_path, "audit.log", story.device())
    asked = invoke("apply", "--prune", "--audit", log)
    assert asked.exit_code == 5
    assert "orders (approle): 1 time" in asked.stderr
    done = invoke("apply", "--audit", log, "-y", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert len(checked_data(done.stdout)["impact"]["objects"]) == 1


def test_a_saved_plan_has_no_log_and_is_applied_with_one(server, story, tmp_path, monkeypatch):
    monkeypatch.setattr("skyflowctl.operations.saved_plan._fingerprints", lambda *_: ())
    log = written(tmp_path, "audit.log", story.device())
    assert invoke("plan", "--out", "p.json", "--audit", log).exit_code == 0
    assert "orders" not in Path("p.json").read_text()
    done = invoke("apply", "p.json", "--audit", log, "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert checked_data(done.stdout)["impact"]["log"]["certain"] is True


@pytest.mark.parametrize(("pattern", "code"), [("none.log", 65), ("-", 64), ("n=-", 64)])
def test_logs_that_cannot_be_read_are_refused_before_the_server_is_asked(server, pattern, code):
    server.log.clear()
    done = invoke("plan", "--audit", pattern, "-o", "json")
    assert done.exit_code == code, json.loads(done.stdout)
    assert server.log == []


def test_consumers_are_found_without_a_reader_of_logs() -> None:
    script = "import sys, skyflowctl.operations.plan_impact; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "skyflowctl.posture.grants" in loaded
    assert not {one for one in loaded if one.startswith(("skyflowctl.audit", "msgspec"))}
