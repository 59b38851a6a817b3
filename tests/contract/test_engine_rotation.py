"""Commit, rollback and destruction of credentials, as the design lays them down."""

import asyncio
import json

import pytest
from support.engine import Bench, scenario

from skyflowctl.engine.contract import EngineError
from skyflowctl.skyflow.token_service import TokenServiceUnreachableError

A, B = "skyflow-role-a", "skyflow-role-b"


def key_of(text):
    return json.loads(text)["keyID"]


async def rotation(bench):
    return (await bench.read("config"))["rotation"]


async def kept(bench):
    entries = (await bench.list("config/history"))["key_info"]
    return {int(number) for number, entry in entries.items() if entry["kept"]}


def stored(bench):
    return {name for name in bench.storage.dump() if name.startswith("credential/")}


async def rotated(**fields):
    """A mount whose rotation rot-1 has replaced the first credential by a second."""
    bench = Bench()
    old = await bench.configured(A)
    new = bench.key(A)
    await bench.write("config", credentials_json=new, rotation_id="rot-1", **fields)
    return bench, key_of(old), key_of(new)


class TestCommit:
    @scenario
    async def test_it_stores_the_cut_over_and_how_long_old_tokens_live(self):
        bench, old, new = await rotated()
        bench.clock.pass_seconds(60)
        reply = await bench.write("config/commit", rotation_id="rot-1")
        assert (reply["version"], reply["credential_version"], reply["key_id"]) == (3, 2, new)
        assert await rotation(bench) == reply["rotation"]
        assert reply["rotation"] == {
            "id": "rot-1",
            "from": old,
            "to": new,
            "started": "2026-11-22T12:00:00Z",
            "by": "token-alice",
            "state": "committed",
            "cut_over_at": "2026-11-22T12:01:00Z",
            "old_tokens_valid_until": "2026-11-22T13:01:00Z",
            "keys": [],
        }

    @pytest.mark.parametrize("restart", ["never", "before the write", "before the commit"])
    @scenario
    async def test_the_life_is_that_of_the_old_credentials_tokens(self, restart):
        bench = Bench()
        bench.tokens.state.token_lifetime = 30
        await bench.configured(A)
        for seconds in (90, 20):
            bench.tokens.state.token_lifetime = seconds
            await bench.read("creds/r1")
        bench.tokens.state.token_lifetime = 7000
        if restart == "before the write":
            bench.engine = bench.restarted()
        await bench.write("config", credentials_json=bench.key(A), rotation_id="rot-1")
        if restart == "before the commit":
            bench.engine = bench.restarted()
        until = (await bench.write("config/commit", rotation_id="rot-1"))["rotation"]
        # A process that minted nothing with the old one goes by what Skyflow's tokens live.
        known = "13:00:00" if restart == "before the write" else "12:01:30"
        assert until["old_tokens_valid_until"] == f"2026-11-22T{known}Z"

    @scenario
    async def test_again_it_changes_nothing(self):
        bench, _, _ = await rotated()
        first = await bench.write("config/commit", rotation_id="rot-1")
        before = bench.storage.dump()
        bench.clock.pass_seconds(600)
        assert await bench.write("config/commit", rotation_id="rot-1") == first
        assert bench.storage.dump() == before

    @scenario
    async def test_another_id_none_or_an_intent_alone_is_409(self):
        bench = Bench()
        await bench.configured(A)
        await bench.fails(409, "update", "config/commit", rotation_id="rot-1")
        await bench.write("config", rotation_id="rot-1")
        await bench.fails(409, "update", "config/commit", rotation_id="rot-2")
        message = await bench.fails(409, "update", "config/commit", rotation_id="rot-1")
        assert message == "this rotation has written no credential"
        assert await bench.fails(400, "update", "config/commit") == "rotation_id: missing"
        message = await bench.fails(400, "update", "config/commit", rotation_id="zq 7")
        assert "zq" not in message

    @scenario
    async def test_a_first_credential_leaves_no_old_tokens(self):
        bench = Bench()
        await bench.write("config", credentials_json=bench.key(A), rotation_id="rot-1")
        committed = (await bench.write("config/commit", rotation_id="rot-1"))["rotation"]
        assert (committed["from"], committed["old_tokens_valid_until"]) == ("", None)


