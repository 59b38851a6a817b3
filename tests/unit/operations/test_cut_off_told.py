"""What commands say of a mount that was cut off, and that a revoked key needs its name."""

from __future__ import annotations

import json

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import identity, memory_rig
from support.reached import reach_gateway

from skyflowctl.cli.context import gateways
from skyflowctl.engine.contract import MemoryStorage
from skyflowctl.planner.credential import is_revoked
from skyflowctl.rotation import messages
from skyflowctl.vault.errors import RevokedKeyError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.live import way_out

REASON = "INC-1042: key in a log"


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(autouse=True)
def reached(rig, monkeypatch, tmp_path):
    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.setattr(gateways, "connect_node", lambda gateway: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def cut(rig, tmp_path):
    """A mount that was cut off, and the file that holds the revoked key."""
    path, credential = rig.mount(), rig.new_credential()
    rig.gateway.engine(path).write_role("reader", {"role_ids": ["r-read"]})
    rig.gateway.engine(path).write_config({"credentials_json": credential}, cas=0)
    rig.gateway.engine(path).cut_off(REASON, "run-7")
    file = tmp_path / "old.json"
    file.write_text(credential.reveal())
    file.chmod(0o600)
    return path, identity(credential)[1], file


def revoked_of(rig, path):
    found = rig.gateway.engine(path).config().revoked
    return {name: getattr(found, name) for name in ("at", "by", "reason", "run", "key_id")}


def sentence(rig, path):
    found = rig.gateway.engine(path).config().revoked
    return f"cut off since {found.at} by root because {REASON} (run run-7)"


@pytest.mark.parametrize(
    "command", [("status",), ("config", "show"), ("mount", "show")], ids=" ".join
)
def test_it_is_said_for_people_and_for_programs(rig, cut, command):
    path, _, _ = cut
    done = invoke(*command, path)
    assert f"{path} is {sentence(rig, path)}" in done.stdout
    assert way_out(path) in done.stdout
    data = checked_data(invoke(*command, path, "-o", "json").stdout)
    holder = {
        "status": lambda: data["mounts"][0],
        "mount": lambda: data["config"],
        "config": lambda: data,
    }[command[0]]()
    assert holder["revoked"] == revoked_of(rig, path)


def test_status_says_nothing_of_it_where_nothing_was_cut_off(rig):
    path = rig.configured("reader")
    done = invoke("status", path, "-o", "json")
    assert "revoked" not in checked_data(done.stdout)["mounts"][0]
    assert "cut off" not in invoke("status", path).stdout


def test_health_says_it_and_advises_a_new_key(rig, cut):
    path, _, _ = cut
    done = invoke("health", path, "-o", "json")
    assert done.exit_code == 6
    told = checked_envelope(done.stdout)
    assert told["data"]["mounts"][0]["detail"] == sentence(rig, path)
    assert told["errors"][0]["why"] == sentence(rig, path)
    assert told["errors"][0]["fix"] == way_out(path)


def test_the_history_names_revoked_versions(rig, cut):
    path, _, _ = cut
    shown = invoke("config", "history", path).stdout
    assert "revoked" in shown
    assert f"version 1: {sentence(rig, path)}" in shown
    data = checked_data(invoke("config", "history", path, "-o", "json").stdout)
    assert data["history"][0]["revoked"] == revoked_of(rig, path)


def refusal(done, key_id):
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (5, "revoked-key")
    assert key_id in problem["summary"]
    # The printed flag works as it stands.
    flag = next(word for word in problem["fix"].split() if word.startswith("--allow-revoked-key"))
    assert flag == f"--allow-revoked-key={key_id}"
    return flag


def test_config_write_refuses_a_revoked_key_until_it_is_named(rig, cut):
    path, key_id, file = cut
    write = ("config", "write", path, "--credentials", f"file:{file}", "-o", "json")
    flag = refusal(invoke(*write), key_id)
    assert not rig.gateway.engine(path).config().configured
    done = invoke(*write, flag)
    assert checked_data(done.stdout)["changed"] == ["credential"]
    assert rig.gateway.engine(path).config().key_id == key_id


def test_config_write_refuses_one_that_is_revoked_and_was_replaced_since(rig, cut):
    path, key_id, file = cut
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()}, cas=0)
    rig.gateway.engine(path).cut_off("INC-2", "run-8")
    write = ("config", "write", path, "--credentials", f"file:{file}", "-o", "json")
    flag = refusal(invoke(*write), key_id)
    assert invoke(*write, flag).exit_code == 0


def test_rotate_refuses_a_revoked_key_until_it_is_named(rig, cut):
    path, key_id, file = cut
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()}, cas=0)
    other = "--allow-different-account"
    rotate = ("rotate", path, "--credentials", f"file:{file}", other, "-y", "-o", "json")
    flag = refusal(invoke(*rotate), key_id)
    done = invoke(*rotate, flag)
    assert done.exit_code == 0, done.output
    assert rig.gateway.engine(path).config().key_id == key_id


def test_rotate_ends_a_cut_off_with_a_new_key(rig, cut, tmp_path):
    path, _, _ = cut
    file = tmp_path / "new.json"
    file.write_text(rig.new_credential().reveal())
    file.chmod(0o600)
    done = invoke("rotate", path, "--credentials", f"file:{file}", "-y", "-o", "json")
    assert done.exit_code == 0, done.output
    assert rig.gateway.engine(path).config().revoked is None


def test_rollback_refuses_a_revoked_key_until_it_is_named(rig, cut):
    path, key_id, file = cut
    fields = {"credentials_json": _secret(file), "allow_revoked_key": key_id}
    rig.gateway.engine(path).write_config(fields)
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()})
    back = ("config", "rollback", path, "-o", "json")
    flag = refusal(invoke(*back), key_id)
    done = invoke(*back, flag)
    assert done.exit_code == 0, done.output
    assert rig.gateway.engine(path).config().key_id == key_id


