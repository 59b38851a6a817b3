"""``audit unused``: what gave no token for long, and when that cannot be said."""

from __future__ import annotations

from datetime import timedelta

from support.audit_logs import START, Story, approle, userpass, written
from support.cli import checked_data, invoke

MANIFEST = """\
version: 1
manifest: shop
mounts:
  order:
    credentials: {file: order.json}
    roles:
      order-producer: {role_ids: [r1]}
      order-reader: {role_ids: [r2]}
      order-refused: {role_ids: [r3]}
"""


def a_long_story():
    story = Story()
    story.creds(approle("old"), role="order-reader")
    story.wait(days=50)
    story.creds(userpass("bob"), role="order-producer")
    story.creds(userpass("bob"), role="order-refused", outcome="denied")
    story.wait(days=50)
    story.creds(approle("orders"), role="order-producer")
    return story


def asked(tmp_path, *words, log=None):
    log = log or written(tmp_path, "audit.log", a_long_story().device())
    done = invoke("audit", "unused", log, "-o", "json", *words)
    assert done.exit_code == 0, done.output
    data = checked_data(done.stdout)
    return data, {(one["kind"], one["name"]): one["last_used"] for one in data["unused"]}, done


def test_what_was_not_used_in_the_window_of_a_log_that_covers_it(tmp_path):
    data, found, _ = asked(tmp_path, "--days", "90")
    assert data["certain"]
    assert set(found) == {
        ("role", "skyflow/order/creds/order-reader"),
        ("consumer", "old"),
        ("policy", "old-policy"),
    }
    _, found, _ = asked(tmp_path, "--days", "30")
    assert ("consumer", "bob") in found
    assert ("role", "skyflow/order/creds/order-producer") not in found


def test_a_manifest_names_what_was_never_used(tmp_path):
    path = tmp_path / "mounts.yaml"
    path.write_text(MANIFEST)
    data, found, _ = asked(tmp_path, "-f", str(path))
    assert data["source"] == "manifest"
    assert data["counts"]["role"] == 3
    assert found["role", "skyflow/order/creds/order-refused"] is None
    assert found["role", "skyflow/order/creds/order-reader"].startswith("2026-11-22")


def test_a_short_log_makes_nothing_certain(tmp_path):
    data, _, done = asked(tmp_path, "--days", "101")
    assert not data["certain"]
    assert "the logs cover 100 days, not the 101 days" in done.stderr
    text = invoke("audit", "unused", str(tmp_path / "audit.log"), "--days", "101")
    assert "not seen in use" in text.stderr
    assert "unused in" not in text.stderr


def test_a_node_whose_log_begins_later_shortens_what_is_covered(tmp_path):
    late = Story(start=START + timedelta(days=80))
    late.creds(approle("orders"))
    one = written(tmp_path, "a/audit.log", a_long_story().device())
    two = written(tmp_path, "b/audit.log", late.device())
    done = invoke("audit", "unused", f"n1={one}", f"n2={two}", "--days", "90", "-o", "json")
    data = checked_data(done.stdout)
    assert not data["certain"]
    assert data["log"]["seconds"] // 86_400 == 20


def test_an_empty_log_is_no_proof(tmp_path):
    data, found, done = asked(tmp_path, log=written(tmp_path, "audit.log", b""))
    assert (data["certain"], found) == (False, {})
    assert "the logs cover 0 seconds" in done.stderr


def test_the_screen_is_harmless_and_bad_spans_are_refused(tmp_path):
    story = Story()
    story.creds(userpass("\x1b[2Jx"))
    story.wait(days=2)
    story.creds(userpass("bob"))
    log = written(tmp_path, "audit.log", story.device())
    done = invoke("audit", "unused", log, "--days", "1")
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert "\\e[2Jx" in done.stdout
    for span in ("0", "x", "-1", "99999999999"):
        assert invoke("audit", "unused", log, f"--days={span}").exit_code == 64
