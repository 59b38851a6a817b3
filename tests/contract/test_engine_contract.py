"""The engine's API as the design lays it down, path by path, against the emulator."""

import json
import re

import pytest
from support.engine import Bench, scenario
from support.keys import credential_text

from skyflowctl.engine.contract import EngineError, EngineReply, EngineRequest, Operation
from skyflowctl.skyflow.emulator import jwt

A, B = "skyflow-role-a", "skyflow-role-b"


class TestConfig:
    @scenario
    async def test_a_new_mount(self):
        bench = Bench()
        config = await bench.read("config")
        assert config["credentials_configured"] is False
        assert (config["version"], config["credential_version"]) == (0, 0)
        assert await bench.engine.exists(EngineRequest(Operation.UPDATE, "config")) is False
        message = await bench.fails(400, "update", "config", description="x")
        assert message == "mount not configured"

    @scenario
    async def test_first_write_and_read(self):
        bench = Bench()
        text = bench.key(A)
        reply = await bench.call(
            "create", "config", {"credentials_json": text, "tags": ["env:prod"], "cas": 0}
        )
        fields = json.loads(text)
        assert reply.data == {
            "version": 1,
            "credential_version": 1,
            "client_id": fields["clientID"],
            "key_id": fields["keyID"],
            "warnings": [],
        }
        config = await bench.read("config")
        assert set(config) == {
            "credentials_configured",
            "credentials_type",
            "client_id",
            "client_name",
            "key_id",
            "token_uri",
            "key_valid_after",
            "key_valid_before",
            "description",
            "tags",
            "version",
            "credential_version",
            "credential_updated",
            "last_updated",
            "rotation",
            "revoked",
        }
        assert config["revoked"] is None
        assert config["credentials_configured"] is True
        assert config["key_valid_before"] == "2027-10-23T12:00:00Z"
        assert config["tags"] == ["env:prod"]
        assert config["rotation"] is None
        assert "PRIVATE KEY" not in json.dumps(config)
        assert await bench.engine.exists(EngineRequest(Operation.UPDATE, "config")) is True

    @scenario
    async def test_writes_are_patches(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", description="one", tags=["a", "b"])
        await bench.write("config", tags=["c"])
        config = await bench.read("config")
        assert (config["description"], config["tags"]) == ("one", ["c"])
        await bench.write("config", description="", tags=[])
        config = await bench.read("config")
        assert (config["description"], config["tags"]) == ("", [])
        assert (config["version"], config["credential_version"]) == (4, 1)
        assert config["credential_updated"] == "2026-11-22T12:00:00Z"

    @scenario
    async def test_unknown_fields_and_two_sources(self):
        bench = Bench()
        assert await bench.fails(400, "update", "config", tag="x") == "unknown field: tag"
        assert await bench.fails(400, "read", "config", x="y") == "unknown field: x"
        both = {"credentials_json": "{}", "credentials_file_path": "/x"}
        assert "not both" in await bench.fails(400, "update", "config", **both)
        assert bench.storage.calls == []

    @scenario
    async def test_check_and_set(self):
        bench = Bench()
        await bench.configured(A)
        for wrong in (0, 2, "7"):
            await bench.fails(409, "update", "config", description="x", cas=wrong)
        await bench.write("config", description="x", cas="1")
        assert (await bench.read("config"))["version"] == 2

    @scenario
    async def test_the_same_credential_again_is_nothing_new(self):
        bench = Bench()
        text = await bench.configured(A)
        asked = bench.tokens.state.counters.exchanges
        reply = await bench.write("config", credentials_json=json.dumps(json.loads(text), indent=2))
        assert (reply["version"], reply["credential_version"]) == (2, 1)
        assert bench.tokens.state.counters.exchanges == asked
        assert len((await bench.list("config/history"))["keys"]) == 1

    @scenario
    async def test_times_finer_than_what_is_stored_make_no_difference(self):
        bench = Bench()
        text = bench.key(keyValidAfterTime="2026-01-01T00:00:00.123456Z")
        for version in (1, 2):
            assert (await bench.write("config", credentials_json=text))["version"] == version
        assert bench.tokens.state.counters.exchanges == 1

    @scenario
    async def test_new_content_of_the_same_identity_keeps_the_credential_version(self):
        bench = Bench()
        text = await bench.configured(A)
        other = json.dumps(json.loads(text) | {"clientName": "renamed"})
        reply = await bench.write("config", credentials_json=other)
        assert (reply["version"], reply["credential_version"]) == (2, 1)
        assert (await bench.read("config"))["client_name"] == "renamed"
        stored = [key for key in bench.storage.dump() if key.startswith("credential/")]
        assert len(stored) == 1
        restarted = bench.restarted()
        reply = await restarted.handle(EngineRequest(Operation.READ, "config"))
        assert reply.data["client_name"] == "renamed"

    @scenario
    async def test_a_bad_credential(self):
        bench = Bench()
        for text in ("", "{}", "no json", credential_text(tokenURI="https://evil.example/v1")):
            message = await bench.fails(400, "update", "config", credentials_json=text)
            assert message.startswith("credentials_json: ")
            assert "evil.example" not in message
        assert list(bench.storage.dump()) == []

    @scenario
    async def test_the_last_three_credentials_are_kept(self):
        bench = Bench()
        await bench.configured(A)
        for _ in range(3):
            await bench.write("config", credentials_json=bench.key(A))
        entries = (await bench.list("config/history"))["key_info"]
        assert {key: entry["kept"] for key, entry in entries.items()} == {
            "1": False, "2": True, "3": True, "4": True,
        }  # fmt: skip
        stored = {key for key in bench.storage.dump() if key.startswith("credential/")}
        assert stored == {"credential/2", "credential/3", "credential/4"}

    @scenario
    async def test_delete_is_the_cut_off(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", credentials_json=bench.key(A), description="x")
        await bench.fails(409, "delete", "config", cas="1")
        assert (await bench.delete("config"))["version"] == 3
        left = {key.split("/")[0] for key in bench.storage.dump()}
        assert left == {"config", "revoked", "role"}
        config = await bench.read("config")
        assert (config["credentials_configured"], config["description"]) == (False, "x")
        entries = (await bench.list("config/history"))["key_info"]
        assert [entry["kept"] for entry in entries.values()] == [False, False]
        assert await bench.fails(400, "read", "creds/r1") == "mount not configured"
        # A second cut-off changes nothing; a new credential goes on counting.
        assert (await bench.delete("config"))["version"] == 3
        reply = await bench.write("config", credentials_json=bench.key(A), cas=0)
        assert (reply["version"], reply["credential_version"]) == (4, 3)

    @scenario
    async def test_delete_of_nothing(self):
        assert await Bench().delete("config") is None


class TestRotationIntent:
    @scenario
    async def test_alone_it_opens_an_intent(self):
        bench = Bench()
        text = await bench.configured(A)
        old = json.loads(text)["keyID"]
        await bench.write("config", rotation_id="rot-1")
        rotation = (await bench.read("config"))["rotation"]
        assert rotation == {
            "id": "rot-1",
            "from": old,
            "to": "",
            "started": "2026-11-22T12:00:00Z",
            "by": "token-alice",
            "state": "open",
            "cut_over_at": None,
            "old_tokens_valid_until": None,
            "keys": [],
        }

    @scenario
    async def test_the_credential_of_the_rotation_is_told_in_it(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", rotation_id="rot-1")
        new = bench.key(A)
        await bench.write("config", rotation_id="rot-1", credentials_json=new)
        rotation = (await bench.read("config"))["rotation"]
        assert (rotation["id"], rotation["to"]) == ("rot-1", json.loads(new)["keyID"])

    @scenario
    async def test_a_credential_from_elsewhere_ends_it(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", rotation_id="rot-1")
        await bench.write("config", credentials_json=bench.key(A))
        assert (await bench.read("config"))["rotation"] is None

    @scenario
    async def test_another_id_takes_over_knowingly_and_an_empty_one_closes(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("config", rotation_id="rot-1")
        message = await bench.fails(409, "update", "config", rotation_id="rot-2")
        assert "give cas" in message
        await bench.write("config", rotation_id="rot-2", cas=2)
        assert (await bench.read("config"))["rotation"]["id"] == "rot-2"
        await bench.write("config", rotation_id="")
        assert (await bench.read("config"))["rotation"] is None


class TestAcceptance:
    @scenario
    async def test_a_first_credential_that_mints_nothing_is_refused(self):
        bench = Bench()
        await bench.write("roles/r1", role_ids=[A])
        message = await bench.fails(502, "update", "config", credentials_json=bench.key(B))
        assert re.fullmatch(
            r"token service refused: 401 .+ \(request id \w+\) \[role r1\]", message
        )
        assert "config" not in bench.storage.dump()

    @scenario
    async def test_a_first_credential_that_mints_some_is_taken_with_warnings(self):
        bench = Bench()
        await bench.write("roles/r1", role_ids=[A])
        await bench.write("roles/r2", role_ids=[B])
        reply = await bench.call("update", "config", {"credentials_json": bench.key(B)})
        assert reply.data["warnings"] == list(reply.warnings)
        assert len(reply.warnings) == 1
        assert "[role r1]" in reply.warnings[0]

    @scenario
    async def test_a_new_credential_must_mint_what_the_live_one_can(self):
        bench = Bench()
        await bench.configured(A, B)
        message = await bench.fails(502, "update", "config", credentials_json=bench.key(A))
        assert "[role r2]" in message
        assert (await bench.read("config"))["credential_version"] == 1

    @scenario
    async def test_what_neither_can_mint_is_a_warning(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("roles/r2", role_ids=[B])
        reply = await bench.write("config", credentials_json=bench.key(A))
        assert reply["credential_version"] == 2
        assert len(reply["warnings"]) == 1

    @scenario
    async def test_both_minting_nothing_is_refused(self):
        bench = Bench()
        await bench.write("roles/r1", role_ids=[A])
        await bench.write("config", credentials_json=bench.key(), validate_credentials=False)
        await bench.fails(502, "update", "config", credentials_json=bench.key())

    @scenario
    async def test_without_roles_one_exchange_without_scope(self):
        bench = Bench()
        await bench.fails(502, "update", "config", credentials_json=credential_text())
        await bench.write("config", credentials_json=bench.key(A))
        assert bench.tokens.state.counters.granted == 1

    @scenario
    async def test_unvalidated_on_request(self):
        bench = Bench()
        await bench.write(
            "config", credentials_json=credential_text(), validate_credentials="false"
        )
        assert bench.tokens.state.counters.exchanges == 0


class TestRoles:
    @scenario
    async def test_write_read_list_delete(self):
        bench = Bench()
        assert await bench.list("roles") is None
        assert await bench.read("roles/r1") is None
        assert await bench.write("roles/r1", role_ids=[A], tags="x,y") == {"version": 1}
        bench.clock.pass_seconds(60)
        assert await bench.write("roles/r1", description="d") == {"version": 2}
        role = await bench.read("roles/r1")
        assert role == {
            "role_ids": [A],
            "description": "d",
            "tags": ["x", "y"],
            "ctx_required": False,
            "ctx_pattern": "",
            "ctx_probe": "",
            "sign_max_ttl": 900,
            "reuse_min_ttl": 0,
            "reuse_per": "entity",
            "version": 2,
            "created": "2026-11-22T12:00:00Z",
            "last_updated": "2026-11-22T12:01:00Z",
        }
        await bench.write("roles/r2", role_ids=B)
        listed = await bench.list("roles/")
        assert listed["keys"] == ["r1", "r2"]
        assert listed["key_info"]["r1"] == role
        assert await bench.delete("roles/r1") is None
        assert await bench.delete("roles/r1") is None
        assert (await bench.list("roles"))["keys"] == ["r2"]

    @scenario
    async def test_paging(self):
        bench = Bench()
        for name in ("a", "b", "c"):
            await bench.write(f"roles/{name}", role_ids=[A])
        assert (await bench.list("roles", after="a"))["keys"] == ["b", "c"]
        assert (await bench.list("roles", limit="1", list="true"))["keys"] == ["a"]
        assert await bench.list("roles", after="c") is None
        await bench.fails(400, "list", "roles", limit="-1")
        await bench.fails(400, "list", "roles", depth="1")

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({}, "role_ids"),
            ({"role_ids": []}, "role_ids"),
            ({"role_ids": [A, B]}, "role_ids"),
            ({"role_ids": [A, A]}, "role_ids"),
            ({"role_ids": ["a role:b"]}, "role_ids"),
            ({"role_ids": [A], "ctx_required": True}, "ctx_probe"),
            ({"role_ids": [A], "ctx_pattern": "a*b*c", "ctx_probe": "x"}, "ctx_pattern"),
            ({"role_ids": [A], "ctx_pattern": "order:*"}, "ctx_probe"),
            ({"role_ids": [A], "ctx_pattern": "order:*", "ctx_probe": "pay:1"}, "ctx_probe"),
            ({"role_ids": [A], "ctx_pattern": "a*", "ctx_probe": {"a": "b"}}, "ctx_probe"),
            ({"role_ids": [A], "ctx_probe": []}, "ctx_probe"),
            ({"role_ids": [A], "ctx_probe": {}}, "ctx_probe"),
            ({"role_ids": [A], "sign_max_ttl": 0}, "sign_max_ttl"),
            ({"role_ids": [A], "sign_max_ttl": "25h"}, "sign_max_ttl"),
            ({"role_ids": [A], "sign_max_ttl": "soon"}, "sign_max_ttl"),
        ],
    )
    @scenario
    async def test_broken_rules(self, fields, named):
        bench = Bench()
        message = await bench.fails(400, "update", "roles/r1", **fields)
        assert message.startswith(f"{named}: ")
        assert bench.storage.dump() == {}

    @scenario
    async def test_a_patch_is_judged_as_a_whole(self):
        bench = Bench()
        await bench.write("roles/r1", role_ids=[A], ctx_pattern="order:*", ctx_probe="order:p")
        assert (await bench.read("roles/r1"))["ctx_required"] is True
        await bench.fails(400, "update", "roles/r1", ctx_probe="")
        await bench.fails(400, "update", "roles/r1", ctx_pattern="pay:*")
        await bench.write("roles/r1", ctx_required=False)
        assert (await bench.read("roles/r1"))["ctx_required"] is False
        await bench.write("roles/r1", ctx_required="")
        assert (await bench.read("roles/r1"))["ctx_required"] is True
        await bench.write("roles/r1", ctx_pattern="", ctx_probe="")
        role = await bench.read("roles/r1")
        assert (role["ctx_required"], role["ctx_probe"]) == (False, "")

    @scenario
    async def test_cas_and_force(self):
        bench = Bench()
        await bench.fails(409, "update", "roles/r1", role_ids=[A], cas=1)
        await bench.write("roles/r1", role_ids=[A], cas=0)
        await bench.fails(409, "update", "roles/r1", role_ids=[A], cas=0)
        await bench.fails(409, "update", "roles/r1", role_ids=[B], force=False)
        await bench.write("roles/r1", role_ids=[B], cas="1")
        await bench.fails(409, "delete", "roles/r1", cas="1")
        await bench.delete("roles/r1", cas="2")
        assert await bench.read("roles/r1") is None

    @pytest.mark.parametrize("name", ["Order", "-x", "_x", "a.b", "a b", "x" * 64, "é"])
    @scenario
    async def test_a_bad_name_is_never_folded(self, name):
        bench = Bench()
        for operation, path in (("update", "roles/"), ("read", "roles/"), ("read", "creds/")):
            await bench.fails(400, operation, path + name)
        assert await bench.engine.exists(EngineRequest(Operation.UPDATE, f"roles/{name}")) is None

    @scenario
    async def test_existence(self):
        bench = Bench()
        request = EngineRequest(Operation.UPDATE, "roles/r1")
        assert await bench.engine.exists(request) is False
        await bench.write("roles/r1", role_ids=[A])
        assert await bench.engine.exists(request) is True
        for path in ("creds/r1", "sign/r1", "health", "roles", "config/verify", "x"):
            assert await bench.engine.exists(EngineRequest(Operation.UPDATE, path)) is None


class TestCreds:
    @scenario
    async def test_a_token(self):
        bench = Bench()
        text = await bench.configured(A, B)
        creds = await bench.read("creds/r2", ctx="order:42")
        claims = jwt.split_token(creds.pop("access_token")).claims
        assert (claims["ctx"], claims["roles"]) == ("order:42", [B])
        assert creds == {
            "token_type": "Bearer",
            "expires_at": "2026-11-22T13:00:00Z",
            "ttl": 3600,
            "key_id": json.loads(text)["keyID"],
            "credential_version": 1,
        }

    @pytest.mark.parametrize("operation", ["update", "create"])
    @scenario
    async def test_an_object_ctx_in_a_body(self, operation):
        bench = Bench()
        await bench.configured(A)
        reply = await bench.call(operation, "creds/r1", {"ctx": {"tenant": "a", "level": 3}})
        assert jwt.split_token(reply.data["access_token"]).claims["ctx"] == {
            "tenant": "a",
            "level": 3,
        }

    @scenario
    async def test_bad_requests(self):
        bench = Bench()
        assert await bench.fails(400, "read", "creds/r1") == "mount not configured"
        await bench.configured(A)
        assert await bench.fails(400, "read", "creds/r9") == "unknown role"
        assert "more than once" in await bench.fails(400, "read", "creds/r1", ctx=["a", "b"])
        for bad in ("", "  ", "a\nb"):
            assert (await bench.fails(400, "read", "creds/r1", ctx=bad)).startswith("ctx: ")
        for bad in ({}, [], 5, None):
            assert (await bench.fails(400, "update", "creds/r1", ctx=bad)).startswith("ctx: ")
        assert await bench.fails(400, "read", "creds/r1", ctxt="a") == "unknown field: ctxt"

    @scenario
    async def test_ctx_rules(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("roles/r1", ctx_pattern="order:*", ctx_probe="order:probe")
        assert "requires" in await bench.fails(400, "read", "creds/r1")
        message = await bench.fails(400, "read", "creds/r1", ctx="secretly-wrong")
        assert message == "ctx: it does not match the pattern of this role"
        assert (await bench.read("creds/r1", ctx="order:1"))["access_token"]
        await bench.write("roles/r1", ctx_required=False)
        assert (await bench.read("creds/r1"))["access_token"]

    @scenario
    async def test_refused(self):
        bench = Bench()
        await bench.configured(A)
        state = bench.tokens.state
        client_id = next(iter(state.accounts))
        state.delete_key(client_id, next(iter(state.accounts[client_id].keys)))
        message = await bench.fails(502, "read", "creds/r1")
        assert re.fullmatch(
            r"token service refused: 401 The key is not known, or was deleted. \(request id \w+\)",
            message,
        )

    @scenario
    async def test_a_warm_cache_asks_the_storage_nothing(self):
        bench = Bench()
        await bench.configured(A)
        await bench.read("creds/r1")
        bench.storage.calls.clear()
        await bench.read("creds/r1")
        assert bench.storage.calls == []


class TestVerify:
    @scenario
    async def test_the_live_credential_role_by_role(self):
        bench = Bench()
        text = await bench.configured(A)
        await bench.write("roles/r2", role_ids=[B])
        before = bench.storage.dump()
        bench.storage.read_only = True
        result = await bench.write("config/verify")
        assert result["key_id"] == json.loads(text)["keyID"]
        assert (result["credential_version"], result["version"]) == (1, 1)
        good, bad = result["roles"]["r1"], result["roles"]["r2"]
        assert set(good) == {"ok", "status", "message", "request_id", "latency_ms", "expires_at"}
        assert (good["ok"], good["status"], good["message"]) == (True, 200, "")
        assert good["expires_at"] == "2026-11-22T13:00:00Z"
        assert (bad["ok"], bad["status"], bad["expires_at"]) == (False, 401, None)
        assert bad["message"]
        assert bad["request_id"]
        assert bench.storage.dump() == before

    @scenario
    async def test_a_candidate_writes_nothing(self):
        bench = Bench()
        await bench.configured(A)
        candidate = bench.key(A)
        bench.storage.read_only = True
        result = await bench.write("config/verify", credentials_json=candidate)
        assert result["key_id"] == json.loads(candidate)["keyID"]
        assert (result["credential_version"], result["version"]) == (0, 1)
        assert result["roles"]["r1"]["ok"]

    @scenario
    async def test_probes_are_used(self):
        bench = Bench()
        await bench.configured(A)
        await bench.write("roles/r1", ctx_required=True, ctx_probe={"probe": True})
        await bench.write("config/verify")
        assert bench.tokens.state.log[-1].ctx == {"probe": True}

    @scenario
    async def test_without_roles_and_without_config(self):
        bench = Bench()
        assert await bench.fails(400, "update", "config/verify") == "mount not configured"
        await bench.write("config", credentials_json=bench.key(A))
        assert (await bench.write("config/verify"))["roles"][""]["ok"]
        assert (await bench.fails(400, "update", "config/verify", credentials_json="x")).startswith(
            "credentials_json: "
        )
        await bench.fails(400, "update", "config/verify", credentials_file_path="/x")


class TestHistory:
    @scenario
    async def test_list_and_read(self):
        bench = Bench()
        assert await bench.list("config/history") is None
        assert await bench.read("config/history/1") is None
        text = await bench.configured(A)
        await bench.write("config", description="second", credentials_json=bench.key(A))
        listed = await bench.list("config/history/")
        assert listed["keys"] == ["1", "2"]
        entry = await bench.read("config/history/1")
        fields = json.loads(text)
        assert entry == {
            "credential_version": 1,
            "client_id": fields["clientID"],
            "key_id": fields["keyID"],
            "written_at": "2026-11-22T12:00:00Z",
            "written_by": "token-alice",
            "description": "",
            "kept": True,
            "revoked": None,
        }
        assert listed["key_info"]["1"] == entry
        assert (await bench.read("config/history/2"))["description"] == "second"
        assert (await bench.list("config/history", after="1"))["keys"] == ["2"]
        for bad in ("0", "x", "01", "-1"):
            await bench.fails(400, "read", f"config/history/{bad}")


class TestHealth:
    FIELDS = frozenset(
        [
            "healthy",
            "configuration_status",
            "credentials_type",
            "key_id",
            "credential_version",
            "version",
            "timestamp",
            "age_seconds",
            "reuse",
            "token_service",
        ]
    )

    @scenario
    async def test_unconfigured(self):
        bench = Bench()
        health = await bench.read("health")
        assert set(health) == self.FIELDS
        assert (health["healthy"], health["configuration_status"]) == (False, "unconfigured")
        assert health["token_service"]["reachable"] is None
        assert await bench.fails(503, "read", "health", fail="true") == "skyflow: unconfigured"

    @scenario
    async def test_ok_and_cached(self):
        bench = Bench()
        await bench.configured(A)
        health = await bench.read("health", fail="true")
        assert set(health) == self.FIELDS
        assert (health["healthy"], health["configuration_status"]) == (True, "ok")
        assert set(health["token_service"]) == {"reachable", "latency_ms", "status", "error"}
        asked = bench.tokens.state.counters.exchanges
        bench.clock.pass_seconds(29)
        cached = await bench.read("health")
        assert cached["timestamp"] == health["timestamp"]
        assert (health["age_seconds"], cached["age_seconds"]) == (0, 29)
        assert bench.tokens.state.counters.exchanges == asked
        assert (await bench.read("health", refresh="true"))["age_seconds"] == 0
        assert bench.tokens.state.counters.exchanges == asked + 1
        bench.clock.pass_seconds(31)
        assert (await bench.read("health"))["timestamp"] != health["timestamp"]

    @scenario
    async def test_a_write_drops_what_was_cached(self):
        bench = Bench()
        await bench.configured(A)
        await bench.read("health")
        await bench.write("roles/r2", role_ids=[B])
        health = await bench.read("health")
        assert (health["healthy"], health["configuration_status"]) == (False, "refused")
        assert health["token_service"]["status"] == 401
        assert health["token_service"]["reachable"] is True
        assert "[role r2]" in health["token_service"]["error"]
        message = await bench.fails(503, "read", "health", fail="true")
        assert message.startswith("skyflow: refused: token service refused: 401 ")


class TestPathsAndOperations:
    @pytest.mark.parametrize(
        ("status", "operation", "path"),
        [
            (404, "read", ""),
            (404, "read", "nothing"),
            (404, "read", "roles/a/b"),
            (404, "read", "config/"),
            (404, "read", "roles/"),
            (404, "update", "config/commits"),
            (405, "read", "config/commit"),
            (405, "read", "config/rollback"),
            (405, "list", "config"),
            (405, "read", "roles"),
            (405, "update", "health"),
            (405, "delete", "creds/r1"),
            (405, "read", "sign/r1"),
            (405, "read", "config/verify"),
            (405, "update", "config/history/1"),
            (405, "delete", "config/history"),
        ],
    )
    @scenario
    async def test_unsupported(self, status, operation, path):
        await Bench().fails(status, operation, path)

    @scenario
    async def test_help_names_every_path_and_field(self):
        bench = Bench()
        text = (await bench.call("help", "", {"requestResponsePrefix": "skyflow"})).data["help"]
        for path in ("config", "config/verify", "roles/{name}", "creds/{name}", "sign/{name}"):
            assert f"    {path} " in text
        reply = await bench.call("help", "config")
        assert set(reply.data) == {"help", "see_also", "openapi"}
        for field in ("credentials_json", "cas", "rotation_id", "validate_credentials"):
            assert field in reply.data["help"]
        assert (await bench.call("help", "creds/order-producer")).data["help"]
        await bench.fails(404, "help", "nothing")

    @scenario
    async def test_openapi(self):
        document = (await Bench().call("help", "")).data["openapi"]
        assert document["openapi"] == "3.0.2"
        assert set(document["paths"]) == {
            "/config",
            "/config/verify",
            "/config/commit",
            "/config/rollback",
            "/config/history/",
            "/config/history/{version}",
            "/roles/",
            "/roles/{name}",
            "/creds/{name}",
            "/sign/{name}",
            "/health",
        }
        creds = document["paths"]["/creds/{name}"]
        assert {"get", "post", "parameters", "description"} == set(creds)
        assert creds["get"]["parameters"][0]["name"] == "ctx"
        ids = [
            item[method]["operationId"]
            for item in document["paths"].values()
            for method in ("get", "post", "delete")
            if method in item
        ]
        assert len(ids) == len(set(ids))
        assert json.loads(json.dumps(document)) == document

    @scenario
    async def test_credentials_are_declared_for_seal_wrapping(self):
        bench = Bench()
        await bench.configured(A)
        (prefix,) = bench.engine.special_paths()
        holding = [key for key, value in bench.storage.dump().items() if b"PRIVATE" in value]
        assert holding
        assert all(key.startswith(prefix) for key in holding)

    @scenario
    async def test_replies_are_json(self):
        bench = Bench()
        await bench.configured(A)
        for operation, path in (
            ("read", "config"),
            ("list", "roles"),
            ("read", "creds/r1"),
            ("update", "config/verify"),
            ("read", "health"),
            ("list", "config/history"),
        ):
            reply = await bench.call(operation, path)
            assert isinstance(reply, EngineReply)
            assert json.loads(json.dumps(reply.data)) == reply.data


@scenario
async def test_close_more_than_once():
    bench = Bench()
    await bench.engine.aclose()
    await bench.engine.aclose()
    with pytest.raises(EngineError):
        await bench.call("read", "nothing")