def _secret(file):
    from skyflowctl.secret import Secret

    return Secret(file.read_text())


def test_revoke_stores_its_reason_and_run(rig):
    path = rig.configured("reader")
    done = invoke("config", "revoke", path, "--reason", f"  {REASON} ", "-y", "-o", "json")
    told = checked_envelope(done.stdout)
    found = rig.gateway.engine(path).config().revoked
    assert (found.reason, found.run) == (REASON, told["run_id"])
    # Again: the first words stay, and that is said.
    again = checked_envelope(
        invoke("config", "revoke", path, "--reason", "another", "-y", "-o", "json").stdout
    )
    assert rig.gateway.engine(path).config().revoked == found
    warned = [one for one in again["data"]["warnings"] if one["code"] == "cut-off-before"]
    assert REASON in warned[0]["summary"]


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201, "two\nlines", "bell\x07"])
def test_a_bad_reason_is_a_usage_error(rig, reason):
    path = rig.configured("reader")
    done = invoke("config", "revoke", path, "--reason", reason, "-y", "-o", "json")
    assert done.exit_code == 64
    assert rig.gateway.engine(path).config().configured


def test_rotate_says_why_no_key_can_be_made(rig, cut):
    path, _, _ = cut
    revoked = rig.gateway.engine(path).config().revoked
    (problem,) = messages.nothing_live(path, "order", revoked).problems
    assert problem.why.endswith(f"not known: it was {sentence(rig, path)}")
    (without,) = messages.nothing_live(path, "order", None).problems
    assert without.why.endswith("is not known")


def test_an_earlier_release_is_cut_off_without_the_words(rig, monkeypatch):
    """Its engine refuses parameters that it does not know; the cut-off must not fail for that."""
    path = rig.configured("reader")
    whole, asked = rig.gateway.transport.send, []

    def earlier(request):
        if (request.method, request.path) == ("DELETE", f"{path}/config"):
            asked.append(request.params)
            if request.params:
                texts = ("unknown field: reason",)
                raise error_for(400, texts, method=request.method, path=request.path)
        return whole(request)

    monkeypatch.setattr(rig.gateway.transport, "send", earlier)
    done = invoke("config", "revoke", path, "--reason", REASON, "-y", "-o", "json")
    told = checked_envelope(done.stdout)
    assert (done.exit_code, told["data"]["cut_off"]) == (0, True)
    assert [bool(params) for params in asked] == [True, False]
    assert "reason-not-kept" in [one["code"] for one in told["data"]["warnings"]]
    assert not rig.gateway.engine(path).config().configured


def test_a_key_that_nobody_names_cannot_be_refused_and_that_is_said(rig):
    """A config of another engine that names a file on the server: only that engine read it."""
    path, storage = "contract/foreign", MemoryStorage()
    record = {"version": 2, "credentials_file_path": "/etc/key.json", "last_updated": "x"}
    rig.transport._run(storage.put("config", json.dumps(record).encode()))
    rig.transport._storages[path] = storage  # what its engine finds when it is mounted
    rig.gateway.sys.enable_mount(path, {"type": rig.plugin})
    done = invoke("config", "revoke", path, "--reason", "INC-9", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    codes = [one["code"] for one in whole["data"]["warnings"]]
    assert (done.exit_code, codes) == (0, ["revoked-key-unknown"])


@pytest.mark.parametrize("command", [("creds", "reader"), ("config verify", "")])
def test_creds_and_verify_tell_the_cut_off_and_the_way_out(rig, command):
    path = rig.configured("reader")
    invoke("config", "revoke", path, "--reason", REASON, "-y")
    name, role = command
    done = invoke(*name.split(), path, *role.split(), "-o", "json")
    (error,) = checked_envelope(done.stdout)["errors"]
    assert (done.exit_code, error["code"]) == (65, "cut-off")
    assert error["summary"] == f"{path} is cut off"
    assert error["why"] == rig.gateway.engine(path).config().revoked.sentence()
    assert error["fix"] == way_out(path)


def test_creds_of_a_mount_that_never_had_a_credential_names_apply(rig):
    path = rig.mount()
    rig.gateway.engine(path).write_role("reader", {"role_ids": ["r-read"]})
    done = invoke("creds", path, "reader", "-o", "json")
    (error,) = checked_envelope(done.stdout)["errors"]
    assert (done.exit_code, error["code"]) == (65, "unconfigured")
    assert "'skyflowctl apply'" in error["fix"]


def test_a_plan_calls_the_keys_revoked_that_the_engine_refuses_and_no_others(rig):
    retired, live = rig.new_credential(), rig.new_credential()
    path = rig.mount()
    rig.gateway.engine(path).write_config({"credentials_json": retired}, cas=0)
    rig.gateway.engine(path).write_config({"credentials_json": live})
    rig.gateway.engine(path).delete_kept_credential(1)
    rig.gateway.engine(path).cut_off(REASON, "run-7")
    state = rig.gateway.read_live_state([path], rig.gateway.sys.mounts()[path].type)
    engine = rig.gateway.with_history(state, [path]).engines[path]
    assert is_revoked(engine, identity(live)[1])
    assert not is_revoked(engine, identity(retired)[1])
    with pytest.raises(RevokedKeyError):
        rig.gateway.engine(path).write_config({"credentials_json": live})
    rig.gateway.engine(path).write_config({"credentials_json": retired})
    assert rig.gateway.engine(path).config().key_id == identity(retired)[1]
