"""Limits, deadlines and cancellation of a mount's exchanges."""

import asyncio
import threading

import pytest
from support.engine import START, Bench, FrozenClock, ScriptedTokenService, scenario
from support.keys import account

from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.engine import EngineSettings
from skyflowctl.engine.exchanges import ExchangeSet
from skyflowctl.engine.mint_limiter import MintLimiter
from skyflowctl.engine.records import RoleRecord
from skyflowctl.engine.verification import Verifier
from skyflowctl.skyflow import minting
from skyflowctl.skyflow.emulator import jwt
from skyflowctl.skyflow.minting import Minter, MintingCredential, SigningKey
from skyflowctl.skyflow.threads import signers
from skyflowctl.skyflow.token_service import TokenServiceRefusedError, TokenServiceUnreachableError

A = "skyflow-role-a"


class Gate:
    """Holds every exchange until it is opened; counts."""

    def __init__(self, tokens):
        self.now = self.most = self.cancelled = 0
        self.open = asyncio.Event()
        tokens.answer = self

    async def __call__(self, scope, assertion):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1


async def scripted(roles=1, **settings):
    tokens = ScriptedTokenService()
    bench = Bench(tokens=tokens, settings=EngineSettings(**settings))
    await bench.configured(*[A] * roles)
    return bench, tokens


async def settle():
    """Let every task go on until it waits for the token service, signatures included."""
    for _ in range(2):
        for _ in range(20):
            await asyncio.sleep(0)
        await signed()


async def on_the_loop(work, *arguments):
    return work(*arguments)


async def signed():
    """Return when no signature is being made: each thread has come to the same barrier."""
    loop = asyncio.get_running_loop()
    together = threading.Barrier(signers()._max_workers)
    threads = range(together.parties)
    await asyncio.gather(*(loop.run_in_executor(signers(), together.wait) for _ in threads))
    for _ in range(20):
        await asyncio.sleep(0)


@scenario
async def test_256_callers_at_once_see_no_refusal():
    bench, tokens = await scripted()
    gate = Gate(tokens)
    running = [asyncio.create_task(bench.read("creds/r1")) for _ in range(256)]
    await settle()
    assert gate.now == 64
    gate.open.set()
    assert all(reply["access_token"] for reply in await asyncio.gather(*running))
    assert (gate.most, gate.now) == (64, 0)


@scenario
async def test_one_more_than_the_queue_holds_is_refused_and_told_why():
    bench, tokens = await scripted(max_in_flight=4, max_waiting=3)
    gate = Gate(tokens)
    running = [asyncio.create_task(bench.read("creds/r1")) for _ in range(7)]
    await settle()
    message = await bench.fails(503, "read", "creds/r1")
    assert message == (
        "skyflow: 4 exchanges of this mount are in flight and 3 requests wait already"
    )
    gate.open.set()
    assert len(await asyncio.gather(*running)) == 7
    assert (await bench.read("creds/r1"))["access_token"]


@scenario
async def test_who_waits_too_long_is_told_so():
    bench, tokens = await scripted(max_in_flight=1, max_wait=0.05)
    gate = Gate(tokens)
    first = asyncio.create_task(bench.read("creds/r1"))
    await settle()
    message = await bench.fails(503, "read", "creds/r1")
    assert message == "skyflow: 1 exchanges of this mount were in flight for 0.05 s"
    gate.open.set()
    assert (await first)["access_token"]


@scenario
async def test_a_cancelled_caller_leaves_the_queue():
    bench, tokens = await scripted(max_in_flight=1, max_waiting=1)
    gate = Gate(tokens)
    first, second = (asyncio.create_task(bench.read("creds/r1")) for _ in range(2))
    await settle()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = asyncio.create_task(bench.read("creds/r1"))
    await settle()
    gate.open.set()
    assert (await first)["access_token"]
    assert (await third)["access_token"]
    assert gate.cancelled == 0


@pytest.mark.parametrize("what", ["cut off", "replaced", "role gone"])
@scenario
async def test_what_is_gone_while_a_request_waits_mints_no_more(what):
    bench, tokens = await scripted(roles=2, max_in_flight=1)
    old, asked = (await bench.read("config"))["key_id"], len(tokens.scopes)
    gate = Gate(tokens)
    first, second = (asyncio.create_task(bench.read("creds/r1")) for _ in range(2))
    await settle()
    assert len(tokens.scopes) == asked + 1
    if what == "cut off":
        await bench.delete("config", reason="INC-1042")
    elif what == "replaced":
        await bench.write("config", credentials_json=bench.key(), validate_credentials=False)
    else:
        await bench.delete("roles/r1")
    gate.open.set()
    # What was in flight is answered: that token was being made already.
    assert (await first)["key_id"] == old
    if what == "replaced":
        assert (await second)["key_id"] != old
        return
    with pytest.raises(EngineError) as caught:
        await second
    assert (
        caught.value.message
        == {
            "cut off": "mount not configured",
            "role gone": "unknown role",
        }[what]
    )
    assert len(tokens.scopes) == asked + 1


