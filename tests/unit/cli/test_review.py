"""plan and validate for a review: as Markdown and as SARIF, on success and on failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from support.cli import invoke
from support.fake_server import FakeCredentials
from support.reached import MANIFEST, reached
from support.sarif import checked_log

HOSTILE = "``` @octocat <b>x</b> | y </details>"


@pytest.fixture
def server(tmp_path, monkeypatch):
    return reached(tmp_path, monkeypatch)


@pytest.fixture
def applied(server):
    """A server on which the manifest was applied; then a role was changed, and one was made."""
    assert invoke("apply", "-y").exit_code == 0
    roles = server.roles["skyflow/order"]
    roles["writer"]["description"] = HOSTILE
    roles["other"] = dict(roles["writer"])
    return server


def fences(text: str) -> dict[str, str]:
    """The fenced blocks of a page by the title of their fold; that of the head by ``head``."""
    found, title = {}, "head"
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block" and "<summary>" in token.content:
            title = token.content.partition("<summary>")[2].partition("</summary>")[0]
        elif token.type == "fence":
            found[title] = token.content
    return found


def test_a_plan_is_a_table_and_a_diff(server):
    done = invoke("plan", "-o", "markdown")
    assert done.exit_code == 0
    assert "| mount | 2 |  |  |" in done.stdout
    assert "| role | 2 |  |  |" in done.stdout
    blocks = fences(done.stdout)
    assert blocks["head"].startswith("server  ")
    (title,) = [one for one in blocks if one.endswith("to create")]
    assert "\n+ role skyflow/order/roles/writer\n+     role_ids: skyflow-writer\n" in blocks[title]


def test_a_change_has_its_old_and_its_new_value_and_nothing_leaves_its_block(applied):
    done = invoke("plan", "-o", "markdown", "--detailed-exitcode")
    assert done.exit_code == 2
    blocks = fences(done.stdout)
    assert blocks["1 to update"] == (
        f"! role skyflow/order/roles/writer\n-     description: {HOSTILE}\n"
    )
    assert "! skyflow/order/roles/other is not in the manifest" in blocks["1 drifted"]
    outside = [one for one in MarkdownIt("commonmark").parse(done.stdout) if one.type != "fence"]
    assert not any("octocat" in one.content for one in outside)


def test_a_saved_plan_says_how_to_apply_it(applied, monkeypatch):
    monkeypatch.setattr(FakeCredentials, "resolve", lambda *_: pytest.fail("not needed"))
    monkeypatch.setattr("skyflowctl.operations.saved_plan._fingerprints", lambda *_: ())
    done = invoke("plan", "--out", "p.json", "-o", "markdown")
    assert done.exit_code == 0, done.stderr
    assert "apply   skyflowctl apply p.json\n" in fences(done.stdout)["head"]


def test_no_changes_are_said(server):
    assert invoke("apply", "-y").exit_code == 0
    done = invoke("plan", "-o", "markdown")
    assert "No changes. " in done.stdout
    assert "|" not in done.stdout


def test_drift_is_a_result_at_its_mount(applied):
    done = invoke("plan", "-o", "sarif", "--detailed-exitcode")
    assert done.exit_code == 2
    run = checked_log(done.stdout)
    (result,) = [one for one in run["results"] if one["ruleId"] == "undeclared"]
    location = result["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "mounts.yaml"
    line = MANIFEST.splitlines().index("  order:") + 1
    assert location["physicalLocation"]["region"]["startLine"] == line
    assert location["logicalLocations"][0]["name"] == "skyflow/order/roles/other"
    assert run["invocations"][0] == {
        "executionSuccessful": True,
        "exitCode": 2,
        "toolExecutionNotifications": [],
    }


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_what_is_wrong_with_a_manifest_is_shown_in_every_form(server, command):
    Path("mounts.yaml").write_text(MANIFEST.replace("roles:", "rolez:", 1))
    sarif, markdown, as_json = (invoke(command, "-o", one) for one in ("sarif", "markdown", "json"))
    assert sarif.exit_code == markdown.exit_code == as_json.exit_code == 65
    errors = json.loads(as_json.stdout)["errors"]
    results = checked_log(sarif.stdout)["results"]
    assert [one["code"] for one in errors] == [one["ruleId"] for one in results]
    region = results[0]["locations"][0]["physicalLocation"]["region"]
    assert (region["startLine"], region["startColumn"]) == (
        errors[0]["where"]["line"],
        errors[0]["where"]["column"],
    )
    (block,) = [text for title, text in fences(markdown.stdout).items() if "error" in title]
    assert errors[0]["summary"] in block


def test_an_unset_variable_is_a_warning_in_the_log(server, monkeypatch):
    monkeypatch.delenv("ORDER_KEY", raising=False)
    done = invoke("validate", "-o", "sarif")
    assert done.exit_code == 0
    run = checked_log(done.stdout)
    assert {(one["ruleId"], one["level"]) for one in run["results"]} == {
        ("reference-unset", "warning")
    }
    page = invoke("validate", "-o", "markdown").stdout
    assert page.startswith("### skyflowctl: the manifest is valid\n")
    assert "| mounts | 2 |" in page


@pytest.mark.parametrize("form", ["markdown", "sarif"])
def test_a_usage_error_leaves_a_page_and_a_log(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    Path("mounts.yaml").write_text(MANIFEST)
    done = invoke("plan", "-o", form)  # no server is named
    assert done.exit_code == 64
    if form == "sarif":
        run = checked_log(done.stdout)
        assert (run["results"], run["invocations"][0]["executionSuccessful"]) == ([], False)
    else:
        assert done.stdout.startswith("### skyflowctl: the plan failed\n")


@pytest.mark.parametrize("form", ["markdown", "sarif"])
def test_a_warning_about_the_manifest_is_part_of_it(server, form):
    text = MANIFEST.replace("  order:\n", "  order:\n    audit: {plain_ctx: true}\n")
    Path("mounts.yaml").write_text(text)
    done = invoke("plan", "-o", form)
    assert done.exit_code == 0, done.stderr
    summary = done.stderr.partition("warning: ")[2].splitlines()[0]
    assert "ctx" in summary
    assert summary in done.stdout
