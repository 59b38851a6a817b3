"""Reused tokens of a role, over the in-memory storage."""

import asyncio
from datetime import timedelta

import pytest
from support.engine import Bench, ScriptedTokenService, scenario
from support.faulty_emulator import Fault, FaultKind

from skyflowctl.clock import SystemClock
from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.engine import EngineSettings
from skyflowctl.engine.reuse import MAX_ENTRIES, ReusedTokens, reuse_key

A = "skyflow-role-order-prod"
ALICE, BOB = {"entity_id": "entity-alice"}, {"entity_id": "entity-bob"}


async def _bench(**role) -> Bench:
    bench = Bench()
    await bench.configured(A)
    await bench.write("roles/r1", reuse_min_ttl="30m", **role)
    return bench


async def _creds(bench: Bench, ctx=None, role="r1", **who) -> dict:
    query = {} if ctx is None else {"ctx": ctx}
    operation = "update" if isinstance(ctx, dict) else "read"
    return (await bench.call(operation, f"creds/{role}", query, **(who or ALICE))).data


def _exchanges(bench: Bench) -> int:
    return bench.tokens.state.counters.exchanges


async def _entries(bench: Bench) -> dict:
    return (await bench.read("health"))["reuse"]


@scenario
async def test_without_reuse_the_answer_has_no_such_field():
    bench = Bench()
    await bench.configured(A)
    first, second = await _creds(bench), await _creds(bench)
    assert first["access_token"] != second["access_token"]
    assert "reused" not in first
    assert await _entries(bench) == {"entries": 0, "credential_version": 0}


@scenario
async def test_one_token_for_an_equal_ctx_of_one_entity():
    bench = await _bench()
    first = await _creds(bench, "order:1")
    before = _exchanges(bench)
    bench.clock.pass_seconds(60)
    again = await _creds(bench, "order:1")
    assert (first["reused"], again["reused"]) == (False, True)
    assert again == first | {"reused": True, "ttl": first["ttl"] - 60}
    assert _exchanges(bench) == before
    others = [
        await _creds(bench, "order:2"),
        await _creds(bench),
        await _creds(bench, "order:1", **BOB),
    ]
    assert not any(one["reused"] for one in others)
    assert await _entries(bench) == {"entries": 4, "credential_version": 1}


@scenario
async def test_objects_are_compared_as_json():
    bench = await _bench()
    await _creds(bench, {"a": 1, "b": "x"})
    assert (await _creds(bench, {"b": "x", "a": 1}))["reused"]
    for other in ({"a": "1", "b": "x"}, {"a": True, "b": "x"}, {"a": 1}, '{"a": 1, "b": "x"}'):
        assert not (await _creds(bench, other))["reused"]


@scenario
async def test_a_caller_without_an_entity_gets_fresh_tokens():
    bench = await _bench()
    answers = [await _creds(bench, entity_id="") for _ in range(2)]
    assert [one["reused"] for one in answers] == [False, False]
    assert answers[0]["access_token"] != answers[1]["access_token"]
    assert (await _entries(bench))["entries"] == 0


@scenario
async def test_all_readers_of_a_role_share_if_it_says_so():
    bench = await _bench(reuse_per="role")
    answers = [await _creds(bench, **who) for who in (ALICE, BOB, {"entity_id": ""})]
    assert len({one["access_token"] for one in answers}) == 1
    assert [one["reused"] for one in answers] == [False, True, True]


@scenario
async def test_no_reused_token_has_less_than_the_least_life():
    bench = await _bench()
    first = await _creds(bench)
    bench.clock.pass_seconds(first["ttl"] - 30 * 60)
    assert (await _creds(bench))["reused"]
    bench.clock.pass_seconds(1)
    fresh = await _creds(bench)
    assert not fresh["reused"]
    assert fresh["ttl"] > 30 * 60
    assert (await _creds(bench))["access_token"] == fresh["access_token"]


@scenario
async def test_a_token_service_that_is_gone_is_not_seen_while_the_token_lasts():
    bench = await _bench()
    await _creds(bench)
    bench.tokens.state.faults.add(Fault(FaultKind.STATUS, status=500, count=0))
    assert (await _creds(bench))["reused"]
    with pytest.raises(EngineError):
        await _creds(bench, "order:other")


async def _rotate(bench: Bench) -> None:
    await bench.write("config", credentials_json=bench.key(A))


