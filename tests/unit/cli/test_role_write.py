"""``role write`` from the command line on, against the real engine in memory."""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import memory_rig
from support.reached import reach_gateway

from skyflowctl.cli.runner import CommandRun
from skyflowctl.vault.engine_api import EngineClient

MARK = "managed-by:skyflowctl/shop"


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(autouse=True)
def reached(rig, monkeypatch, tmp_path):
    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.chdir(tmp_path)


def write(path, *words):
    return invoke("role", "write", path, *words, "-o", "json")


def written(path, *words):
    return checked_data(write(path, *words, "-y").stdout)


def refused(path, *words, check):
    done = write(path, *words)
    assert done.exit_code == check, done.stdout
    return checked_envelope(done.stdout)["errors"][0]


def test_a_role_is_created_and_what_is_not_named_stays(rig):
    path = rig.configured("reader")
    data = written(path, "new", "--role-id", "r-write", "--tag", "a:b", "--reuse-min-ttl", "30m")
    assert (data["result"], data["action"], data["version"]) == ("created", "create", 1)
    assert [one["code"] for one in data["warnings"]] == ["undeclared-role"]
    data = written(path, "new", "--description", "Writes")
    assert (data["result"], data["version"], data["warnings"]) == ("updated", 2, [])
    assert data["changes"] == [{"field": "description", "before": "", "after": "Writes"}]
    live = rig.gateway.engine(path).role("new")
    assert (live.role_ids, live.tags, live.reuse_min_ttl) == (("r-write",), ("a:b",), 1800)


def test_what_is_so_already_is_not_written_and_needs_no_confirmation(rig):
    path = rig.configured("reader")
    done = write(path, "reader", "--role-id", "r-read", "--sign-max-ttl", "15m")
    data = checked_data(done.stdout)
    assert (data["result"], data["action"], data["changes"]) == ("unchanged", None, [])
    assert rig.gateway.engine(path).role("reader").version == data["version"] == 1


def test_a_dry_run_shows_the_change_and_writes_nothing(rig):
    path = rig.configured("reader")
    words = ("reader", "--description", "new text", "--dry-run")
    data = checked_data(write(path, *words).stdout)
    assert (data["result"], data["version"]) == ("planned", 1)
    shown = invoke("role", "write", path, *words)
    assert f"~ role {path}/roles/reader" in shown.stdout
    assert "new text" in shown.stdout
    assert "nothing was written" in shown.stderr
    assert rig.gateway.engine(path).role("reader").version == 1


def test_it_shows_the_change_before_it_asks(rig, monkeypatch):
    path = rig.configured("reader")
    assert refused(path, "reader", "--description", "x", check=5)["code"] == "needs-confirmation"
    asked = []
    monkeypatch.setattr(CommandRun, "confirm", lambda _, text, **__: asked.append(text))
    done = invoke("role", "write", path, "reader", "--description", "new text")
    assert [f"{path}/roles/reader" in question for question in asked] == [True]
    assert "new text" in done.stderr
    assert done.stdout == f"{path}/roles/reader is updated.\n"


def test_a_change_by_another_client_meanwhile_is_not_overwritten(rig, monkeypatch):
    path = rig.configured("reader")

    def other_client(*_, **__):
        rig.gateway.engine(path).write_role("reader", {"description": "theirs"})

    monkeypatch.setattr(CommandRun, "confirm", other_client)
    refused(path, "reader", "--description", "mine", check=5)
    assert rig.gateway.engine(path).role("reader").description == "theirs"
    monkeypatch.setattr(
        CommandRun,
        "confirm",
        lambda *_, **__: rig.gateway.engine(path).write_role("new", {"role_ids": ["r-read"]}),
    )
    refused(path, "new", "--role-id", "r-write", check=5)
    assert rig.gateway.engine(path).role("new").role_ids == ("r-read",)


def test_a_value_that_the_engine_does_not_keep_is_partly_done(rig, monkeypatch):
    path = rig.configured("reader")
    kept = EngineClient.write_role

    def drops_the_description(self, name, fields, *, cas=None):
        return kept(self, name, {**fields, "description": ""}, cas=cas)

    monkeypatch.setattr(EngineClient, "write_role", drops_the_description)
    error = refused(path, "reader", "--description", "x", "-y", check=3)
    assert error["code"] == "silently-ignored"


def test_a_role_of_a_manifest_keeps_its_mark_and_that_apply_undoes_it_is_said(rig):
    path = rig.configured("reader")
    rig.gateway.engine(path).write_role("reader", {"tags": ["a", MARK]})
    data = written(path, "reader", "--tag", "b")
    assert [one["code"] for one in data["warnings"]] == ["manifest-differs"]
    assert set(rig.gateway.engine(path).role("reader").tags) == {"b", MARK}
    written(path, "reader", "--clear-tags")
    assert rig.gateway.engine(path).role("reader").tags == (MARK,)
    for tag in (MARK, "adopted-by:skyflowctl/shop"):
        assert refused(path, "reader", "--tag", tag, "-y", check=64)["code"] == "reserved-tag"


def test_a_pattern_means_required_as_the_help_says(rig):
    path = rig.configured("reader")
    engine = rig.gateway.engine(path)
    written(path, "reader", "--ctx-pattern", "order:*", "--ctx-probe", "order:x")
    assert engine.role("reader").ctx_required
    written(path, "reader", "--ctx-pattern", "")
    assert engine.role("reader").ctx_required  # it was shown as required, and is not named
    written(path, "reader", "--ctx-optional", "--ctx-probe", "")
    assert (engine.role("reader").ctx_required, engine.role("reader").ctx_probe) == (False, "")
    written(
        path, "new", "--role-id", "r-read", "--ctx-pattern", "a*", "--ctx-optional",
        "--ctx-probe", "ab",
    )  # fmt: skip
    assert not engine.role("new").ctx_required
    data = written(path, "new", "--ctx-pattern", "b*", "--ctx-probe", "bx")
    assert [one["field"] for one in data["changes"]] == ["ctx_pattern", "ctx_probe"]
    assert not engine.role("new").ctx_required  # it was optional, and is not named
    data = written(path, "new", "--ctx-pattern", "", "--ctx-probe", '{"purpose": "x"}')
    assert [one["field"] for one in data["changes"]] == ["ctx_pattern", "ctx_probe"]
    assert engine.role("new").ctx_probe == {"purpose": "x"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("reader",), "nothing-to-write"),
        (("reader", "--tag", "a", "--clear-tags"), "contradiction"),
        (("reader", "--ctx-probe", "{no"), "bad-ctx"),
        (("reader", "--ctx-required"), "invalid-role"),
        (("reader", "--ctx-pattern", "a*b", "--ctx-probe", "ab"), "invalid-role"),
        (("reader", "--sign-max-ttl", "48h"), "invalid-role"),
        (("reader", "--reuse-min-ttl", "1m"), "invalid-role"),
        (("reader", "--role-id", "no blanks"), "invalid-role"),
        (("reader", "--description", "a\x07"), "invalid-role"),
        (("new", "--description", "x"), "no-such-role"),
        (("New", "--role-id", "r-read"), "bad-role-name"),
    ],
)
def test_a_mistake_is_named_before_anything_is_sent(rig, words, code):
    path = rig.configured("reader")
    error = refused(path, *words, "-y", check=64)
    assert error["code"] == code
    assert error["fix"]
    roles = rig.gateway.engine(path).roles()
    assert (list(roles), roles["reader"].version) == (["reader"], 1)


def test_a_missing_mount_is_a_mistake():
    assert refused("no/mount", "r", "--role-id", "r", "-y", check=64)["code"] == "not-mounted"
