"""D2: the report shows every change that bears on tokens, and says which rules were applied."""

from __future__ import annotations

from typing import Any

import pytest
from support.audit_logs import ROOT, Hashed, Story, Token, approle, hashed, userpass, written
from support.cli import checked_data, invoke

from skyflowctl.vault.guards import guard_probe

BOB = userpass("bob")
ORDER = ("skyflow/order/", "skyflow")
MANIFEST = """
version: 1
manifest: shop
plugin: {name: skyflow, version: v1.0.0}
defaults: {tags: [env:production]}
mounts:
  order:
    path: skyflow/order
    credentials: {file: x.json}
    roles:
      order-producer: {role_ids: [a], ctx: {pattern: "order:*", probe: "order:probe"}}
"""


def asked(tmp_path, story: Story, *args: str) -> dict[str, Any]:
    log = written(tmp_path, "audit.log", story.device())
    return checked_data(invoke("audit", "report", log, *args, "-o", "json").stdout)


def kinds(data: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in data["unusual"]]


def write_role(story: Story, role_id: str, *, run: str = "", operation: str = "update") -> None:
    story.pair(
        BOB,
        operation,
        "skyflow/order/roles/order-producer",
        mount=ORDER,
        data={"cas": 1, "role_ids": [Hashed(role_id)], "ctx_required": False},
        response={"data": {"version": 2}},
        headers={"x-skyflowctl-run": run} if run else None,
    )


CHANGES = {
    "mount-enabled": ("update", "sys/mounts/skyflow/new"),
    "mount-disabled": ("delete", "sys/mounts/skyflow/new"),
    "mount-tuned": ("update", "sys/mounts/skyflow/order/tune"),
    "mount-moved": ("update", "sys/remount"),
    "policy-written": ("update", "sys/policies/acl/order-producer"),
    "policy-deleted": ("delete", "sys/policy/order-producer"),
    "plugin-registered": ("update", "sys/plugins/catalog/secret/skyflow"),
    "plugin-removed": ("delete", "sys/plugins/catalog/secret/skyflow"),
    "plugin-reloaded": ("update", "sys/plugins/reload/backend"),
    "audit-device-enabled": ("update", "sys/audit/file2"),
    "audit-device-disabled": ("delete", "sys/audit/file2"),
    "snapshot-restored": ("update", "sys/storage/raft/snapshot-force"),
    "root-token-generated": ("update", "sys/generate-root/update"),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("devices", [1, 2])
def test_d2_every_change_of_the_server_is_shown_once_by_whom_and_in_which_run(
    tmp_path, kind: str, devices: int
) -> None:
    operation, path = CHANGES[kind]
    story = Story()
    story.login(BOB)
    data = {"type": Hashed("skyflow"), "config": {"max_lease_ttl": 3600}}
    story.pair(BOB, operation, path, data=data, headers={"x-skyflowctl-run": "run7"})
    logs = [written(tmp_path, f"{salt}.log", story.device(salt)) for salt in "ab"[:devices]]
    found = checked_data(invoke("audit", "report", *logs, "-o", "json").stdout)
    (change,) = found["changes"]
    assert (change["kind"], change["outcome"]) == (kind, "granted")
    assert (change["app"], change["auth"], change["run_id"]) == ("bob", "userpass", "run7")
    assert found["totals"]["changes"] == 1
    if operation == "update":
        fields = {one["field"]: one["after"] for one in change["changes"]}
        assert fields == {"type": hashed("skyflow"), "config.max_lease_ttl": "3600"}


def test_d2_reads_and_the_servers_test_of_a_device_are_no_changes(tmp_path) -> None:
    story = Story()
    for path in ("sys/mounts", "sys/policies/acl/x", "sys/audit"):
        story.pair(BOB, "read", path)
    story.pair(None, "update", "sys/audit/test", answered=False)
    story.pair(BOB, "update", "sys/tools/hash")
    assert asked(tmp_path, story)["changes"] == []


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ({"response": {"data": {"error": Hashed("no")}}, "error": "unsupported path"}, []),
        ({"response": {"wrap_info": {"ttl": 60, "token": Hashed("s.w")}}}, []),
        ({"response": {"data": {"version": 2}}}, [("write", "granted")]),
        ({"error": "permission denied", "allowed": False}, [("write", "denied")]),
        ({"answered": False}, [("write", "unknown")]),
    ],
    ids=["refused", "parked", "granted", "denied", "unanswered"],
)
def test_a1_a_guard_probe_is_no_change_unless_it_wrote(tmp_path, ends, shown) -> None:
    """An engine with the basic API drops the probe's mark and keeps the credential."""
    story = Story()
    story.login(BOB)
    data = {key: Hashed("") for key in guard_probe("skyflow/order/config")}
    story.pair(BOB, "update", "skyflow/order/config", mount=ORDER, data=data, **ends)
    changes = asked(tmp_path, story)["changes"]
    assert [(one["kind"], one["outcome"]) for one in changes] == shown


