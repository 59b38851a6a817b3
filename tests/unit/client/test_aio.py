"""Tasks share a read, and the cancellation of one is nobody else's."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support.token_server import (
    MOUNT,
    ROLE,
    SECRET_ID,
    HandTime,
    refusal,
    token_server,
)

from skyflowctl.client import (
    AppRole,
    AsyncTokenSource,
    ClientLimits,
    RequestRefusedError,
    ServerEndpoint,
    ServerUnavailableError,
    TokenSourceError,
)


@pytest.fixture
def server():
    with token_server() as running:
        yield running


def source_for(server, clock=None, **limits) -> AsyncTokenSource:
    return AsyncTokenSource(
        AppRole("order", SECRET_ID),
        server=ServerEndpoint(server.server.address),
        limits=ClientLimits(**limits),
        clock=clock or HandTime(),
    )


def test_many_tasks_share_one_read_and_one_login(server):
    def slowly(seen):
        if "/creds/" in seen.path:
            time.sleep(0.2)

    server.before = slowly

    async def work() -> None:
        async with source_for(server) as source:
            found = await asyncio.gather(*(source.token(MOUNT, ROLE, "c") for _ in range(50)))
            assert {one.access_token for one in found} == {"bearer-1-c"}
            assert await source.token(MOUNT, ROLE, "c") is found[0]
            assert (await source.secrets("secret/backend"))["user"] == "app"
            signed = await source.sign(MOUNT, ROLE, ["tok-1"])
            assert signed[0].signed_data_token == "signed_token_tok-1"

    asyncio.run(work())
    assert (server.creds, server.logins) == (1, 1)


def test_a_cancelled_task_ends_no_read(server):
    entered, release = threading.Event(), threading.Event()

    def held(seen):
        if "/creds/" in seen.path:
            entered.set()
            release.wait(10)

    server.before = held

    async def work() -> None:
        async with source_for(server) as source:
            first = asyncio.create_task(source.token(MOUNT, ROLE))
            second = asyncio.create_task(source.token(MOUNT, ROLE))
            while not entered.is_set():
                await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert not second.done()
            release.set()
            assert (await second).access_token == "bearer-1-"
            third = asyncio.create_task(source.token(MOUNT, ROLE, "x"))
            await asyncio.sleep(0)
            third.cancel()
            with pytest.raises(asyncio.CancelledError):
                await third
            assert (await source.token(MOUNT, ROLE, "x")).access_token == "bearer-2-x"

    asyncio.run(work())
    assert server.creds == 2


def test_a_time_limit_of_the_caller_leaves_the_read_for_the_next(server):
    release = threading.Event()
    server.before = lambda seen: release.wait(10) and None if "/creds/" in seen.path else None

    async def work() -> None:
        async with source_for(server) as source:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.token(MOUNT, ROLE), 0.1)
            release.set()
            assert (await source.token(MOUNT, ROLE)).access_token == "bearer-1-"

    asyncio.run(work())
    assert server.creds == 1


def test_failures_and_outages_are_those_of_the_source_for_threads(server):
    clock = HandTime()

    async def work() -> None:
        async with source_for(server, clock, attempts=1) as source:
            token = await source.token(MOUNT, ROLE)
            clock.now += 3400
            server.before = lambda _seen: refusal(503, "Vault is sealed")
            assert await source.token(MOUNT, ROLE) is token
            clock.now += 300
            with pytest.raises(ServerUnavailableError):
                await source.token(MOUNT, ROLE)
            server.before = lambda seen: (
                refusal(400, "unknown role") if "/creds/" in seen.path else None
            )
            with pytest.raises(RequestRefusedError, match="unknown role"):
                await source.token(MOUNT, "other")

    asyncio.run(work())


def test_one_source_serves_several_loops(server):
    source = source_for(server)
    first = asyncio.run(source.token(MOUNT, ROLE))
    assert asyncio.run(source.token(MOUNT, ROLE)) is first
    asyncio.run(source.close())


def test_more_keys_than_are_kept_are_all_read(server):
    """A key that waits for a worker is not evicted before it was read."""

    async def work() -> None:
        async with source_for(server, entries=4) as source:
            wanted = [source.token(MOUNT, ROLE, f"c{number}") for number in range(32)]
            found = await asyncio.wait_for(asyncio.gather(*wanted), 30)
            assert [one.access_token.rpartition("-")[2] for one in found] == [
                f"c{number}" for number in range(32)
            ]
            assert len(source._cache._kept) <= 4

    asyncio.run(work())
    assert server.creds == 32


def test_closing_ends_waits_at_once_and_keeps_nothing(server):
    entered, release = threading.Event(), threading.Event()

    def held(seen):
        if "/creds/" in seen.path:
            entered.set()
            release.wait(10)

    server.before = held

    async def work() -> None:
        source = source_for(server)
        waits = [asyncio.create_task(source.token(MOUNT, ROLE, str(n))) for n in range(12)]
        while not entered.is_set():
            await asyncio.sleep(0.01)
        await source.close()
        ended = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)
        assert {str(one) for one in ended} == {"the token source is closed"}
        assert all(isinstance(one, TokenSourceError) for one in ended)
        assert not release.is_set()
        release.set()
        for call in (source.token(MOUNT, ROLE), source.sign(MOUNT, ROLE, ["tok-1"])):
            with pytest.raises(TokenSourceError, match="the token source is closed"):
                await call
        assert not source._cache._kept

    try:
        asyncio.run(work())
    finally:
        release.set()
