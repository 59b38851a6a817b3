"""plan and apply from the command line on, against a server in this process."""

from __future__ import annotations

import dataclasses

import pytest
from support.cli import checked_data, checked_envelope, invoke, schema_of
from support.fake_server import FakeCredentials, FakeReplacer
from support.reached import reached

from skyflowctl.cli.context import credential_sources
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import PartlyDoneError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.transport import ServerInfo


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that every command of the test reaches, and the manifest beside it."""
    return reached(tmp_path, monkeypatch)


@pytest.fixture
def applied(server):
    assert invoke("apply", "-y").exit_code == 0
    server.log.clear()
    return server


def blocked(server, how):
    entry = server.mounts["skyflow/pay"]
    if how == "path-in-use":
        del server.mounts["skyflow/pay"]
        server.mounts["skyflow"] = {"type": "kv"}
    elif how == "type-differs":
        entry["type"] = "kv"
    else:
        entry["options"]["manifest"] = "other"


def forbid(server, path):
    def hook(method, asked):
        if asked.startswith(path):
            raise error_for(403, ("permission denied",), method=method, path=asked)

    server.hook = hook


LEFT_OUT = ["owned-by-other", "type-differs", "path-in-use"]


@pytest.mark.parametrize("how", LEFT_OUT)
class TestMountsThatMayNotBeTouched:
    def test_plan_never_says_that_all_is_right(self, applied, how):
        blocked(applied, how)
        shown = invoke("plan", "--detailed-exitcode")
        assert shown.exit_code == 2
        assert "No changes" not in shown.stdout
        assert "1 object is left out" in shown.stdout
        assert shown.stderr.count("warning:") >= 1
        whole = checked_envelope(invoke("plan", "-o", "json").stdout)
        assert (whole["status"], whole["errors"]) == ("changes", [])
        assert how in [one["code"] for one in whole["data"]["warnings"]]

    def test_apply_refuses_as_a_whole_before_anything_is_written(self, applied, how):
        blocked(applied, how)
        applied.roles["skyflow/order"]["writer"]["description"] = "changed"
        done = invoke("apply", "-y", "-o", "json")
        assert (done.exit_code, applied.writes()) == (5, [])
        whole = checked_envelope(done.stdout)
        assert whole["status"] == "refused"
        assert how in [one["code"] for one in whole["errors"]]
        assert all(one["why"] and one["fix"] for one in whole["errors"])
        actions = checked_data(done.stdout)["actions"]
        assert "skyflow/order/roles/writer" in [one["path"] for one in actions]
        assert {one["result"] for one in actions} == {"skipped"}

    def test_apply_says_so_to_people_with_the_plan(self, applied, how):
        blocked(applied, how)
        applied.roles["skyflow/order"]["writer"]["description"] = "changed"
        done = invoke("apply", "-y")
        assert (done.exit_code, done.stdout) == (5, "")
        assert "~ role skyflow/order/roles/writer" in done.stderr
        assert "error:" in done.stderr
        assert "No changes" not in done.stderr


def test_a_mount_that_cannot_be_read_makes_the_plan_partial(applied):
    forbid(applied, "skyflow/pay/")
    done = invoke("plan", "--detailed-exitcode", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (3, "partial")
    assert [one["code"] for one in whole["errors"]] == ["engine-unreadable"]
    shown = invoke("plan")
    assert (shown.exit_code, shown.stderr.count("skyflow/pay")) == (3, 2)
    assert "No changes" not in shown.stdout


def test_apply_does_the_other_mounts_and_is_partial(applied):
    forbid(applied, "skyflow/pay/")
    applied.roles["skyflow/order"]["writer"]["description"] = "changed"
    done = invoke("apply", "-y", "-o", "json")
    assert (done.exit_code, checked_envelope(done.stdout)["status"]) == (3, "partial")
    assert applied.writes() == [("POST", "skyflow/order/roles/writer")]
    again = invoke("apply", "-y")
    assert again.exit_code == 3
    assert "No changes" not in again.stdout


@pytest.mark.parametrize("words", ["plan", "plan --detailed-exitcode", "apply -y", "status"])
def test_a6_where_every_answer_is_403_it_is_4_and_not_3(applied, words):
    forbid(applied, "skyflow/")
    done = invoke(*words.split(), "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (4, "error")
    assert len(whole["errors"]) == 2
    assert not applied.writes()
    shown = invoke(*words.split())
    assert shown.exit_code == 4
    assert "No changes" not in shown.stdout + shown.stderr


def test_a6_an_apply_that_was_refused_everything_is_4(applied):
    for role in ("skyflow/order/roles/writer", "skyflow/pay/roles/reader"):
        mount, _, name = role.rpartition("/roles/")
        applied.roles[mount][name]["description"] = "changed"

    def hook(method, asked):
        if method == "POST":
            raise error_for(403, ("permission denied",), method=method, path=asked)

    applied.hook = hook
    assert invoke("apply", "-y").exit_code == 4


def test_a6_status_shows_what_it_could_not_read_as_a_question_mark(applied):
    forbid(applied, "skyflow/pay/")
    done = invoke("status", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (3, "partial")
    mounts = {one["name"]: one for one in checked_data(done.stdout)["mounts"]}
    assert (mounts["order"]["unread"], mounts["pay"]["unread"]) == (False, True)
    line = next(one for one in invoke("status").stdout.splitlines() if one.startswith("pay"))
    assert line.split()[-4:] == ["?", "?", "?", "?"]


def test_a_rotation_that_was_rolled_back_is_partial_also_where_it_is_all(applied, monkeypatch):
    class RolledBack(FakeReplacer):
        def replace(self, mount, path, credential, gateway, *, allow_revoked=False):
            raise PartlyDoneError(f"{mount} was rolled back", code="rolled-back")

    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: FakeCredentials(2))
    monkeypatch.setattr(
        "skyflowctl.cli.context.rotation.replacer_for", lambda *_, **__: RolledBack()
    )
    done = invoke("apply", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (3, "partial")
    assert {one["result"] for one in whole["data"]["actions"]} == {"failed"}


def test_what_was_not_confirmed_is_in_the_data(server):
    done = invoke("apply", "-o", "json")
    assert (done.exit_code, server.writes()) == (5, [])
    whole = checked_envelope(done.stdout)
    assert (whole["status"], whole["errors"][0]["code"]) == ("refused", "needs-confirmation")
    data = checked_data(done.stdout)
    assert data["summary"]["create"] == len(data["actions"]) > 0


def test_without_a_json_plan_people_see_it_once(server):
    done = invoke("apply", "--no-input")
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr.count("+ mount sys/mounts/skyflow/pay\n") == done.stderr.count("error:") == 1


def test_what_the_engine_says_about_a_write_is_told(applied, monkeypatch):
    answer = applied.send

    def send(request):
        reply = answer(request)
        said = ("reader: it does not mint",) if request.method == "POST" else ()
        return dataclasses.replace(reply, warnings=said)

    monkeypatch.setattr(applied, "send", send)
    applied.configs["skyflow/pay"]["description"] = "changed"
    done = invoke("apply", "-y", "-o", "json")
    assert done.exit_code == 0
    (told,) = checked_data(done.stdout)["warnings"]
    assert (told["code"], told["summary"]) == (
        "engine-warning",
        "skyflow/pay: reader: it does not mint",
    )
    applied.configs["skyflow/pay"]["description"] = "changed"
    shown = invoke("apply", "-y")
    assert shown.stderr.count("warning: skyflow/pay: reader: it does not mint") == 1


def test_an_action_names_the_earlier_run_whose_approved_request_it_ran(applied, monkeypatch):
    answer = applied.send

    def send(request):
        reply = answer(request)
        resumed = (request.method, request.path) == ("POST", "skyflow/pay/config")
        return dataclasses.replace(reply, sent_by_run="01m8gedd5r63ak1d" if resumed else "")

    monkeypatch.setattr(applied, "send", send)
    for mount in ("skyflow/pay", "skyflow/order"):
        applied.configs[mount]["description"] = "changed"
    done = invoke("apply", "-y", "-o", "json")
    actions = {one["path"]: one for one in checked_data(done.stdout)["actions"]}
    assert actions["skyflow/pay/config"]["sent_by_run"] == "01m8gedd5r63ak1d"
    assert "sent_by_run" not in actions["skyflow/order/config"]


def test_the_schema_of_apply_describes_every_field_of_an_action(applied):
    """One that is done, one that is pending, one that ran an approved request."""
    action = schema_of("apply")["properties"]["actions"]["items"]["properties"]
    assert action["sent_by_run"]["type"] == "string"
    assert action["result"]["enum"] == ["done", "failed", "skipped", "pending", "waiting"]
    applied.configs["skyflow/pay"]["description"] = "changed"
    (one,) = checked_data(invoke("apply", "-y", "-o", "json").stdout)["actions"]
    assert {*one, "pending", "sent_by_run"} == set(action)


def test_a_dry_run_says_nothing_about_throw_away_keys(server, monkeypatch):
    """Their client ids have no real one's form, which the engine would warn about."""
    nobody = FakeCredentials(missing=frozenset({"order", "pay"}))
    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: nobody)
    done = invoke("apply", "--dry-run", "-o", "json")
    assert done.exit_code == 0
    codes = {one["code"] for one in checked_data(done.stdout)["warnings"]}
    assert codes == {"credential-unresolved"}


