"""Records of another engine and of newer ones: taken over by name, refused by name, no 500."""

from __future__ import annotations

import json

import pytest
from support import previous_records
from support.basic_engine import BasicEngine, go_time
from support.engine import Bench, WatchedStorage, scenario
from support.keys import pkcs1, rsa_key

from skyflowctl.engine.contract import EngineError, EngineRequest, Operation
from skyflowctl.engine.records import RECORD_FORMAT

A, B = "skyflow-role-a", "skyflow-role-b"


async def left_behind(bench: Bench, *, role_id: str = A, **config: object) -> str:
    """What the other engine stores for a configured mount with one role; the credential."""
    other = BasicEngine(bench.storage, bench.tokens, frozenset())
    text = bench.key(role_id)
    body = {"credentials_json": text, "validate_credentials": False, **config}
    await other.handle(EngineRequest(Operation.CREATE, "config", body))
    role = {"role_ids": role_id, "description": "one", "tags": "a,b"}
    await other.handle(EngineRequest(Operation.CREATE, "roles/r1", role))
    return text


@scenario
async def test_a_mount_of_another_engine_mints_before_any_write():
    bench = Bench()
    text = await left_behind(bench, description="orders", tags=["t"])
    before = bench.storage.dump()
    token = await bench.read("creds/r1")
    assert token["key_id"] == json.loads(text)["keyID"]
    config = await bench.read("config")
    assert config["credentials_configured"]
    assert (config["description"], config["tags"], config["version"]) == ("orders", ["t"], 2)
    assert config["client_id"] == json.loads(text)["clientID"]
    assert (await bench.read("health"))["healthy"]
    role = await bench.read("roles/r1")
    assert (role["role_ids"], role["description"], role["tags"]) == ([A], "one", ["a", "b"])
    assert (await bench.list("roles"))["keys"] == ["r1"]
    assert (await bench.list("config/history"))["keys"] == ["1"]
    await bench.write("config/verify")
    assert bench.storage.dump() == before  # reads, creds and verify write nothing


@scenario
async def test_the_first_write_stores_it_in_our_form():
    bench = Bench()
    text = await left_behind(bench)
    old = await bench.read("config")
    await bench.write("config", description="ours now", cas=old["version"])
    stored = bench.storage.dump()
    assert json.loads(stored["config"])["format"] == RECORD_FORMAT
    assert b"privateKey" not in stored["config"]
    assert json.loads(stored["credential/1"])["keyID"] == json.loads(text)["keyID"]
    bench.engine = bench.restarted()
    assert (await bench.read("creds/r1"))["key_id"] == json.loads(text)["keyID"]
    await bench.write("roles/r1", description="two", cas=1)
    assert json.loads(bench.storage.dump()["role/r1"])["format"] == RECORD_FORMAT
    assert (await bench.read("roles/r1"))["role_ids"] == [A]


@scenario
async def test_a_new_credential_keeps_the_old_one_as_the_way_back():
    bench = Bench()
    text = await left_behind(bench)
    await bench.write("config", credentials_json=bench.key(A))
    assert (await bench.read("config"))["credential_version"] == 2
    assert (await bench.write("config/rollback"))["key_id"] == json.loads(text)["keyID"]
    assert (await bench.read("creds/r1"))["key_id"] == json.loads(text)["keyID"]


@scenario
async def test_a_rollback_to_the_foreign_credential_that_is_live():
    bench = Bench()
    text = await left_behind(bench)
    assert (await bench.write("config/rollback", credential_version=1))["key_id"]
    assert (await bench.read("creds/r1"))["key_id"] == json.loads(text)["keyID"]


@pytest.mark.parametrize("usable", [True, False])
@scenario
async def test_config_delete_destroys_a_foreign_credential_too(usable):
    bench = Bench()
    text = await left_behind(bench)
    if not usable:
        record = json.loads(bench.storage.dump()["config"])
        broken = text.replace("BEGIN PRIVATE KEY", "BEGIN PUBLIC KEY")
        await bench.storage.put(
            "config", json.dumps({**record, "credentials_json": broken}).encode()
        )
    secret = json.loads(text)["privateKey"].splitlines()[3].encode()
    assert any(secret in value for value in bench.storage.dump().values())
    await bench.delete("config")
    assert not any(secret in value for value in bench.storage.dump().values())
    assert await bench.fails(400, "read", "creds/r1") == "mount not configured"
    bench.engine = bench.restarted()
    assert await bench.fails(400, "read", "creds/r1") == "mount not configured"