class TestOneRotationAtATime:
    @scenario
    async def test_what_has_written_is_never_taken_over(self):
        bench, _, new = await rotated()
        for fields in ({}, {"cas": 2}, {"credentials_json": bench.key(A), "cas": 2}):
            message = await bench.fails(409, "update", "config", rotation_id="rot-2", **fields)
            assert "commit it or roll it back" in message
        assert (await bench.read("config"))["key_id"] == new
        await bench.write("config/commit", rotation_id="rot-1")
        await bench.write("config", rotation_id="rot-2")
        assert (await rotation(bench))["state"] == "open"

    @scenario
    async def test_it_is_refused_before_anything_is_minted(self):
        bench, _, _ = await rotated()
        other, asked = bench.key(A), bench.tokens.state.counters.exchanges
        await bench.fails(
            409, "update", "config", rotation_id="rot-2", credentials_json=other, cas=2
        )
        assert bench.tokens.state.counters.exchanges == asked

    @scenario
    async def test_of_ten_at_once_one_wins_with_and_without_cas(self):
        for cas in ({"cas": 1}, {}):
            bench = Bench()
            await bench.configured(A)
            keys = {f"rot-{n}": bench.key(A) for n in range(10)}
            outcomes = await asyncio.gather(
                *(
                    bench.outcome(
                        "update", "config", {"rotation_id": id_, "credentials_json": key, **cas}
                    )
                    for id_, key in keys.items()
                )
            )
            lost = [one.status for one in outcomes if isinstance(one, EngineError)]
            assert lost == [409] * 9
            found = await rotation(bench)
            live = (await bench.read("creds/r1"))["key_id"]
            assert found["to"] == key_of(keys[found["id"]]) == live
            assert await kept(bench) == {1, 2}

    @scenario
    async def test_one_rotation_writes_one_key(self):
        bench, _, new = await rotated()
        other = bench.key(A)
        await bench.fails(409, "update", "config", rotation_id="rot-1", credentials_json=other)
        await bench.fails(409, "update", "config", rotation_id="rot-1", rotation_to="k9")
        await bench.write("config/commit", rotation_id="rot-1")
        await bench.fails(409, "update", "config", rotation_id="rot-1")
        assert (await bench.read("config"))["key_id"] == new

    @scenario
    async def test_the_same_write_again_is_the_callers_own(self):
        bench = Bench()
        old, new = await bench.configured(A), bench.key(A)
        for _ in range(2):
            await bench.write("config", credentials_json=new, rotation_id="rot-1")
        found = await rotation(bench)
        assert (found["from"], found["to"]) == (key_of(old), key_of(new))
        assert (await bench.read("config"))["credential_version"] == 2