def test_d2_a_change_that_was_denied_is_shown_as_such(tmp_path) -> None:
    story = Story()
    story.pair(BOB, "update", "sys/policies/acl/x", error="permission denied", allowed=False)
    (change,) = asked(tmp_path, story)["changes"]
    assert (change["name"], change["outcome"], change["changes"]) == ("x", "denied", [])


def test_d2_a_role_has_before_and_after_where_the_log_has_them(tmp_path) -> None:
    story = Story()
    write_role(story, "first", run="run1", operation="create")
    write_role(story, "second", run="run2")
    story.pair(BOB, "delete", "skyflow/order/roles/order-producer", mount=ORDER)
    found = asked(tmp_path, story)
    role_ids = [
        (one["kind"], change["before"], change["after"])
        for one in found["changes"]
        for change in one["changes"]
        if change["field"] == "role_ids"
    ]
    first, second = hashed("first"), hashed("second")
    assert role_ids == [
        ("role-written", None, first),
        ("role-written", first, second),
        ("role-deleted", second, None),
    ]
    assert {one["name"] for one in found["changes"]} == {"order-producer"}
    assert kinds(found) == []


def test_d2_what_a_list_of_roles_showed_is_the_before(tmp_path) -> None:
    story = Story()
    answer = {"data": {"key_info": {"order-producer": {"role_ids": [Hashed("first")]}}}}
    story.pair(BOB, "list", "skyflow/order/roles/", mount=ORDER, response=answer)
    write_role(story, "first", run="run1")
    write_role(story, "second")
    (finding,) = asked(tmp_path, story)["unusual"]
    assert finding["kind"] == "role-id-changed-by-hand"
    assert f"from {hashed('first')} to {hashed('second')}" in finding["detail"]


@pytest.mark.parametrize("devices", ["a", "ab"])
def test_d2_a_role_id_changed_by_hand_is_unusual_and_a_run_of_ours_is_not(
    tmp_path, devices: str
) -> None:
    story = Story()
    write_role(story, "first", run="run1", operation="create")
    write_role(story, "first")
    write_role(story, "second")
    write_role(story, "third", run="run2")
    logs = [written(tmp_path, f"{salt}.log", story.device(salt)) for salt in devices]
    found = checked_data(invoke("audit", "report", *logs, "-o", "json").stdout)
    (finding,) = found["unusual"]
    assert (finding["kind"], finding["app"]) == ("role-id-changed-by-hand", "bob")
    assert (finding["mount"], finding["role"]) == ("skyflow/order", "order-producer")


def test_d2_without_audited_headers_nobody_can_tell_a_hand_from_a_run(tmp_path) -> None:
    """Each apply of skyflowctl looked like a change by hand."""
    story = Story()
    write_role(story, "first")
    write_role(story, "second")
    found = asked(tmp_path, story)
    assert len(found["changes"]) == 2
    assert found["unusual"] == []
    assert "role-id-changed-by-hand" not in found["rules_applied"]


def test_d2_each_version_of_a_plugin_is_an_entry_of_its_own(tmp_path) -> None:
    story = Story()
    path = "sys/plugins/catalog/secret/skyflow"
    story.pair(BOB, "update", path, data={"version": Hashed("v1.0.0"), "sha256": Hashed("ab")})
    story.pair(BOB, "delete", path, data={"version": Hashed("v9.9.9")})
    story.pair(BOB, "delete", path, data={"version": Hashed("v1.0.0")})
    _, other, removed = asked(tmp_path, story)["changes"]
    assert other["changes"] == []
    assert removed["changes"] == [{"field": "sha256", "before": hashed("ab"), "after": None}]


def test_d2_a_root_token_is_unusual_whatever_it_did(tmp_path) -> None:
    story = Story()
    story.pair(ROOT, "read", "sys/mounts")
    story.pair(ROOT, "update", "sys/policies/acl/x")
    story.creds(ROOT)
    story.creds(approle("orders"))
    (finding,) = asked(tmp_path, story)["unusual"]
    assert (finding["kind"], finding["count"], finding["mount"]) == ("root-token", 3, None)
    assert "1 for Skyflow tokens, 1 for changes, 1 for anything else" in finding["detail"]