def test_the_server_is_named_before_anything_is_changed(server):
    shown = invoke("apply", "-y").stderr
    assert shown.index("server: ") < shown.index("+ mount")
    assert "server: " in invoke("plan").stderr


def test_the_question_names_the_server_and_its_namespace(server, monkeypatch):
    asked = []
    server.server = ServerInfo("https://bao:8200, namespace team")
    monkeypatch.setattr(CommandRun, "confirm", lambda _, question, **__: asked.append(question))
    assert invoke("apply").exit_code == 0
    assert asked == ["Apply 8 changes to https://bao:8200, namespace team?"]


GUARDED = """\
version: 1
manifest: shop
mounts: {}
engines:
  rabbit:
    type: rabbitmq
    objects:
      config/connection:
        secret: {username: {value: app}, password: {env: RABBIT_PASSWORD}}
        secret_version: 1
"""


@pytest.mark.parametrize("value", [None, "hidden-value"])
def test_a_dry_run_uses_a_throw_away_value_for_a_secret_that_is_not_there(tmp_path, value):
    file = tmp_path / "mounts.yaml"
    file.write_text(GUARDED)
    done = invoke("apply", "--dry-run", "-f", str(file), env={"RABBIT_PASSWORD": value})
    assert done.exit_code == 0
    assert ("ephemeral value: password of rabbit" in done.stdout) == (value is None)
    assert "a second plan has 0 changes" in done.stdout
    assert "hidden-value" not in done.stdout + done.stderr