@scenario
async def test_64_exchanges_that_end_at_once_do_not_hold_up_another_mount(monkeypatch):
    """Two mounts of one process: the next 64 of the busy one begin one by one."""
    # Signatures on the loop, so that its turns can be counted.
    monkeypatch.setattr(minting, "finished_in_thread", on_the_loop)
    busy, tokens = await scripted()
    quick, others = await scripted()

    async def answer(scope, assertion):
        for _ in range(8):
            await asyncio.sleep(0)

    others.answer = answer
    gate = Gate(tokens)
    running = [asyncio.create_task(busy.read("creds/r1")) for _ in range(192)]
    await settle()
    begun = len(tokens.scopes)
    gate.open.set()
    assert (await quick.read("creds/r1"))["access_token"]
    # Each turn of the loop that it took has let one more in.
    assert 0 < len(tokens.scopes) - begun < 16
    assert all(reply["access_token"] for reply in await asyncio.gather(*running))


@scenario
async def test_closing_refuses_who_waits():
    bench, tokens = await scripted(max_in_flight=1)
    gate = Gate(tokens)
    first, second = (asyncio.create_task(bench.read("creds/r1")) for _ in range(2))
    await settle()
    await bench.engine.aclose()
    with pytest.raises(EngineError) as caught:
        await second
    assert (caught.value.status, caught.value.message) == (
        503,
        "skyflow: this mount is being closed",
    )
    gate.open.set()
    await first


@scenario
async def test_cancelling_a_request_cancels_its_exchange_and_frees_its_place():
    bench, tokens = await scripted(max_in_flight=1)
    gate = Gate(tokens)
    for _ in range(3):
        request = asyncio.create_task(bench.read("creds/r1"))
        await settle()
        assert gate.now == 1
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert gate.now == 0
    assert gate.cancelled == 3


@scenario
async def test_a_thousand_cancelled_signatures_lose_no_place(monkeypatch):
    """A thread that signs cannot be stopped: its place is free when it ends, not before."""
    bench, tokens = await scripted()
    begun, end, sign = threading.Semaphore(0), threading.Event(), minting.sign

    def sign_slowly(claims, key):
        begun.release()
        assert end.wait(20)
        return sign(claims, key)

    monkeypatch.setattr(minting, "sign", sign_slowly)
    threads = signers()._max_workers
    running = [asyncio.create_task(bench.read("creds/r1")) for _ in range(1000)]
    for _ in range(threads):
        assert await asyncio.to_thread(begun.acquire, timeout=20)
    for one in running:
        one.cancel()
    for _ in range(40):
        await asyncio.sleep(0)
    assert sum(not one.done() for one in running) == threads
    end.set()
    replies = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(reply, asyncio.CancelledError) for reply in replies)
    monkeypatch.undo()
    gate = Gate(tokens)
    more = [asyncio.create_task(bench.read("creds/r1")) for _ in range(65)]
    await settle()
    assert gate.now == 64
    gate.open.set()
    assert len(await asyncio.gather(*more)) == 65


@scenario
async def test_cancelling_a_check_cancels_all_of_its_exchanges():
    bench, tokens = await scripted(roles=12)
    gate = Gate(tokens)
    request = asyncio.create_task(bench.write("config/verify"))
    await settle()
    assert gate.now == 8
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert gate.now == 0


@scenario
async def test_a_cancelled_write_changes_nothing_and_frees_the_lock():
    bench, tokens = await scripted()
    gate = Gate(tokens)
    request = asyncio.create_task(bench.write("config", credentials_json=bench.key()))
    await settle()
    assert gate.now == 1
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    tokens.answer = None
    assert (await bench.write("config", description="x"))["credential_version"] == 1
    assert not [key for key in bench.storage.dump() if key.startswith("wal/")]


@scenario
async def test_at_most_eight_exchanges_of_a_check_at_once():
    bench, tokens = await scripted(roles=20)
    gate = Gate(tokens)
    request = asyncio.create_task(bench.write("config/verify"))
    await settle()
    gate.open.set()
    roles = (await request)["roles"]
    assert gate.most == 8
    assert len(roles) == 20
    assert all(role["ok"] for role in roles.values())