def test_d2_an_undeclared_role_is_unusual_if_it_gave_a_token(tmp_path) -> None:
    story = Story()
    story.creds(approle("orders"))
    story.creds(approle("orders"), role="secret-door")
    story.creds(approle("orders"), role="no-such", outcome="refused")
    story.creds(approle("orders"), mount="skyflow/rogue", role="x")
    manifest = tmp_path / "m.yaml"
    manifest.write_text(MANIFEST)
    found = asked(tmp_path, story, "-f", str(manifest))
    undeclared = [(one["mount"], one["role"]) for one in found["unusual"]]
    assert undeclared == [("skyflow/order", "secret-door"), ("skyflow/rogue", "x")]
    assert set(kinds(found)) == {"undeclared-role"}
    assert found["subject"] == {"cluster": None, "environment": "production"}


def hours_of(story: Story, hours: int, requests: int, failed: int) -> None:
    for _ in range(hours):
        for number in range(requests):
            outcome = "failed" if number < failed else "granted"
            story.creds(approle("orders"), outcome=outcome)
        story.wait(hours=1)


@pytest.mark.parametrize(
    ("failed", "expected"), [(0, []), (5, []), (20, ["failure-jump"])], ids=str
)
def test_d2_a_share_of_failed_requests_that_jumps_is_unusual(tmp_path, failed, expected) -> None:
    story = Story()
    hours_of(story, 8, 40, 1)
    hours_of(story, 1, 40, failed)
    found = asked(tmp_path, story)
    assert kinds(found) == expected
    assert "failure-jump" in found["rules_applied"]
    if expected:
        detail = found["unusual"][0]["detail"]
        assert "20 of 40 requests failed (50.0 %)" in detail
        assert "before them 2.5 % of 320 did" in detail


def test_d2_failures_that_were_always_there_are_no_jump(tmp_path) -> None:
    story = Story()
    hours_of(story, 9, 40, 12)
    assert kinds(asked(tmp_path, story)) == []


def test_d2_a_failure_share_before_since_only_tells_what_is_usual(tmp_path) -> None:
    story = Story()
    hours_of(story, 8, 40, 1)
    since = story.now.strftime("%Y-%m-%dT%H:00:00Z")
    hours_of(story, 1, 40, 20)
    assert kinds(asked(tmp_path, story, "--since", since)) == ["failure-jump"]


def test_d2_nothing_unusual_is_said_only_of_rules_that_were_applied(tmp_path) -> None:
    story = Story()
    story.creds(approle("orders"))
    found = asked(tmp_path, story)
    assert found["unusual"] == []
    assert found["rules_applied"] == ["root-token"]
    missing = {one["rule"]: one["why"] for one in found["rules_not_applied"]}
    assert "not an audited header" in missing["role-id-changed-by-hand"]
    assert "name the manifest" in missing["undeclared-role"]
    assert "less than a day, not the required 7 days" in missing["first-seen-app"]
    log = written(tmp_path, "audit.log", story.device())
    text = invoke("audit", "report", log, "--html", str(tmp_path / "r.html")).stdout
    assert "nothing unusual by the rules that were applied" in text
    applied, _, others = text.partition("Rules that could not be applied")
    assert "root-token:" in applied
    assert "undeclared-role:" in others
    page = (tmp_path / "r.html").read_text()
    assert "No anomalies were detected by the 1 rule applied; 6 could not be applied." in page
    assert "Nothing unusual" not in page


def test_d2_the_page_names_cluster_environment_and_period_in_its_title(tmp_path) -> None:
    story = Story()
    story.creds(approle("orders"))
    story.wait(days=9)
    story.creds(approle("orders"))
    log = written(tmp_path, "audit.log", story.device())
    page = tmp_path / "r.html"
    names = ("--cluster", "prod-eu <1>", "--environment", "production")
    invoke("audit", "report", log, "--html", str(page), *names)
    source = page.read_text()
    title = "Skyflow token access: prod-eu &lt;1&gt;, production"
    assert f"<title>{title}, 22 Nov 2026 to 1 Dec 2026, UTC</title>" in source
    assert f"<h1>{title}</h1>" in source
    invoke("audit", "report", log, "--html", str(page), "--since", "2026-11-01")
    source = page.read_text()
    assert "cluster not named, environment not named, 1 Nov 2026 to 1 Dec 2026, UTC" in source