CHANGES = {
    "credential": _rotate,
    "config": lambda bench: bench.write("config", description="new"),
    "role": lambda bench: bench.write("roles/r1", description="new"),
    "another role": lambda bench: bench.write("roles/r2", role_ids=[A]),
    "role deleted": lambda bench: bench.delete("roles/r1"),
    "cut-off": lambda bench: bench.delete("config"),
}


@pytest.mark.parametrize("change", CHANGES)
@scenario
async def test_any_change_drops_all(change):
    bench = await _bench()
    first = await _creds(bench)
    assert (await _entries(bench))["entries"] == 1
    await CHANGES[change](bench)
    assert await _entries(bench) == {"entries": 0, "credential_version": 0}
    answer = await bench.outcome("read", "creds/r1", {})
    if isinstance(answer, EngineError):
        assert answer.message in {"unknown role", "mount not configured"}
    else:
        assert answer.data["access_token"] != first["access_token"]


@pytest.mark.parametrize("key", ["config", "role/r1", "credential/1", ""])
@scenario
async def test_a_change_by_another_node_drops_all(key):
    bench = await _bench()
    await _creds(bench)
    bench.engine.invalidate(key)
    assert await _entries(bench) == {"entries": 0, "credential_version": 0}
    assert not (await _creds(bench))["reused"]


@scenario
async def test_the_cache_belongs_to_one_instance():
    bench = await _bench()
    await _creds(bench)
    bench.engine = bench.restarted()
    assert not (await _creds(bench))["reused"]


class Gate:
    """Holds every exchange until it is opened; counts them."""

    def __init__(self, tokens: ScriptedTokenService) -> None:
        self.asked, self.open = 0, asyncio.Event()
        tokens.answer = self

    async def __call__(self, scope, assertion) -> None:
        self.asked += 1
        await self.open.wait()


async def _gated(**role) -> tuple[Bench, Gate]:
    tokens = ScriptedTokenService()
    bench = Bench(tokens=tokens, settings=EngineSettings())
    await bench.configured(A)
    await bench.write("roles/r1", reuse_min_ttl="30m", **role)
    return bench, Gate(tokens)


async def _until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@scenario
async def test_thousands_who_start_at_once_need_one_exchange():
    bench, gate = await _gated(reuse_per="role")
    callers = [asyncio.create_task(_creds(bench, **ALICE)) for _ in range(5_000)]
    await _until(lambda: gate.asked)
    # One of them leaves, also the one that began: the others still get their token.
    callers[0].cancel()
    gate.open.set()
    answers = await asyncio.gather(*callers[1:])
    assert gate.asked == 1
    assert len({one["access_token"] for one in answers}) == 1
    assert all(one["reused"] for one in answers)
    assert (await _creds(bench))["reused"]


@scenario
async def test_a_change_while_it_is_minted():
    bench, gate = await _gated()
    early = asyncio.create_task(_creds(bench))
    await _until(lambda: gate.asked == 1)
    bench.engine.invalidate("role/r1")
    late = asyncio.create_task(_creds(bench))
    await _until(lambda: gate.asked == 2)
    gate.open.set()
    assert [(await one)["reused"] for one in (early, late)] == [False, False]
    # Only what was asked for after the change is kept.
    assert (await _creds(bench))["access_token"] == (await late)["access_token"]


@scenario
async def test_all_who_leave_end_the_exchange():
    bench, gate = await _gated()
    callers = [asyncio.create_task(_creds(bench)) for _ in range(3)]
    await _until(lambda: gate.asked)
    for one in callers:
        one.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    gate.open.set()
    fresh = await _creds(bench)
    assert (gate.asked, fresh["reused"]) == (2, False)


@scenario
async def test_no_task_is_left_of_granted_and_of_cancelled_reads():
    bench = await _bench()
    before = len(asyncio.all_tasks())
    for _ in range(20):
        callers = [asyncio.create_task(_creds(bench, f"order:{n % 7}")) for n in range(50)]
        await asyncio.sleep(0)
        for one in callers[::3]:
            one.cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert any(isinstance(one, dict) for one in answers)
        bench.engine.invalidate("config")
    # A run that its last waiter left ends in the next turns of the loop.
    await _until(lambda: len(asyncio.all_tasks()) == before)
    assert not bench.engine._creds._flights._runs


