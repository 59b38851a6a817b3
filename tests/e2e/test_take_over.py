"""Mounts of another engine with the basic API, on a real server: used as they are, and taken
over when the catalog's entry is replaced by ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.basic_engine import basic_env, write_basic_plugin
from support.cli import checked_data, invoke
from support.emulator import RunningEmulator
from support.plugin import build_from, copy_source, mounted

pytestmark = pytest.mark.real_server
PATH = "skyflow/order"


@pytest.fixture(scope="module")
def server(emulator: RunningEmulator):
    """A server whose plugin ``skyflow`` v1.0.0 is the other engine; ours is built beside it."""
    with running_bao() as running:
        sha256 = write_basic_plugin(running.plugin_dir, "basic")
        (running.folder / "basic.sha256").write_text(sha256)
        ours = build_from(copy_source(running.folder / "copy"), running.plugin_dir, "ours")
        (running.folder / "ours.sha256").write_text(ours)
        yield running


def switch(server: BaoServer, emulator: RunningEmulator, command: str) -> None:
    """Register one of the two builds as ``skyflow`` v1.0.0, and reload its mounts."""
    sha256 = (server.folder / f"{command}.sha256").read_text()
    body = {"sha256": sha256, "command": command, "version": "v1.0.0"}
    body["args"] = ["--allow-host", emulator.host] if command == "ours" else []
    body["env"] = basic_env(emulator.host, emulator.ca)
    path = "sys/plugins/catalog/secret/skyflow"
    status, answer = server.api("PUT", path, body)
    assert status == 204, answer
    status, answer = server.api("PUT", "sys/plugins/reload/backend", {"plugin": "skyflow"})
    assert status == 200, answer


@pytest.fixture
def order(server: BaoServer, emulator: RunningEmulator):
    """A mount on the other engine with a credential and two roles; its credential's text."""
    switch(server, emulator, "basic")
    with mounted(server, PATH, "skyflow"):
        text = emulator.new_account("role-1")
        config = {"credentials_json": text, "description": "orders", "tags": "a,b"}
        assert server.api("POST", f"{PATH}/config", config)[0] == 204
        for name in ("producer", "Consumer.Old"):
            role = {"role_ids": "role-1", "ctx_required": True, "cas": 0}
            assert server.api("POST", f"{PATH}/roles/{name}", role)[0] == 204
        yield text


def test_the_other_engine_answers_as_the_public_one_does(server: BaoServer, order: str):
    assert server.api("GET", f"{PATH}/config")[1]["data"] == {
        "credentials_configured": True,
        "credentials_type": "json",
        "description": "orders",
        "last_updated": server.api("GET", f"{PATH}/config")[1]["data"]["last_updated"],
        "tags": ["a", "b"],
        "version": 2,
    }
    health = server.api("GET", f"{PATH}/health")[1]["data"]
    assert set(health) == {
        "timestamp",
        "version",
        "healthy",
        "configuration_status",
        "credentials_type",
    }
    assert set(server.api("GET", f"{PATH}/roles/producer")[1]["data"]) == {
        "name",
        "role_ids",
        "description",
        "tags",
        "created_at",
        "updated_at",
    }
    creds = server.api("GET", f"{PATH}/creds/producer")[1]["data"]
    assert set(creds) == {"access_token", "token_type"}
    for method, path, status in (
        ("LIST", "config/history", 404),
        ("POST", "config/verify", 404),
        ("POST", "creds/producer", 405),
        ("GET", "roles/absent", 404),
        ("GET", "creds/absent", 400),
    ):
        assert server.api(method, f"{PATH}/{path}", {} if method == "POST" else None)[0] == status
    assert server.api("DELETE", f"{PATH}/config")[0] == 204
    assert server.api("GET", f"{PATH}/config")[0] == 404
    assert "backend not configured" in str(server.api("GET", f"{PATH}/creds/producer"))
    assert server.api("GET", f"{PATH}/health")[1]["data"]["healthy"] is False


def test_its_mount_serves_on_ours_from_the_first_read_and_a_write_stores_it_anew(
    server: BaoServer, emulator: RunningEmulator, order: str
):
    switch(server, emulator, "ours")
    key_id = json.loads(order)["keyID"]
    assert server.api("GET", f"{PATH}/creds/producer")[1]["data"]["key_id"] == key_id
    config = server.api("GET", f"{PATH}/config")[1]["data"]
    assert (config["key_id"], config["version"], config["tags"]) == (key_id, 2, ["a", "b"])
    listed = server.api("LIST", f"{PATH}/roles")[1]
    assert listed["data"]["keys"] == ["producer"]
    assert "role/Consumer.Old" in listed["warnings"][0]
    assert server.api("GET", f"{PATH}/creds/Consumer.Old")[0] == 400
    # Only read so far: the other engine still has its mount.
    switch(server, emulator, "basic")
    assert server.api("GET", f"{PATH}/creds/producer")[0] == 200
    switch(server, emulator, "ours")
    status, body = server.api("POST", f"{PATH}/config", {"description": "ours", "cas": 2})
    assert status == 200, body
    assert server.api("DELETE", f"{PATH}/roles/Consumer.Old")[0] == 204
    switch(server, emulator, "ours")
    assert server.api("GET", f"{PATH}/creds/producer")[1]["data"]["key_id"] == key_id
    assert server.api("GET", f"{PATH}/health")[1]["data"]["healthy"] is True


