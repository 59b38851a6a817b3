"""A cut-off stays a cut-off: what the engine stores of it, and what it then refuses."""

import json
from datetime import timedelta

import pytest
from support.engine import START, Bench, scenario

from skyflowctl.engine.engine import Engine
from skyflowctl.engine.records import (
    CONFIG_KEY,
    ConfigRecord,
    RevocationRecord,
    revoked_key_path,
)
from skyflowctl.vault.decode import REVOKED_MARK

A = "skyflow-role-a"
REASON = "INC-1042: key in a log"


def who(text):
    fields = json.loads(text)
    return fields["clientID"], fields["keyID"]


async def cut_off(bench, **query):
    return await bench.delete("config", reason=REASON, run="run-7", **query)


@scenario
async def test_a_cut_off_is_told_until_the_next_credential():
    bench = Bench()
    text = await bench.configured(A)
    assert (await bench.read("config"))["revoked"] is None
    await cut_off(bench)
    told = {
        "at": "2026-11-22T12:00:00Z",
        "by": "token-alice",
        "reason": REASON,
        "run": "run-7",
        "key_id": who(text)[1],
    }
    assert (await bench.read("config"))["revoked"] == told
    # A new process says the same; so does one after a patch that brings no credential.
    bench.engine = bench.restarted()
    assert (await bench.read("config"))["revoked"] == told
    await bench.write("config", credentials_json=bench.key(A))
    assert (await bench.read("config"))["revoked"] is None
    entries = (await bench.list("config/history"))["key_info"]
    assert [entry["revoked"] for entry in entries.values()] == [told, None]


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "   ",
        "two\nlines",
        "tab\there",
        "bell\x07",
        "x" * 201,
        "line\u2028end",
        chr(0xD800),
        "\ufffd",
    ],
)
@scenario
async def test_a_reason_is_1_to_200_printable_characters(reason):
    bench = Bench()
    await bench.configured(A)
    await bench.fails(400, "delete", "config", reason=reason)
    assert (await bench.read("config"))["credentials_configured"] is True


@pytest.mark.parametrize("reason", ["x", "x" * 200, "Schl\u00fcssel im Log \u2013 INC 7"])
@scenario
async def test_these_reasons_are_taken(reason):
    bench = Bench()
    await bench.configured(A)
    await bench.delete("config", reason=reason)
    assert (await bench.read("config"))["revoked"]["reason"] == reason


@scenario
async def test_a_second_cut_off_adds_only_a_reason_that_was_missing():
    bench = Bench()
    await bench.configured(A)
    assert (await bench.delete("config"))["version"] == 2
    bench.clock.pass_seconds(60)
    assert (await cut_off(bench))["version"] == 3
    revoked = (await bench.read("config"))["revoked"]
    assert (revoked["at"], revoked["reason"], revoked["run"]) == (
        "2026-11-22T12:00:00Z",
        REASON,
        "run-7",
    )
    assert (await bench.delete("config", reason="other", run="run-8"))["version"] == 3
    assert (await bench.read("config"))["revoked"] == revoked


@scenario
async def test_live_and_kept_keys_are_refused_and_one_retired_before_is_not():
    bench = Bench()
    keys = [await bench.configured(A)]
    for _ in range(2):
        keys.append(bench.key(A))
        await bench.write("config", credentials_json=keys[-1])
    await bench.delete("config/history/1")
    await cut_off(bench)
    for text in keys[1:]:
        message = await bench.fails(409, "update", "config", credentials_json=text)
        assert "revoked" in message
        assert who(text)[1] not in message
    await bench.write("config", credentials_json=keys[0])
    assert (await bench.read("config"))["key_id"] == who(keys[0])[1]


@scenario
async def test_a_refused_key_is_not_minted_with():
    bench = Bench()
    text = await bench.configured(A)
    await cut_off(bench)
    calls = bench.tokens
    asked = []
    exchange = calls.exchange

    async def watched(*args, **kwargs):
        asked.append(args)
        return await exchange(*args, **kwargs)

    calls.exchange = watched
    await bench.fails(409, "update", "config", credentials_json=text)
    assert asked == []