class TestRecordedKeys:
    @scenario
    async def test_the_keys_and_the_new_one_are_recorded_before_it_is_written(self):
        bench = Bench()
        old, new = await bench.configured(A), bench.key(A)
        listed = [key_of(old), "k-other"]
        await bench.write("config", rotation_id="rot-1", rotation_keys=listed, cas=1)
        await bench.write("config", rotation_id="rot-1", rotation_to=key_of(new), cas=2)
        found = await rotation(bench)
        assert (found["keys"], found["to"], found["state"]) == (listed, key_of(new), "open")
        assert (await bench.read("config"))["key_id"] == key_of(old)
        await bench.fails(409, "update", "config/commit", rotation_id="rot-1")
        other = bench.key(A)
        message = await bench.fails(
            409, "update", "config", rotation_id="rot-1", credentials_json=other
        )
        assert message == "this rotation has recorded another key"
        await bench.write("config", rotation_id="rot-1", credentials_json=new, cas=3)
        await bench.write("config/commit", rotation_id="rot-1")

    @scenario
    async def test_a_lost_key_is_replaced_by_another(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", rotation_id="rot-1", rotation_keys="a,b", rotation_to="lost")
        bench.engine = bench.restarted()
        new = bench.key(A)
        await bench.write("config", rotation_id="rot-1", rotation_to=key_of(new))
        assert (await rotation(bench))["keys"] == ["a", "b"]
        await bench.write("config", rotation_id="rot-1", credentials_json=new)

    @pytest.mark.parametrize("fields", [{"rotation_to": "k"}, {"rotation_keys": ["k"]}])
    @pytest.mark.parametrize("more", [{}, {"rotation_id": ""}])
    @scenario
    async def test_without_an_id_they_are_refused(self, fields, more):
        bench = Bench()
        await bench.configured(A)
        message = await bench.fails(400, "update", "config", **fields, **more)
        assert message == "rotation_to and rotation_keys need a rotation_id"


class TestRollback:
    @scenario
    async def test_the_one_before_becomes_a_new_version(self):
        bench, old, new = await rotated()
        reply = await bench.write("config/rollback", cas_credential_version=2)
        assert (reply["credential_version"], reply["key_id"], reply["warnings"]) == (3, old, [])
        assert reply["old_tokens_valid_until"] == "2026-11-22T13:00:00Z"
        assert (await bench.read("creds/r1"))["key_id"] == old
        config = await bench.read("config")
        assert (config["version"], config["credential_version"]) == (3, 3)
        assert config["rotation"] is None
        entry = await bench.read("config/history/3")
        assert (entry["key_id"], entry["written_by"], entry["kept"]) == (old, "token-alice", True)
        # The one before is now the one that was rolled back.
        assert (await bench.write("config/rollback"))["key_id"] == new
        assert await kept(bench) == {2, 3, 4}
        assert stored(bench) == {"credential/2", "credential/3", "credential/4"}

    @scenario
    async def test_edits_of_other_fields_do_not_block_it(self):
        bench, old, _ = await rotated()
        await bench.write("config", description="edited", tags=["a"])
        await bench.write("config/rollback", cas_credential_version=2)
        config = await bench.read("config")
        assert (config["key_id"], config["description"], config["tags"]) == (old, "edited", ["a"])

    @scenario
    async def test_a_lost_check_touches_nothing(self):
        bench, _, _ = await rotated()
        before = bench.storage.dump()
        for wrong in (0, 1, 3):
            await bench.fails(409, "update", "config/rollback", cas_credential_version=wrong)
        assert bench.storage.dump() == before

    @scenario
    async def test_to_a_named_version_and_what_is_live_already(self):
        bench, old, _ = await rotated()
        await bench.write("config", credentials_json=bench.key(A))
        assert (await bench.write("config/rollback", credential_version=1))["key_id"] == old
        asked = bench.tokens.state.counters.exchanges
        # Asked again it is done; its own new version is the same credential.
        for version in (1, 4):
            bench.engine = bench.restarted()
            before = bench.storage.dump()
            if version == 4:
                reply = await bench.write("config/rollback", credential_version=4)
                assert (reply["credential_version"], reply["key_id"]) == (4, old)
                assert reply["old_tokens_valid_until"] is None
            else:
                # The fourth pushed the first out of the kept ones.
                await bench.fails(409, "update", "config/rollback", credential_version=1)
            assert bench.storage.dump() == before
        assert bench.tokens.state.counters.exchanges == asked

    @scenario
    async def test_what_cannot_be_rolled_back_to(self):
        bench = Bench()
        message = await bench.fails(400, "update", "config/rollback")
        assert message == "mount not configured"
        await bench.configured(A)
        message = await bench.fails(409, "update", "config/rollback")
        assert message == "there is no earlier credential"
        for wrong in (0, 2, 99):
            await bench.fails(400, "update", "config/rollback", credential_version=wrong)
        await bench.write("config", credentials_json=bench.key(A))
        await bench.delete("config/history/1")
        for fields in ({}, {"credential_version": 1}):
            message = await bench.fails(409, "update", "config/rollback", **fields)
            assert message == "the credential of that version is destroyed"
        await bench.delete("config")
        for fields in ({}, {"credential_version": 2}):
            await bench.fails(409, "update", "config/rollback", **fields)

    @scenario
    async def test_it_mints_first(self):
        bench = Bench()
        old = await bench.configured(A)
        await bench.write("config", credentials_json=bench.key(A))
        before = bench.storage.dump()
        state = bench.tokens.state
        state.delete_key(json.loads(old)["clientID"], key_of(old))
        message = await bench.fails(502, "update", "config/rollback")
        assert message.startswith("token service refused: 401 ")
        assert bench.storage.dump() == before

    @scenario
    async def test_a_role_that_only_the_newer_one_mints_is_a_warning(self):
        bench = Bench()
        old = await bench.configured(A)
        await bench.write("config", credentials_json=bench.key(A, B))
        await bench.write("roles/r2", role_ids=[B])
        reply = await bench.write("config/rollback")
        assert reply["key_id"] == key_of(old)
        (warning,) = reply["warnings"]
        assert warning.endswith("[role r2]")
        # A write asks for more, as ever.
        message = await bench.fails(502, "update", "config", credentials_json=bench.key(B))
        assert "[role r1]" in message

    @scenario
    async def test_a_host_that_is_allowed_no_more_sees_nothing(self):
        bench, _, _ = await rotated()
        other = Bench(storage=bench.storage, tokens=bench.tokens)
        asked = bench.tokens.state.counters.exchanges
        other.settings = type(other.settings)(allowed_hosts=frozenset({"example.test:443"}))
        other.engine = other.restarted()
        assert "not" in await other.fails(503, "update", "config/rollback")
        assert bench.tokens.state.counters.exchanges == asked

    @scenario
    async def test_a_rotation_that_created_a_key_says_which_is_to_be_deleted(self):
        bench, old, new = await rotated(rotation_keys=["k-other"])
        await bench.write("config/rollback", cas_credential_version=2)
        found = await rotation(bench)
        assert (found["state"], found["from"], found["to"]) == ("open", old, new)
        await bench.fails(409, "update", "config/commit", rotation_id="rot-1")
        await bench.write("config", rotation_id="")
        assert await rotation(bench) is None

    @scenario
    async def test_a_key_that_was_never_written_is_remembered_too(self):
        bench, old, new = await rotated()
        await bench.write("config/commit", rotation_id="rot-1")
        record = {"rotation_id": "rot-2", "rotation_keys": [old, new], "rotation_to": "k-new"}
        await bench.write("config", **record)
        await bench.write("config/rollback")
        found = await rotation(bench)
        assert (found["id"], found["from"], found["to"]) == ("rot-2", old, "k-new")

    @scenario
    async def test_the_key_that_is_live_again_is_not_to_be_deleted(self):
        bench, _old, new = await rotated(rotation_keys=["k-other"])
        await bench.write("config/rollback", cas_credential_version=2)
        assert (await rotation(bench))["to"] == new
        await bench.write("config/rollback", credential_version=2)
        assert await rotation(bench) is None

    @scenario
    async def test_a_committed_rotation_is_over_with_it(self):
        bench, old, _ = await rotated(rotation_keys=["k-other"])
        await bench.write("config/commit", rotation_id="rot-1")
        assert (await bench.write("config/rollback"))["key_id"] == old
        assert await rotation(bench) is None

    @scenario
    async def test_a_service_that_does_not_answer(self):
        bench, _, new = await rotated()

        async def exchange(*args, **more):
            raise TokenServiceUnreachableError("no answer within 10 s")

        bench.tokens.exchange = exchange
        message = await bench.fails(503, "update", "config/rollback")
        assert message.startswith("skyflow: no answer")
        assert (await bench.read("config"))["key_id"] == new


class TestDestroy:
    @scenario
    async def test_one_kept_credential_is_gone_and_its_words_stay(self):
        bench, old, _ = await rotated()
        await bench.write("config/commit", rotation_id="rot-1")
        reply = await bench.delete("config/history/1")
        assert (reply["version"], reply["credential_version"]) == (4, 2)
        assert await kept(bench) == {2}
        assert stored(bench) == {"credential/2"}
        assert (await bench.read("config/history/1"))["key_id"] == old
        found = await rotation(bench)
        assert (found["state"], found["from"]) == ("retired", old)
        assert found["old_tokens_valid_until"] == "2026-11-22T13:00:00Z"
        assert (await bench.delete("config/history/1"))["version"] == 4

    @scenario
    async def test_another_old_one_retires_nothing(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", credentials_json=bench.key(A))
        await bench.write("config", credentials_json=bench.key(A), rotation_id="rot-1")
        await bench.write("config/commit", rotation_id="rot-1")
        await bench.delete("config/history/1")
        assert (await rotation(bench))["state"] == "committed"

    @scenario
    async def test_the_live_one_and_the_way_back_are_refused(self):
        bench, _, _ = await rotated()
        before = bench.storage.dump()
        message = await bench.fails(409, "delete", "config/history/2")
        assert message == "this credential is the live one"
        message = await bench.fails(409, "delete", "config/history/1")
        assert message.endswith("commit it first")
        await bench.fails(400, "delete", "config/history/3")
        assert bench.storage.dump() == before
        await bench.fails(400, "delete", "config/history/x")

    @scenario
    async def test_no_copy_is_left_under_another_version(self):
        bench, old, new = await rotated()
        await bench.write("config/rollback")
        await bench.write("config/rollback")
        assert [(await bench.read(f"config/history/{n}"))["key_id"] for n in (2, 3, 4)] == [
            new, old, new,
        ]  # fmt: skip
        await bench.delete("config/history/2")
        assert await kept(bench) == {3, 4}
        await bench.delete("config/history/3")
        assert stored(bench) == {"credential/4"}
        assert (await bench.read("creds/r1"))["key_id"] == new

    @scenario
    async def test_a_retired_rotation_can_be_followed_by_another(self):
        bench, _, _ = await rotated()
        await bench.write("config/commit", rotation_id="rot-1")
        await bench.delete("config/history/1")
        assert (await bench.write("config/commit", rotation_id="rot-1"))["rotation"][
            "state"
        ] == "retired"
        await bench.write("config", rotation_id="rot-2", credentials_json=bench.key(A))
        assert (await rotation(bench))["id"] == "rot-2"


@scenario
async def test_a_mount_from_before_these_fields_is_read():
    bench, _, _ = await rotated()
    values = bench.storage.dump()
    record = json.loads(values["config"])
    for name in ("keys", "old_token_seconds"):
        del record["rotation"][name]
    await bench.storage.put("config", json.dumps(record).encode())
    bench.engine = bench.restarted()
    assert (await rotation(bench))["keys"] == []
    await bench.write("config/commit", rotation_id="rot-1")