@scenario
async def test_a_check_ends_in_time_and_tells_what_it_did_not_reach():
    tokens, clock = ScriptedTokenService(), FrozenClock()

    async def answer(scope, assertion):
        if scope != "role:fast":
            await asyncio.Event().wait()

    tokens.answer = answer
    verifier = Verifier(
        ExchangeSet(Minter(tokens, clock), MintLimiter(64, 1024, 10), clock),
        parallel=2,
        seconds=0.2,
    )
    who = account()
    credential = MintingCredential(who, SigningKey.trusted(who.private_key))
    roles = {
        name: RoleRecord((name,), 1, START, START) for name in ("fast", "slow", "never", "last")
    }
    checks = await verifier.check(credential, roles)
    assert list(checks) == ["fast", "slow", "never", "last"]
    assert [check.ok for check in checks.values()] == [True, False, False, False]
    late = checks["last"].public()
    assert (late["status"], late["message"]) == (0, "not checked within 0.2 s")
    with pytest.raises(EngineError) as caught:
        await verifier.accept(credential, None, roles)
    assert caught.value.status == 503


@scenario
async def test_an_unreachable_service_never_accepts_a_credential():
    bench, tokens = await scripted(roles=2)

    async def answer(scope, assertion):
        raise TokenServiceUnreachableError("connection refused")

    tokens.answer = answer
    message = await bench.fails(503, "update", "config", credentials_json=bench.key())
    assert message == "skyflow: connection refused [role r1]"
    health = await bench.read("health")
    assert health["configuration_status"] == "token_service_unreachable"
    assert health["token_service"]["reachable"] is False
    assert (await bench.read("config"))["credential_version"] == 1
    assert await bench.fails(503, "read", "creds/r1") == "skyflow: connection refused"


@scenario
async def test_a_live_credential_that_got_no_answer_counts_as_able():
    bench, tokens = await scripted(roles=1)
    await bench.write("roles/r2", role_ids=["skyflow-role-b"])
    live = (await bench.read("config"))["key_id"]

    async def answer(scope, assertion):
        if scope == "role:skyflow-role-b":
            if jwt.split_token(assertion.reveal()).claims["key"] == live:
                raise TokenServiceUnreachableError("connection refused")
            raise TokenServiceRefusedError(403, "no such role")

    tokens.answer = answer
    message = await bench.fails(502, "update", "config", credentials_json=bench.key())
    assert message == "token service refused: 403 no such role [role r2]"
    assert (await bench.read("config"))["key_id"] == live


@scenario
async def test_health_is_one_probe_for_all_and_outlives_one_waiter():
    bench, tokens = await scripted()
    gate = Gate(tokens)
    asked = len(tokens.scopes)
    waiters = [asyncio.create_task(bench.read("health")) for _ in range(10)]
    await settle()
    waiters[0].cancel()
    await settle()
    gate.open.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(result["healthy"] for result in results[1:])
    assert len(tokens.scopes) == asked + 1


@scenario
async def test_health_is_cancelled_with_its_last_waiter():
    bench, tokens = await scripted()
    gate = Gate(tokens)
    waiter = asyncio.create_task(bench.read("health"))
    await settle()
    waiter.cancel()
    await settle()
    assert (gate.now, gate.cancelled) == (0, 1)


@scenario
async def test_closing_ends_a_probe():
    bench, tokens = await scripted()
    gate = Gate(tokens)
    waiter = asyncio.create_task(bench.read("health"))
    await settle()
    await bench.engine.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (gate.now, tokens.closed) == (0, 1)


@scenario
async def test_a_host_that_is_not_allowed_any_more_is_not_asked():
    bench, tokens = await scripted()
    bench.settings = EngineSettings(allowed_hosts=frozenset({"localhost:8443"}))
    bench.engine = bench.restarted()
    asked = len(tokens.scopes)
    message = await bench.fails(503, "read", "creds/r1")
    assert message.startswith("skyflow: tokenURI names a host that is not allowed: ")
    assert "--allow-host manage.skyflowapis.com:443" in message
    assert (await bench.read("health"))["configuration_status"] == "refused"
    assert len(tokens.scopes) == asked


@scenario
async def test_a_credential_for_another_host_is_refused_with_who_may_allow_it():
    bench, _ = await scripted()
    bench.settings = EngineSettings(allowed_hosts=frozenset({"localhost:8443"}))
    bench.engine = bench.restarted()
    message = await bench.fails(400, "update", "config", credentials_json=bench.key())
    assert "manage.skyflowapis.com" not in message
    assert "add --allow-host to the plugin's catalog arguments" in message


@scenario
async def test_a_token_service_that_does_not_answer_has_a_name_before_health_is_given_up():
    bench, tokens = await scripted(health_seconds=0.05)
    assert EngineSettings().health_seconds < 10, "the deadline of skyflowctl health"
    Gate(tokens)
    health = await bench.read("health", refresh="true")
    assert health["configuration_status"] == "token_service_unreachable"
    assert health["token_service"]["error"] == "skyflow: not checked within 0.05 s [role r1]"
