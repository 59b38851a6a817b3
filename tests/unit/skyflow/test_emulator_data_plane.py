"""The data plane: a token opens the vault of its role and no other."""

from __future__ import annotations

import os

import pytest
from support.emulator import Caller

BODY = {"detokenizationParameters": [{"token": "tok-1", "redaction": "PLAIN_TEXT"}]}


@pytest.fixture
def caller(emulator):
    with Caller(emulator) as one:
        yield one


@pytest.fixture(scope="module")
def credentials(emulator):
    return emulator.new_account("reader", "writer")


def get(caller, token, vault, query="?skyflow_ids=1&skyflow_ids=2", prefix=""):
    path = f"{prefix}/v1/vaults/{vault}/persons{query}"
    return caller.call("GET", path, authorization=f"Bearer {token}")


def test_an_unconfigured_vault_needs_the_role_of_its_name(caller, credentials):
    token = caller.token(credentials, "role:reader")
    status, _, body = get(caller, token, "reader")
    assert (status, len(body["records"])) == (200, 2)
    status, headers, body = get(caller, token, "writer")
    assert status == 403
    assert (body["error"]["grpc_code"], body["error"]["http_status"]) == (7, "Forbidden")
    assert headers["x-request-id"]


def test_a_token_without_scope_opens_every_vault_of_its_account(caller, credentials):
    token = caller.token(credentials)
    assert [get(caller, token, vault)[0] for vault in ("reader", "writer", "other")] == [
        200,
        200,
        403,
    ]


def test_a_configured_vault_holds_what_it_was_given(emulator, caller, credentials):
    vault = os.urandom(4).hex()
    emulator.control.put_vault(
        vault, "reader", records={"persons": {"1": {"name": "Ada"}}}, tokens={"tok-1": "Ada"}
    )
    reader, writer = (caller.token(credentials, f"role:{role}") for role in ("reader", "writer"))
    status, _, body = get(caller, reader, vault, "?skyflow_ids=1")
    assert (status, body["records"]) == (200, [{"fields": {"skyflow_id": "1", "name": "Ada"}}])
    assert get(caller, reader, vault)[0] == 404
    assert get(caller, writer, vault)[0] == 403
    path = f"/v1/vaults/{vault}/detokenize"
    status, _, body = caller.call("POST", path, BODY, authorization=f"Bearer {reader}")
    assert (status, body["records"][0]["value"]) == (200, "Ada")
    assert caller.call("POST", path, BODY, authorization=f"Bearer {writer}")[0] == 403
    missing = {"detokenizationParameters": [{"token": "tok-2"}]}
    assert caller.call("POST", path, missing, authorization=f"Bearer {reader}")[0] == 404
    emulator.control.delete_vault(vault)
    assert get(caller, reader, vault)[0] == 403


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", '{"detokenizationParameters": 1}', '{"detokenizationParameters": [1]}']
)
def test_a_bad_detokenize_body_is_a_400(caller, credentials, body):
    token = caller.token(credentials)
    path = "/v1/vaults/reader/detokenize"
    assert caller.call("POST", path, body, authorization=f"Bearer {token}")[0] == 400


def test_other_operations_are_404(caller, credentials):
    token = caller.token(credentials)
    for method, resource in (("PUT", "persons"), ("POST", "tokenize"), ("POST", "query")):
        path = f"/v1/vaults/reader/{resource}"
        assert caller.call(method, path, "{}", authorization=f"Bearer {token}")[0] == 404


def test_what_is_inserted_is_read_back_and_its_tokens_are_detokenized(emulator, caller):
    vault = os.urandom(4).hex()
    token = caller.token(emulator.new_account(vault), f"role:{vault}")

    def call(method, resource, body=None):
        path = f"/v1/vaults/{vault}/{resource}"
        status, _, answer = caller.call(method, path, body, authorization=f"Bearer {token}")
        return status, answer

    rows = [{"fields": {"name": "Ada", "age": 36}}, {"fields": {"name": "Grace"}}]
    status, answer = call("POST", "persons", {"records": rows, "tokenization": True})
    first, second = answer["records"]
    assert (status, set(first["tokens"])) == (200, {"name", "age"})
    status, plain = call("POST", "persons", {"records": rows[:1]})
    assert (status, "tokens" in plain["records"][0]) == (200, False)
    read = call("GET", f"persons?skyflow_ids={first['skyflow_id']}")[1]["records"]
    assert read == [{"fields": {"skyflow_id": first["skyflow_id"], "name": "Ada", "age": 36}}]
    wanted = [{"token": second["tokens"]["name"]}, {"token": first["tokens"]["age"]}]
    values = call("POST", "detokenize", {"detokenizationParameters": wanted})[1]["records"]
    assert [one["value"] for one in values] == ["Grace", "36"]
    emulator.control.put_vault(vault, vault)
    assert call("GET", f"persons?skyflow_ids={first['skyflow_id']}")[0] == 404
    emulator.control.delete_vault(vault)


@pytest.mark.parametrize(
    "records", [None, [], [{}], [{"fields": {}}], ["x"], [{"fields": {"a": 1}}] * 26]
)
def test_an_insert_without_good_records_is_a_400(caller, credentials, records):
    token = caller.token(credentials)
    path, body = "/v1/vaults/reader/persons", {"records": records}
    assert caller.call("POST", path, body, authorization=f"Bearer {token}")[0] == 400


def test_the_vault_host_as_first_segment_is_stripped(caller, credentials):
    token = caller.token(credentials, "role:reader")
    assert get(caller, token, "reader", prefix="/emu.vault.skyflowapis.com")[0] == 200
    assert get(caller, token, "reader", prefix="/emu.example.com")[0] == 404


def test_no_token_a_broken_one_and_a_mere_assertion_are_401(caller, credentials):
    from support.emulator import sign

    assert caller.call("GET", "/v1/vaults/reader/persons")[0] == 401
    token = caller.token(credentials, "role:reader")
    basic = caller.call("GET", "/v1/vaults/reader/persons", authorization=f"Basic {token}")
    assert basic[0] == 401
    swapped = token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
    for bad in (swapped, sign(credentials), "x", ""):
        status, _, body = get(caller, bad, "reader")
        assert (status, body["error"]["grpc_code"]) == (401, 16)


def test_an_expired_token_is_refused_in_the_documented_words():
    from support.emulator import running_emulator

    with running_emulator() as own, Caller(own) as caller:
        own.control.set_token_lifetime(60)
        token = caller.token(own.new_account("reader"), "role:reader")
        assert get(caller, token, "reader")[0] == 200
        own.control.set_clock_offset(61)
        status, _, body = get(caller, token, "reader")
        assert status == 401
        assert "Bearer token is expired" in body["error"]["message"]
        own.control.set_clock_offset(0)
        assert get(caller, token, "reader")[0] == 200