@scenario
async def test_a_failure_reaches_all_and_is_not_kept():
    bench, gate = await _gated()
    refused = gate

    async def answer(scope, assertion) -> None:
        await refused(scope, assertion)
        bench.tokens.refuse(401, "no")
        await bench.tokens.answer(scope, assertion)

    bench.tokens.answer = answer
    callers = [asyncio.create_task(_creds(bench)) for _ in range(3)]
    await _until(lambda: gate.asked)
    gate.open.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert {one.status for one in results} == {502}
    bench.tokens.answer = None
    assert not (await _creds(bench))["reused"]


@scenario
async def test_the_engine_closes_while_one_is_minted():
    bench, gate = await _gated()
    caller = asyncio.create_task(_creds(bench))
    await _until(lambda: gate.asked)
    await bench.engine.aclose()
    result = (await asyncio.gather(caller, return_exceptions=True))[0]
    assert isinstance(result, asyncio.CancelledError | EngineError)


@scenario
async def test_the_number_of_tokens_is_bounded():
    bench = Bench()
    await bench.configured(A)
    token = await bench.engine._exchanges.mint(  # noqa: SLF001 - any token will do
        (await bench.engine._store.config()).usable(),
        A,
        None,  # noqa: SLF001
    )
    kept = ReusedTokens(bench.clock)
    for number in range(MAX_ENTRIES + 1):
        kept.keep(1, number, token, timedelta(minutes=30), 1)
        kept.find(1, 0)
    assert kept.public(1)["entries"] == MAX_ENTRIES
    assert kept.find(1, 0), "the one in use was dropped"
    assert not kept.find(1, 1)


@scenario
async def test_a_token_that_may_not_be_handed_out_again_is_not_kept():
    tokens = ScriptedTokenService()
    bench = Bench(tokens=tokens, clock=SystemClock())
    await bench.configured(A)
    await bench.write("roles/r1", reuse_min_ttl="30m")
    tokens.lifetime = 30 * 60 - 1
    assert not (await _creds(bench))["reused"]
    assert not (await _creds(bench))["reused"]
    assert not bench.engine._creds._mount.reused._kept


@scenario
async def test_tokens_past_their_use_are_dropped_without_being_asked_for():
    bench = await _bench()
    first = await _creds(bench, "order:1")
    await _creds(bench, "order:2")
    kept = bench.engine._creds._mount.reused._kept
    assert len(kept) == 2
    bench.clock.pass_seconds(first["ttl"] - 30 * 60 + 1)
    # Asked for again: replaced. The other one: swept with what is kept next.
    await _creds(bench, "order:1")
    assert len(kept) == 1
    bench.clock.pass_seconds(60 * 60)
    assert (await _entries(bench))["entries"] == 0
    assert not kept


@scenario
async def test_a_warm_read_asks_the_storage_nothing():
    bench = await _bench()
    await _creds(bench)
    before = len(bench.storage.calls)
    assert (await _creds(bench))["reused"]
    assert bench.storage.calls[before:] == []


def test_keys_do_not_mix_their_parts():
    keys = {
        reuse_key("r", None, ""),
        reuse_key("r", "null", ""),
        reuse_key("r", "", "e"),
        reuse_key("r", "e", ""),
        reuse_key("r", {"a": 1}, ""),
        reuse_key("r", '{"a": 1}', ""),
        reuse_key("ra", None, ""),
    }
    assert len(keys) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reuse_min_ttl", "299s"),
        ("reuse_min_ttl", "51m"),
        ("reuse_min_ttl", "soon"),
        ("reuse_min_ttl", 1),
        ("reuse_per", "all"),
        ("reuse_per", 5),
    ],
)
@scenario
async def test_bad_settings(field, value):
    bench = await _bench()
    message = await bench.fails(400, "update", "roles/r1", **{field: value})
    assert message.startswith(f"{field}: ")


@scenario
async def test_settings_are_patched_and_cleared():
    bench = await _bench(reuse_per="role")
    await bench.write("roles/r1", description="kept")
    role = await bench.read("roles/r1")
    assert (role["reuse_min_ttl"], role["reuse_per"]) == (1800, "role")
    await bench.write("roles/r1", reuse_min_ttl="", reuse_per="")
    role = await bench.read("roles/r1")
    assert (role["reuse_min_ttl"], role["reuse_per"]) == (0, "entity")
    await bench.write("roles/r1", reuse_min_ttl="5m")
    await bench.write("roles/r1", reuse_min_ttl=0)
    assert (await bench.read("roles/r1"))["reuse_min_ttl"] == 0