@scenario
async def test_config_delete_marks_the_key_of_a_foreign_credential_that_is_unusable():
    """One that is expired by its dates: the same key must not come back with valid ones."""
    bench = Bench()
    text = await left_behind(bench)
    record = json.loads(bench.storage.dump()["config"])
    expired = json.dumps({**json.loads(text), "keyValidBeforeTime": "2020-01-01T00:00:00.000Z"})
    await bench.storage.put("config", json.dumps({**record, "credentials_json": expired}).encode())
    bench.engine = bench.restarted()
    assert not (await bench.read("config"))["credentials_configured"]
    await bench.delete("config")
    key_id = json.loads(text)["keyID"]
    assert (await bench.read("config"))["revoked"]["key_id"] == key_id
    assert "revoked" in await bench.fails(409, "update", "config", credentials_json=text)
    await bench.write("config", credentials_json=text, allow_revoked_key=key_id)
    assert (await bench.read("config"))["key_id"] == key_id


@scenario
async def test_a_kill_during_the_first_write_leaves_either_engine_its_mount():
    for writes in range(6):
        bench = Bench()
        text = await left_behind(bench)
        storage = bench.storage.copy()
        storage.writes_left = writes
        bench.engine = bench.restarted(storage)
        await _may_fail(bench.write("config", description="new"))
        bench.engine = bench.restarted(WatchedStorage(storage.dump()))
        assert (await bench.read("creds/r1"))["key_id"] == json.loads(text)["keyID"], writes


async def _may_fail(call):
    try:
        await call
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"credentials_file_path": "/etc/key.json"}, "names a file on the server"),
        ({"credentials_json": "{}"}, "clientID is missing"),
        ({"credentials_json": "no json"}, "JSON"),
        ({"credentials_json": ""}, "names a file"),
    ],
)
@scenario
async def test_a_credential_that_cannot_be_taken_over_is_refused_with_its_reason(config, reason):
    bench = Bench()
    await left_behind(bench)
    record = {**config, "version": 3, "last_updated": go_time(), "description": "orders"}
    await bench.storage.put("config", json.dumps(record).encode())
    bench.engine = bench.restarted()
    for operation, path in (("read", "creds/r1"), ("update", "config/verify")):
        message = await bench.fails(400, operation, path)
        assert message.startswith("mount not configured: its credential was left by another")
        assert reason in message
    reply = await bench.call("read", "config")
    assert not reply.data["credentials_configured"]
    assert reply.data["description"] == "orders"
    assert reason in reply.warnings[0]
    health = await bench.read("health")
    assert health["configuration_status"] == "unconfigured"
    assert reason in health["token_service"]["error"]
    await bench.write("config", credentials_json=bench.key(A))
    assert (await bench.read("creds/r1"))["access_token"]


@scenario
async def test_another_spelling_of_a_foreign_credential_is_normalised():
    bench = Bench()
    text = await left_behind(bench)
    fields = json.loads(text) | {"privateKey": pkcs1(rsa_key())}
    record = {"credentials_json": json.dumps(fields), "version": 2, "last_updated": "never"}
    await bench.storage.put("config", json.dumps(record).encode())
    assert (await bench.read("creds/r1"))["key_id"] == fields["keyID"]


@pytest.mark.parametrize(
    ("name", "role_ids", "reason"),
    [
        ("Order.Producer", [A], "a name has 1 to 63 lower-case"),
        ("two", [A, B], "2 role_ids"),
        ("none", None, "0 role_ids"),
        ("blank", ["a role:b"], "other characters"),
    ],
)
@scenario
async def test_a_role_that_cannot_be_taken_over_is_refused_by_name(name, role_ids, reason):
    bench = Bench()
    await left_behind(bench)
    role = {"name": name, "role_ids": role_ids, "created_at": go_time(), "updated_at": go_time()}
    await bench.storage.put(f"role/{name}", json.dumps(role).encode())
    reply = await bench.call("list", "roles")
    assert reply.data["keys"] == ["r1"]
    assert reason in reply.data["unusable"][name]
    assert name in reply.warnings[0]
    assert reason in await bench.fails(400, "read", f"creds/{name}")
    assert (await bench.read("health"))["healthy"]
    if name.islower():
        await bench.write(f"roles/{name}", role_ids=[A])
        assert (await bench.read(f"creds/{name}"))["access_token"]
    await bench.delete(f"roles/{name}")
    assert "unusable" not in await bench.list("roles")