def test_d2_the_page_has_headings_for_a_board_and_every_change(tmp_path) -> None:
    story = Story()
    write_role(story, "<script>", operation="create")
    write_role(story, "second")
    log = written(tmp_path, "audit.log", story.device())
    page = tmp_path / "r.html"
    invoke("audit", "report", log, "--html", str(page))
    source = page.read_text()
    for heading in ("Anomalies", "How anomalies are detected", "Sources and method"):
        assert heading in source
    assert "Role ID changed manually" in source
    assert source.count("Role written") == 2


def test_d2_a_token_of_a_policy_named_otherwise_is_no_root(tmp_path) -> None:
    story = Story()
    story.creds(Token("x", "root", ("rooted",)))
    assert kinds(asked(tmp_path, story)) == []


def cut_off(story: Story, *, run: str = "cut1", plain: bool = False) -> None:
    """What ``config revoke`` sends: the cut-off, and requests that prove it."""
    story.pair(
        BOB,
        "delete",
        "skyflow/order/config",
        mount=ORDER,
        data={"reason": "INC-1042" if plain else Hashed("INC-1042"), "run": Hashed(run)},
        response={},
        headers={"x-skyflowctl-run": run},
    )
    for role in ("order-producer", "order-reader"):
        story.creds(BOB, role=role, outcome="refused", run=run)


def shown_report(tmp_path, story: Story) -> str:
    log = written(tmp_path, "audit.log", story.device())
    return invoke("audit", "report", log, "--html", str(tmp_path / "page.html")).stdout


def test_d2_a_cut_offs_reason_that_is_hashed_is_said_to_be(tmp_path) -> None:
    story = Story()
    cut_off(story)
    shown = shown_report(tmp_path, story)
    assert "reason: hashed in the log; --server-roles reads it from the server" in shown
    page = (tmp_path / "page.html").read_text()
    assert "hashed in the audit log; <code>skyflowctl audit report --server-roles</code>" in page
    (change,) = asked(tmp_path, story)["changes"]
    assert change["reason"] == hashed("INC-1042")
    assert change["reason_hashed"]


def test_d2_a_cut_offs_reason_that_is_plain_is_shown(tmp_path) -> None:
    story = Story()
    cut_off(story, plain=True)
    assert "reason: INC-1042" in shown_report(tmp_path, story)
    assert "INC-1042" in (tmp_path / "page.html").read_text()
    (change,) = asked(tmp_path, story)["changes"]
    assert (change["reason"], change["reason_hashed"]) == ("INC-1042", False)


def test_d2_what_config_revoke_asks_to_prove_a_cut_off_counts_as_a_probe(tmp_path) -> None:
    story = Story()
    story.creds(BOB, outcome="refused", run="cut1")
    cut_off(story)
    story.creds(approle("orders"), outcome="refused")
    story.creds(BOB, outcome="denied", run="cut1")
    data = asked(tmp_path, story)
    assert (data["totals"]["probes"], data["totals"]["requests"]) == (2, 3)
    assert "2 requests of config revoke, refused as expected; not counted" in (
        shown_report(tmp_path, story)
    )
    log = written(tmp_path, "audit.log", story.device())
    for words in ((), ("--role", "order-*")):
        done = invoke("audit", "denied", log, *words, "-o", "json")
        rows = checked_data(done.stdout)["denied"]
        probes = [(one["role"], one["probe_of"], one["policy"]) for one in rows if one["probe_of"]]
        assert probes == [("order-producer", "cut1", None), ("order-reader", "cut1", None)]
        assert sum(one["count"] for one in rows if not one["probe_of"]) == 3
    done = invoke("audit", "denied", log)
    assert "3 of 5 requests turned down, and 2 probes of config revoke" in done.stderr
    assert "expected: config revoke asked for a token to prove the cut-off" in done.stdout


def failed_change(story: Story, error: str, path: str = "config/rollback") -> None:
    words = f"1 error occurred:\n\t* {error}\n\n"
    story.pair(BOB, "update", f"skyflow/order/{path}", mount=ORDER, data={}, error=words)


CONFLICTING = [
    "check-and-set failed: another credential version is live",
    "there is no earlier credential",
    "the credential of that version is destroyed",
    "this key was revoked by a cut-off of the mount: write a new key",
]