@scenario
async def test_the_mark_survives_re_creation_a_long_history_and_a_damaged_config():
    bench = Bench()
    text = await bench.configured(A)
    await cut_off(bench)
    # Re-created after the delete: another key, with a history that has forgotten the first.
    await bench.write("config", credentials_json=bench.key(A))
    stored = json.loads(bench.storage.dump()[CONFIG_KEY])
    stored["history"] = stored["history"][1:]
    await bench.storage.put(CONFIG_KEY, json.dumps(stored).encode())
    bench.engine = bench.restarted()
    await bench.fails(409, "update", "config", credentials_json=text)
    # A damaged config that is cut off: the keys are read from what is stored.
    second = bench.key(A)
    await bench.write("config", credentials_json=second)
    await bench.storage.put(CONFIG_KEY, b"{damaged")
    bench.engine = bench.restarted()
    await cut_off(bench)
    assert (await bench.read("config"))["revoked"]["reason"] == REASON
    for revoked in (text, second):
        await bench.fails(409, "update", "config", credentials_json=revoked)
    await bench.write("config", credentials_json=bench.key(A))


@pytest.mark.parametrize("again", [False, True])
@scenario
async def test_a_cut_off_by_an_earlier_release_counts(again):
    bench = Bench()
    text = await bench.configured(A)
    await cut_off(bench)
    stored = json.loads(bench.storage.dump()[CONFIG_KEY])
    del stored["revoked"]
    for entry in stored["history"]:
        del entry["revoked"]
    await bench.storage.put(CONFIG_KEY, json.dumps(stored).encode())
    await bench.storage.delete(revoked_key_path(*who(text)))
    bench.engine = bench.restarted()
    assert (await bench.read("config"))["revoked"] == {
        "at": "2026-11-22T12:00:00Z",
        "by": "",
        "reason": "",
        "run": "",
        "key_id": who(text)[1],
    }
    await bench.fails(409, "update", "config", credentials_json=text)
    if again:
        await cut_off(bench)
        assert (await bench.read("config"))["revoked"]["reason"] == REASON
    # A new key ends it, and the old one stays refused.
    await bench.write("config", credentials_json=bench.key(A))
    assert (await bench.read("config"))["revoked"] is None
    await bench.fails(409, "update", "config", credentials_json=text)


@scenario
async def test_a_key_is_refused_whatever_its_other_fields_say():
    bench = Bench()
    text = await bench.configured(A)
    await cut_off(bench)
    renamed = json.dumps(json.loads(text) | {"clientName": "another name"})
    await bench.fails(409, "update", "config", credentials_json=renamed)
    named = {"credentials_json": renamed, "allow_revoked_key": who(text)[1]}
    assert (await bench.write("config", **named))["key_id"] == who(text)[1]


@scenario
async def test_a_mount_that_never_had_a_config_keeps_no_mark():
    bench = Bench()
    assert await cut_off(bench) is None
    assert (await bench.read("config"))["revoked"] is None
    assert bench.storage.dump() == {}


def test_an_older_engine_reads_the_record_without_the_mark():
    """What this release adds are new keys: the previous one drops what it does not know."""
    mark = RevocationRecord(START + timedelta(hours=1), "alice", REASON, "run-7", "key")
    record = ConfigRecord(version=2, credential_version=1, revoked=mark)
    stored = json.loads(record.to_bytes())
    assert ConfigRecord.from_stored(stored) == record
    del stored["revoked"]
    assert ConfigRecord.from_stored(stored).revoked is None


INTENT = {"rotation_id": "rot-1", "rotation_keys": ["old"]}


@scenario
async def test_the_intent_of_a_rotation_may_end_a_cut_off_and_nothing_else_without_a_credential():
    bench = Bench()
    await bench.fails(400, "update", "config", **INTENT)
    await bench.configured(A)
    await cut_off(bench)
    revoked = (await bench.read("config"))["revoked"]
    await bench.fails(400, "update", "config", description="no credential")
    await bench.write("config", **INTENT)
    told = await bench.read("config")
    assert (told["revoked"], told["credentials_configured"]) == (revoked, False)
    assert (told["rotation"]["state"], told["rotation"]["from"]) == ("open", "")
    await bench.fails(400, "read", "creds/reader")
    text = bench.key(A)
    await bench.write("config", credentials_json=text, rotation_id="rot-1")
    told = await bench.read("config")
    assert (told["revoked"], told["key_id"]) == (None, who(text)[1])
    committed = await bench.write("config/commit", rotation_id="rot-1")
    assert committed["rotation"]["old_tokens_valid_until"] is None


