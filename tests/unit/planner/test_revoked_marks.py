"""A revoked key is refused wherever the mark of its cut-off stands.

A mount that was cut off on an engine with the basic API has it in its options alone; the
engine that took the mount over was never told.
"""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import identity, memory_rig
from support.reached import reach_gateway

from skyflowctl.cli.context import gateways

SINCE = "2026-11-20T08:00:00Z"


@pytest.fixture
def rig(monkeypatch, tmp_path):
    rig = memory_rig()

    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.setattr(gateways, "connect_node", lambda gateway: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield rig
    rig.gateway.close()


def write(tmp_path, credential, name="old.json") -> str:
    file = tmp_path / name
    file.write_text(credential.reveal())
    file.chmod(0o600)
    return f"file:{file}"


@pytest.fixture
def taken_over(rig, tmp_path):
    """A mount that was cut off before our engine took it over: path, revoked key, reference."""
    credential = rig.new_credential()
    client_id, key_id = identity(credential)
    marks = {
        "revoked_at": SINCE,
        "revoked_by": "ada",
        "revoked_reason": "INC-7",
        "revoked_run": "run-3",
        "revoked_key_id": key_id,
        "revoked_client_id": client_id,
    }
    path = rig.mount(options=marks)
    rig.gateway.engine(path).write_role("reader", {"role_ids": ["r-read"]})
    return path, key_id, write(tmp_path, credential)


def refusal(done, key_id, code=5):
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (code, "revoked-key"), done.output
    assert key_id in problem["summary"]
    assert f"cut off since {SINCE} by ada because INC-7" in problem["why"]
    assert f"--allow-revoked-key={key_id}" in problem["fix"]
    return f"--allow-revoked-key={key_id}"


def live_key(rig, path):
    return rig.gateway.engine(path).config().key_id


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("config", "write", "PATH", "--credentials"), 5),
        # 6: and the mount serves no token.
        (("rotate", "PATH", "-y", "--credentials"), 6),
    ],
    ids=["config write", "rotate"],
)
def test_it_is_refused_after_a_take_over_until_it_is_named(rig, taken_over, command, code):
    path, key_id, reference = taken_over
    words = [path if word == "PATH" else word for word in command]
    flag = refusal(invoke(*words, reference, "-o", "json"), key_id, code)
    assert not rig.gateway.engine(path).config().configured
    done = invoke(*words, reference, flag, "-o", "json")
    assert done.exit_code == 0, done.output
    assert live_key(rig, path) == key_id


def test_it_is_refused_also_where_a_new_key_is_live_by_now(rig, taken_over, tmp_path):
    path, key_id, reference = taken_over
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()}, cas=0)
    rotate = ("rotate", path, "--credentials", reference, "--allow-different-account", "-y")
    flag = refusal(invoke(*rotate, "-o", "json"), key_id)
    assert live_key(rig, path) != key_id
    assert invoke(*rotate, flag).exit_code == 0
    assert live_key(rig, path) == key_id


def test_rollback_refuses_it_until_it_is_named(rig, taken_over, tmp_path):
    path, key_id, _ = taken_over
    fields = {"credentials_json": (tmp_path / "old.json").read_text()}
    rig.gateway.engine(path).write_config({**fields, "allow_revoked_key": key_id}, cas=0)
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()})
    back = ("rotate", "--rollback", path, "--to", "1", "-y")
    flag = refusal(invoke(*back, "-o", "json"), key_id)
    assert live_key(rig, path) != key_id
    assert invoke(*back, flag).exit_code == 0
    assert live_key(rig, path) == key_id


def test_apply_refuses_it_until_it_is_named(rig, taken_over, tmp_path):
    path, key_id, _ = taken_over
    (tmp_path / "mounts.yaml").write_text(MANIFEST.format(path=path))
    # Made by hand: the manifest takes the mount and its role over first.
    adopt = (f"--adopt={path}", f"--adopt={path}/roles/reader")
    skipped = invoke("apply", "-y", *adopt, "-o", "json")
    assert checked_envelope(skipped.stdout)["errors"][0]["code"] == "cut-off-credential"
    insisted = ("apply", "-y", "--replace-credential", "order", *adopt)
    done = invoke(*insisted, "-o", "json")
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (5, "revoked-key")
    assert not rig.gateway.engine(path).config().configured
    done = invoke(*insisted, f"--allow-revoked-key={key_id}")
    assert done.exit_code == 0, done.output
    assert live_key(rig, path) == key_id


def test_apply_refuses_it_after_another_key_ended_the_cut_off(rig, taken_over, tmp_path):
    path, key_id, _ = taken_over
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()}, cas=0)
    (tmp_path / "mounts.yaml").write_text(MANIFEST.format(path=path))
    adopt = tuple(f"--adopt={path}{rest}" for rest in ("", "/roles/reader", "/config"))
    assert invoke("apply", "-y", *adopt).exit_code == 0
    assert live_key(rig, path) != key_id
    insisted = ("apply", "-y", "--replace-credential", "order")
    done = invoke(*insisted, "-o", "json")
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (5, "revoked-key")
    assert live_key(rig, path) != key_id
    done = invoke(*insisted, f"--allow-revoked-key={key_id}")
    assert done.exit_code == 0, done.output
    assert live_key(rig, path) == key_id


@pytest.mark.parametrize("command", [("status",), ("config", "show"), ("mount", "show")])
def test_every_command_says_that_it_is_cut_off(rig, taken_over, command):
    path, key_id, _ = taken_over
    shown = invoke(*command, path)
    assert f"cut off since {SINCE} by ada because INC-7 (run run-3)" in shown.stdout
    data = checked_data(invoke(*command, path, "-o", "json").stdout)
    assert key_id in str(data)


def test_health_says_it_and_does_not_advise_an_apply(rig, taken_over):
    path, _, _ = taken_over
    told = checked_envelope(invoke("health", path, "-o", "json").stdout)
    assert "cut off since" in told["data"]["mounts"][0]["detail"]
    assert "apply" not in told["errors"][0]["fix"]
    assert "new key" in told["errors"][0]["fix"]


MANIFEST = """\
version: 1
manifest: shop
mounts:
  order:
    path: {path}
    credentials: {{file: old.json}}
    roles:
      reader: {{role_ids: [r-read]}}
"""