@pytest.mark.parametrize("error", CONFLICTING)
def test_d2_a_409_is_a_conflict_and_neither_failed_nor_refused(tmp_path, error: str) -> None:
    story = Story()
    failed_change(story, error)
    (change,) = asked(tmp_path, story)["changes"]
    assert (change["kind"], change["outcome"], change["error"]) == ("rollback", "conflict", error)
    shown = shown_report(tmp_path, story)
    assert "conflict" in shown
    assert f"why not: {error[:40]}" in shown
    assert "Conflict" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    "error",
    [
        "token service refused: 401 The key is not known, or was deleted.",
        "skyflow: the token service did not answer in time",
    ],
)
def test_d2_a_502_or_503_is_a_failed_change_with_the_token_services_words(
    tmp_path, error: str
) -> None:
    story = Story()
    failed_change(story, error)
    (change,) = asked(tmp_path, story)["changes"]
    assert (change["outcome"], change["error"]) == ("failed", error)


def test_d2_every_409_of_the_engine_is_known_as_a_conflict() -> None:
    import ast
    from pathlib import Path

    from skyflowctl import engine
    from skyflowctl.audit.changes import CONFLICTS

    texts = []
    for file in Path(engine.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "EngineError":
                status, *words = node.args
                if isinstance(status, ast.Constant) and status.value == 409:
                    text = words[0]
                    first = text.values[0] if isinstance(text, ast.JoinedStr) else text
                    texts.append(first.value)
    assert len(texts) > 10
    assert [text for text in texts if not text.startswith(CONFLICTS)] == []


@pytest.mark.parametrize("path", ["roles/order-producer", "config/rollback"])
def test_d1_changes_without_a_mount_type_are_matched_by_path(tmp_path, path: str) -> None:
    story = Story()
    data = {"role_ids": [Hashed("r")]}
    for point in ("skyflow/order", "database/order"):
        story.pair(BOB, "update", f"{point}/{path}", mount=(f"{point}/", "x"), data=data)
    for entry in story.entries:
        entry["request"].pop("mount_type", None)
    (change,) = asked(tmp_path, story)["changes"]
    assert change["mount"] == "skyflow/order"
    assert change["kind"] == ("rollback" if "config" in path else "role-written")


@pytest.mark.parametrize("width", [60, 80])
def test_d_changes_on_a_narrow_terminal_break_no_word(tmp_path, monkeypatch, width: int) -> None:
    import io

    from skyflowctl.cli.commands.audit.report_view import show_report
    from skyflowctl.cli.console import Terminal

    story = Story()
    for number in range(2):
        point = f"skyflow/a-long-name-of-a-product-line-{number}"
        path = f"{point}/roles/a-role-with-a-name-of-some-length"
        story.pair(BOB, "update", path, mount=(f"{point}/", "skyflow"), data={"role_ids": ["r"]})
        story.creds(approle("an-application-with-a-long-name"), mount=point, role="a-long-role")
    cut_off(story, run="7b1c5e0a-0000-4000-8000-000000000001")
    data = asked(tmp_path, story)
    monkeypatch.setattr(Terminal, "width", width)
    monkeypatch.setattr(Terminal, "interactive_out", True)
    out = io.StringIO()
    show_report(data, Terminal(out=out, no_color=True))
    shown = "\n".join(line.rstrip() for line in out.getvalue().splitlines())
    changes = shown[shown.index("Changes that affect") :]
    assert "…" not in shown
    assert max(len(line) for line in changes.splitlines()) <= width
    for one in data["changes"]:
        words = (one["mount"], one["name"], one["kind"], one["outcome"], one["run_id"])
        assert [word for word in words if word and word not in changes] == []
    for one in data["usage"]:
        assert one["app"] in shown


@pytest.mark.parametrize("width", range(60, 100))
def test_d_a_changes_row_is_never_wider_than_the_terminal(monkeypatch, width: int) -> None:
    import io

    from skyflowctl.cli.commands.audit.report_view import _show_changes
    from skyflowctl.cli.console import Terminal

    row = {"time": "2026-11-22T18:00:00Z", "mount": "skyflow/order", "name": "order-producer"}
    row |= {"outcome": "granted", "kind": "role-written", "key_id": None, "app": "bob"}
    row |= {"run_id": None, "changes": [], "reason": None, "reason_hashed": False, "error": None}
    monkeypatch.setattr(Terminal, "width", width)
    monkeypatch.setattr(Terminal, "interactive_out", True)
    out = io.StringIO()
    _show_changes([row], Terminal(out=out, no_color=True), asked=False)
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= width