# Formats ------------------------------------------------------------------------


@scenario
async def test_every_stored_record_of_ours_carries_a_format_number():
    bench = Bench()
    seen: dict[str, bytes] = {}
    put = bench.storage.put

    async def watched(key, value):
        seen[key] = value
        await put(key, value)

    bench.storage.put = watched
    await bench.configured(A)
    await bench.write("config", credentials_json=bench.key(A), rotation_id="rot-1")
    await bench.write("config/commit", rotation_id="rot-1")
    await bench.delete("config")
    assert {key.partition("/")[0] for key in seen} == {
        "config",
        "credential",
        "revoked",
        "role",
        "wal",
    }
    assert {json.loads(value)["format"] for value in seen.values()} == {RECORD_FORMAT}


@pytest.mark.parametrize("key", ["config", "credential/1", "role/r1"])
@pytest.mark.parametrize("number", [RECORD_FORMAT + 1, "2", None, -1, True])
@scenario
async def test_a_newer_format_is_refused_by_name_and_never_overwritten(key, number):
    bench = Bench()
    await bench.configured(A)
    record = json.loads(bench.storage.dump()[key]) | {"format": number}
    await bench.storage.put(key, json.dumps(record).encode())
    bench.engine = bench.restarted()
    before = {k: v for k, v in bench.storage.dump().items() if not k.startswith("wal/")}
    path = "roles/r1" if key == "role/r1" else "config"
    for operation, where, data in (
        ("read", "creds/r1", {}),
        ("read", path, {}),
        ("update", path, {"description": "x"}),
    ):
        message = await bench.fails(400, operation, where, **data)
        assert f"stored record {key} was written by a newer engine" in message
    after = {k: v for k, v in bench.storage.dump().items() if not k.startswith("wal/")}
    assert after == before


@pytest.mark.parametrize("key", ["config", "credential/1", "role/r1"])
@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff", b"[" * 9999, b'{"history":3}'])
@scenario
async def test_a_damaged_record_is_never_a_500(key, damage):
    bench = Bench()
    await bench.configured(A)
    await bench.storage.put(key, damage)
    bench.engine = bench.restarted()
    for operation, path in (
        ("read", "creds/r1"),
        ("read", "config"),
        ("read", "health"),
        ("list", "roles"),
    ):
        outcome = await bench.outcome(operation, path, {})
        if isinstance(outcome, EngineError):
            assert outcome.status in {400, 503}
            named = key in outcome.message or outcome.message == "mount not configured"
            assert named or outcome.status == 503 or not damage
    if not key.startswith("role/"):
        await bench.delete("config")  # the cut-off needs no readable record
        bench.engine = bench.restarted()
        assert await bench.fails(400, "read", "creds/r1")
        assert not [one for one in bench.storage.dump() if one.startswith("credential/")]
        await bench.write("config", credentials_json=bench.key(A), validate_credentials=False)
        assert (await bench.read("config"))["credentials_configured"]


@scenario
async def test_the_previous_releases_reader_takes_what_this_one_writes():
    bench = Bench()
    await bench.write("roles/r1", role_ids=[A], ctx_pattern="o:*", ctx_probe="o:1", tags=["t"])
    texts = [bench.key(A), bench.key(A)]
    await bench.write("config", credentials_json=texts[0], description="d", tags=["x"])
    await bench.write("config", credentials_json=texts[1], rotation_id="rot-1")
    stored = bench.storage.dump()
    config = previous_records.read_config(stored["config"])
    assert (config["configured"], config["description"], config["tags"]) == (True, "d", ["x"])
    keys = [json.loads(text)["keyID"] for text in texts]
    assert [entry["key_id"] for entry in config["history"]] == keys
    assert config["rotation"]["id"] == "rot-1"
    for entry, text in zip(config["history"], texts, strict=True):
        kept = previous_records.read_credential(stored[f"credential/{entry['slot']}"])
        assert kept["privateKey"] == json.loads(text)["privateKey"]
    role = previous_records.read_role(stored["role/r1"])
    assert (role["role_ids"], role["ctx_pattern"], role["ctx_probe"]) == ([A], "o:*", "o:1")