@scenario
async def test_a_cut_off_forgets_a_rotation_that_was_to_end_the_one_before():
    bench = Bench()
    await bench.configured(A)
    await cut_off(bench)
    version = (await bench.write("config", **INTENT))["version"]
    revoked = (await bench.read("config"))["revoked"]
    await bench.delete("config", reason="another", run="run-8")
    told = await bench.read("config")
    assert (told["rotation"], told["revoked"]) == (None, revoked)
    # So the write that was under way loses.
    late = {"credentials_json": bench.key(A), "rotation_id": "rot-1", "cas": version}
    await bench.fails(409, "update", "config", **late)


@scenario
async def test_the_end_of_the_tokens_stays_that_of_the_first_cut_off():
    bench = Bench()
    await bench.configured(A)
    bench.tokens.state.token_lifetime = 7_200
    await bench.write("roles/reader", role_ids=[A])
    await bench.read("creds/reader")
    first = await cut_off(bench)
    assert first["old_tokens_valid_until"] == "2026-11-22T14:00:10Z"
    bench.clock.pass_seconds(600)
    bench.engine = bench.restarted()
    again = await cut_off(bench)
    assert again["old_tokens_valid_until"] == first["old_tokens_valid_until"]
    assert "tokens_until" not in (await bench.read("config"))["revoked"]


@scenario
async def test_tokens_of_a_key_that_was_just_rotated_away_count_too():
    bench = Bench()
    await bench.configured(A)
    await bench.write("roles/reader", role_ids=[A])
    bench.tokens.state.token_lifetime = 7_200
    await bench.read("creds/reader")
    bench.tokens.state.token_lifetime = 60
    await bench.write("config", credentials_json=bench.key(A), rotation_id="rot-1")
    assert (await cut_off(bench))["old_tokens_valid_until"] == "2026-11-22T14:00:10Z"


def options(text: str) -> dict[str, str]:
    """What a cut-off on an engine with the basic API leaves in the mount's options."""
    account = json.loads(text)
    told = {"at": "2026-11-20T08:00:00Z", "by": "ada", "reason": "INC-7", "run": "run-3"}
    told |= {"key_id": account["keyID"], "client_id": account["clientID"]}
    return {f"{REVOKED_MARK}{name}": value for name, value in told.items()}


@scenario
async def test_a_cut_off_by_the_engine_before_is_told_and_its_key_refused():
    bench = Bench()
    old, new = bench.key(), bench.key()
    marked = options(old)
    bench.engine = Engine(bench.storage, bench.tokens, bench.settings, bench.clock, marked)
    assert (await bench.read("config"))["revoked"] == {
        name: marked[f"{REVOKED_MARK}{name}"] for name in ("at", "by", "reason", "run", "key_id")
    }
    message = await bench.fails(409, "update", "config", credentials_json=old)
    assert "revoked" in message
    await bench.write("config", credentials_json=new, cas=0)
    assert (await bench.read("config"))["revoked"] is None
    await bench.fails(409, "update", "config", credentials_json=old)
    # The first write took the mark over: it counts also when the options are gone.
    bench.engine = bench.restarted()
    await bench.fails(409, "update", "config", credentials_json=old)
    key_id = json.loads(old)["keyID"]
    await bench.write("config", credentials_json=old, allow_revoked_key=key_id)
    assert (await bench.read("config"))["key_id"] == key_id


@pytest.mark.parametrize("at", ["", "yesterday"])
@scenario
async def test_options_without_a_time_are_no_cut_off(at):
    bench = Bench()
    marked = {**options(bench.key()), f"{REVOKED_MARK}at": at}
    bench.engine = Engine(bench.storage, bench.tokens, bench.settings, bench.clock, marked)
    assert (await bench.read("config"))["revoked"] is None