def test_config_delete_on_ours_destroys_the_other_engines_credential(
    server: BaoServer, emulator: RunningEmulator, order: str
):
    switch(server, emulator, "ours")
    assert server.api("DELETE", f"{PATH}/config")[0] == 200
    status, body = server.api("GET", f"{PATH}/creds/producer")
    assert (status, body["errors"]) == (400, ["mount not configured"])
    switch(server, emulator, "basic")
    assert server.api("GET", f"{PATH}/creds/producer")[0] == 400


def register_ours(server: BaoServer, emulator: RunningEmulator, *args: str):
    """Run ``plugin register`` for our build, as the README has it."""
    env = {k: v for k, v in server.env().items() if k.startswith("BAO_")}
    words = ["plugin", "register", str(server.plugin_dir / "ours"), "--version", "v1.0.0"]
    words += ["--allow-host", emulator.host, "--env", f"SSL_CERT_FILE={emulator.ca}"]
    return invoke(*words, *args, env=env)


def test_plugin_register_names_the_mounts_whose_engine_it_replaces(
    server: BaoServer, emulator: RunningEmulator, order: str
):
    before = server.api("GET", "sys/plugins/catalog/secret/skyflow?version=v1.0.0")[1]["data"]
    asked = register_ours(server, emulator, "--no-input")
    assert asked.exit_code == 5, asked.output
    assert f"{PATH} runs another engine" in asked.stderr
    assert "Consumer.Old" in asked.stderr
    after = server.api("GET", "sys/plugins/catalog/secret/skyflow?version=v1.0.0")[1]["data"]
    assert after == before
    done = register_ours(server, emulator, "-y", "-o", "json")
    assert done.exit_code == 0, done.output
    (one,) = checked_data(done.stdout)["replaces"]
    assert (one["path"], one["refused"], one["note"]) == (PATH, ["Consumer.Old"], "")
    again = register_ours(server, emulator, "-y", "-o", "json")
    assert checked_data(again.stdout)["replaces"] == []


def test_a_role_that_was_not_taken_over_is_named_by_every_plan(
    server: BaoServer, emulator: RunningEmulator, order: str, tmp_path: Path
):
    switch(server, emulator, "ours")
    text = f"""\
version: 1
manifest: shop
plugin: {{name: skyflow}}
mounts:
  order:
    credentials: {{file: {tmp_path}/order.json}}
    roles: {{producer: {{role_ids: [role-1]}}}}
"""
    (tmp_path / "mounts.yaml").write_text(text)
    (tmp_path / "order.json").write_text(order)
    env = {k: v for k, v in server.env().items() if k.startswith("BAO_")}
    words = ["plan", "-f", str(tmp_path / "mounts.yaml"), "--allow-host", emulator.host]
    done = invoke(*words, "-o", "json", env=env)
    assert done.exit_code == 0, done.output
    warnings = {one["code"]: one for one in checked_data(done.stdout)["warnings"]}
    assert "Consumer.Old" in warnings["unusable-role"]["summary"]
    assert "cannot be taken over" in warnings["unusable-role"]["why"]


def test_a_cut_off_on_the_other_engine_stays_one_on_ours(
    server: BaoServer, emulator: RunningEmulator, order: str
):
    account = json.loads(order)
    assert server.api("DELETE", f"{PATH}/config")[0] == 204
    marks = {"at": "2026-11-20T08:00:00Z", "by": "ada", "reason": "INC-7", "run": "run-3"}
    marks |= {"key_id": account["keyID"], "client_id": account["clientID"]}
    options = {f"revoked_{name}": value for name, value in marks.items()}
    assert server.api("POST", f"sys/mounts/{PATH}/tune", {"options": options})[0] == 204
    switch(server, emulator, "ours")
    assert server.api("GET", f"{PATH}/config")[1]["data"]["revoked"]["reason"] == "INC-7"
    status, body = server.api("POST", f"{PATH}/config", {"credentials_json": order})
    assert (status, "revoked" in str(body)) == (409, True)
    named = {"credentials_json": order, "allow_revoked_key": account["keyID"]}
    assert server.api("POST", f"{PATH}/config", named)[0] == 200
