"""Signing of data tokens by the engine, over the in-memory storage."""

import json

import pytest
from support.engine import Bench, scenario

from skyflowctl.skyflow.emulator import jwt

A = "skyflow-role-order-prod"


async def _bench() -> tuple[Bench, dict]:
    bench = Bench()
    text = await bench.configured(A)
    return bench, json.loads(text)


def _claims(one: dict) -> dict:
    return jwt.split_token(one["signed_data_token"].removeprefix("signed_token_")).claims


@scenario
async def test_order_and_duplicates_are_kept_without_an_exchange_or_a_write():
    bench, key = await _bench()
    exchanges, stored = bench.tokens.state.counters.exchanges, bench.storage.dump()
    asked = ["tok-b", "tok-a", "tok-b", "a,b "]
    reply = await bench.write("sign/r1", data_tokens=asked, ctx="order:42", ttl="90s")
    signed = reply.pop("signed_data_tokens")
    assert [one["data_token"] for one in signed] == asked
    assert [_claims(one)["tok"] for one in signed] == asked
    assert {_claims(one)["ctx"] for one in signed} == {"order:42"}
    assert {_claims(one)["exp"] - _claims(one)["iat"] for one in signed} == {90}
    assert reply == {"expires_at": "2026-11-22T12:01:30Z", "key_id": key["keyID"]}
    assert bench.tokens.state.counters.exchanges == exchanges
    assert bench.storage.dump() == stored


@scenario
async def test_the_stock_client_sends_text():
    bench, _ = await _bench()
    reply = await bench.write("sign/r1", data_tokens="a,b", ttl="60")
    assert [one["data_token"] for one in reply["signed_data_tokens"]] == ["a", "b"]


@scenario
async def test_the_ttl_is_bounded_by_the_role():
    bench, _ = await _bench()
    assert (await bench.write("sign/r1", data_tokens=["t"]))["expires_at"].endswith("12:01:00Z")
    assert (await bench.write("sign/r1", data_tokens=["t"], ttl=900))["expires_at"].endswith(
        "12:15:00Z"
    )
    for ttl in (0, 901, "16m", "-1", "soon", True):
        assert (await bench.fails(400, "update", "sign/r1", data_tokens=["t"], ttl=ttl)).startswith(
            "ttl: "
        )
    await bench.write("roles/r1", sign_max_ttl="30s")
    assert (await bench.read("roles/r1"))["sign_max_ttl"] == 30
    assert (await bench.write("sign/r1", data_tokens=["t"]))["expires_at"].endswith("12:00:30Z")
    await bench.fails(400, "update", "sign/r1", data_tokens=["t"], ttl=60)
    await bench.write("roles/r1", sign_max_ttl="")
    assert (await bench.read("roles/r1"))["sign_max_ttl"] == 900


@pytest.mark.parametrize(
    "tokens", [[], "", ["t"] * 65, ["t", ""], ["t", 5], {"t": 1}, ["t", "a\x00"], ["x" * 1025]]
)
@scenario
async def test_all_or_nothing(tokens):
    bench, _ = await _bench()
    message = await bench.fails(400, "update", "sign/r1", data_tokens=tokens)
    assert message.startswith("data_tokens: ")


@scenario
async def test_what_cannot_sign():
    bench = Bench()
    asked = {"data_tokens": ["tok-of-a-person"]}
    assert await bench.fails(400, "update", "sign/r1", **asked) == "mount not configured"
    await bench.configured(A)
    assert await bench.fails(400, "update", "sign/r9", **asked) == "unknown role"
    assert await bench.fails(400, "update", "sign/r1") == "data_tokens: missing"
    message = await bench.fails(400, "update", "sign/r1", token="tok-of-a-person")
    assert message == "unknown field: token"
    await bench.write("roles/r1", ctx_pattern="order:*", ctx_probe="order:probe")
    assert "requires" in await bench.fails(400, "update", "sign/r1", **asked)
    message = await bench.fails(400, "update", "sign/r1", ctx="pay:1", **asked)
    assert message == "ctx: it does not match the pattern of this role"
    await bench.delete("config")
    assert await bench.fails(400, "update", "sign/r1", ctx="order:1", **asked) == (
        "mount not configured"
    )
