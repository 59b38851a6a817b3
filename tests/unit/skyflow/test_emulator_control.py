"""The control API and its client."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from support.emulator import Caller, rsa_key, running_emulator, start_emulator
from support.faulty_emulator import Fault, FaultKind

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.devstack.emulator_client import EmulatorControl, EmulatorControlError
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.keys import private_pem, public_pem
from skyflowctl.skyflow.service_account import parse_service_account


@pytest.fixture
def caller(emulator):
    with Caller(emulator) as one:
        yield one


def test_every_control_path_needs_the_token(emulator, caller):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}):
        for path in ("state", "log", "counters", "nowhere"):
            assert caller.call("GET", f"/_emu/{path}", **headers)[0] == 401
    stranger = EmulatorControl(emulator.address, Secret("wrong"), emulator.ca)
    with pytest.raises(EmulatorControlError) as caught:
        stranger.put_account("x", role_ids=["admin"])
    assert caught.value.status == 401
    assert "x" not in emulator.control.state()["accounts"]


def test_a_generated_credential_is_what_the_linter_accepts(emulator):
    text = emulator.new_account("role-read")
    account, warnings = parse_service_account(
        text, allowed_hosts=frozenset({emulator.host}), now=datetime.now(UTC)
    )
    assert account.token_uri == emulator.token_uri
    assert json.loads(text)["keyAlgorithm"] == "KEY_ALG_RSA_2048"
    assert account.key_valid_after
    assert account.key_valid_before == account.key_valid_after + timedelta(days=365)
    assert not warnings


def test_roles_are_replaced_and_keys_stay(emulator, caller):
    credentials = emulator.new_account("role-a")
    name = json.loads(credentials)["clientID"]
    emulator.control.put_account(name, name="n", role_ids=["role-b"])
    assert caller.mint(credentials, "role:role-a")[0] == 401
    assert caller.mint(credentials, "role:role-b")[0] == 200
    emulator.control.put_account(name, role_ids=["role-b"], enforce_ctx=True)
    assert caller.mint(credentials, "role:role-b")[0] == 400
    shown = emulator.control.account(name)
    assert (shown["role_ids"], shown["enforce_ctx"]) == (["role-b"], True)
    assert "PRIVATE" not in json.dumps(shown)


def test_a_given_public_key_is_registered_with_its_validity(emulator, caller):
    credentials = json.loads(emulator.new_account())
    mine = {
        **credentials,
        "keyID": "given",
        "privateKey": private_pem(rsa_key("given")).reveal(),
    }
    soon = datetime.now(UTC) + timedelta(hours=1)
    register = emulator.control.register_key
    register(credentials["clientID"], "given", public_pem(rsa_key("given")))
    assert caller.mint(json.dumps(mine))[0] == 200
    register(credentials["clientID"], "given", public_pem(rsa_key("given")), valid_after=soon)
    status, _, body = caller.mint(json.dumps(mine))
    assert (status, body["error"]["message"]) == (401, "Error: Key expired, consider rotating.")
    shown = emulator.control.account(credentials["clientID"])["keys"]["given"]
    assert shown["valid_after"][:19] == rfc3339(soon)[:19]


def test_a_generated_key_takes_its_validity_and_its_end_counts(emulator, caller):
    name = json.loads(emulator.new_account())["clientID"]
    before = datetime.now(UTC) - timedelta(days=1)
    text = emulator.control.create_key(
        name, valid_after=before - timedelta(days=1), valid_before=before
    ).reveal()
    shown = parse_rfc3339(json.loads(text)["keyValidBeforeTime"])
    assert abs(shown - before) < timedelta(seconds=1)
    assert caller.mint(text)[0] == 401


def test_a_deleted_key_and_a_deleted_account_are_refused(emulator, caller):
    first = emulator.new_account()
    ids = json.loads(first)
    second = emulator.control.create_key(ids["clientID"]).reveal()
    emulator.control.delete_key(ids["clientID"], ids["keyID"])
    assert caller.mint(first)[0] == 401
    assert caller.mint(second)[0] == 200
    emulator.control.delete_account(ids["clientID"])
    assert caller.mint(second)[0] == 401


def test_what_is_not_there_is_a_404(emulator):
    name = json.loads(emulator.new_account())["clientID"]
    for call in (
        lambda: emulator.control.account("nobody"),
        lambda: emulator.control.create_key("nobody"),
        lambda: emulator.control.delete_account("nobody"),
        lambda: emulator.control.delete_key("nobody", "k"),
        lambda: emulator.control.delete_key(name, "k"),
    ):
        with pytest.raises(EmulatorControlError) as caught:
            call()
        assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "accounts/a", {"role_ids": "role"}),
        ("PUT", "accounts/a", {"role_ids": [1]}),
        ("PUT", "accounts/a", {"enforce_ctx": 1}),
        ("PUT", "accounts/a", {"roles": []}),
        ("PUT", "accounts/a", "["),
        ("PUT", "accounts/a", "[]"),
        ("PUT", "settings", {"token_lifetime": 0}),
        ("PUT", "settings", {"token_lifetime": True}),
        ("PUT", "settings", {"token_lifetime": 1.5}),
        ("PUT", "settings", {"clock_offset": "1"}),
        ("PUT", "settings", {"clock_offset": 1e300}),
        ("PUT", "settings", '{"clock_offset": NaN}'),
        ("POST", "faults", {}),
        ("POST", "faults", {"kind": "flood"}),
        ("POST", "faults", {"kind": "hang", "count": -1}),
        ("POST", "faults", {"kind": "status", "status": 200}),
        ("POST", "faults", {"kind": "status", "headers": {"a": 1}}),
        ("POST", "faults", {"kind": "hang", "often": 2}),
        ("POST", "faults", {"kind": "hang", "target": "nothing"}),
        ("POST", "faults", {"kind": "hang", "applied": True}),
        ("PUT", "management", {"operator_token": 7}),
        ("PUT", "management", {"key_delay": -1}),
        ("PUT", "management", {"token": "x"}),
        ("GET", "management/log", {"since": 1}),
        ("PUT", "vaults/v", {"records": {"t": 1}}),
        ("PUT", "vaults/v", {"records": {"t": {"1": "x"}}}),
        ("PUT", "vaults/v", {"tokens": {"t": 1}}),
        ("GET", "log", {"since": 1}),
    ],
)
def test_a_bad_body_is_a_400_and_changes_nothing(emulator, caller, method, path, body):
    before = emulator.control.state()
    token = (emulator.state_dir / "control-token").read_text()
    got = caller.call(method, f"/_emu/{path}", body, authorization=f"Bearer {token}")
    assert got[0] == 400
    assert got[2]["error"]["message"]
    assert emulator.control.state() == before


def test_a_public_key_must_be_one(emulator):
    name = json.loads(emulator.new_account())["clientID"]
    with pytest.raises(EmulatorControlError) as caught:
        emulator.control.register_key(name, "k", "no key")
    assert caught.value.status == 400
    assert "k" not in emulator.control.account(name)["keys"]


def test_odd_names_survive_the_path(emulator):
    name = "a/b c?d#e%2F-" + os.urandom(4).hex()
    emulator.control.put_account(name, name="odd")
    assert emulator.control.account(name)["name"] == "odd"


def test_settings_counters_log_and_their_resets():
    with running_emulator() as own, Caller(own) as caller:
        name = json.loads(own.new_account("role-read"))["clientID"]
        yesterday = datetime.now(UTC) - timedelta(days=1)
        mine = own.control.create_key(name, valid_after=yesterday).reveal()
        own.control.set_token_lifetime(60)
        own.control.set_clock_offset(-3000)
        assert caller.mint(mine)[0] == 401
        assert caller.mint(mine, exp=int(datetime.now(UTC).timestamp()) - 2000)[0] == 200
        own.control.set_clock_offset(0)
        assert caller.mint(mine, ctx={"a": 1})[0] == 200
        refused, early, good = own.control.log()
        assert [refused["status"], early["status"], good["status"]] == [401, 200, 200]
        assert (good["client_id"], good["role_ids"], good["ctx"]) == (name, ["role-read"], {"a": 1})
        offset = parse_rfc3339(good["time"]) - parse_rfc3339(early["time"])
        assert offset > timedelta(seconds=2990)
        own.control.reset_log()
        own.control.reset_counters()
        own.control.add_fault(Fault(FaultKind.EMPTY, count=0))
        assert caller.mint(mine)[2] == {}
        assert [fault["kind"] for fault in own.control.state()["faults"]] == ["empty"]
        own.control.reset_faults()
        assert caller.mint(mine)[0] == 200
        counters = own.control.counters()
        assert (counters["exchanges"], counters["granted"], counters["faults"]) == (2, 1, 1)
        assert [entry["status"] for entry in own.control.log()] == [200, 200]


def test_management_is_logged_counted_and_set_back_by_a_restart():
    with running_emulator() as own:
        name = json.loads(own.new_account("role-read"))["clientID"]
        own.control.set_management(account_id="other", key_delay=60)
        own.management(account_id="other").create_key(name)
        assert [one["operation"] for one in own.control.management_log()] == ["create_key"]
        assert own.control.counters()["management_requests"] == 1
        own.control.reset_management_log()
        assert own.control.management_log() == []
        own.stop()
        again = start_emulator(own.folder, own.port)
        try:
            assert again.control.management()["account_id"] == again.account_id
            assert again.control.management()["key_delay"] == 0
            assert len(again.management().list_keys(name)) == 2
            (late,) = [
                key for key in again.control.account(name)["keys"].values() if "known_from" in key
            ]
            assert parse_rfc3339(late["known_from"]) > datetime.now(UTC)
        finally:
            again.stop()
