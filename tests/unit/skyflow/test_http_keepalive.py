"""Connections that are kept: when they are used again, replaced, and given up."""

from __future__ import annotations

import asyncio

import pytest
from support.exchanging import ask, give_token, hang, open_descriptors, run_against
from support.https import Call, client_context, server_context, serving

from skyflowctl.skyflow.http import pool as pool_module
from skyflowctl.skyflow.http.pool import ConnectionPool
from skyflowctl.skyflow.http.token_service import HttpTokenService
from skyflowctl.skyflow.token_service import TokenServiceUnreachableError


def test_a_kept_connection_that_the_service_closed_on_the_next_request_is_replaced(local_ca):
    async def once_per_connection(call: Call) -> None:
        if call.on_connection == 1:
            await call.token()
        else:
            call.writer.transport.abort()

    async def use(service, server):
        for _ in range(5):
            await ask(service, server.uri)
        return server.connections, len(server.calls)

    # Every exchange after the first meets a stale connection once, then a fresh one.
    assert run_against(local_ca, once_per_connection, use) == (5, 9)


def test_a_kept_connection_that_was_closed_while_idle_is_not_used_again(local_ca):
    async def use(service, server):
        await ask(service, server.uri)
        for writer in list(server.open):
            writer.transport.abort()
        async with asyncio.timeout(5):
            while service.open_connections:
                await asyncio.sleep(0.005)
        await ask(service, server.uri)
        return [call.on_connection for call in server.calls]

    assert run_against(local_ca, give_token, use) == [1, 1]


def test_several_stale_connections_cost_one_repetition(local_ca):
    async def twice_at_most(call: Call) -> None:
        if call.on_connection == 1:
            while len(server_calls) < 4:
                await asyncio.sleep(0.005)
            await call.token()
        else:
            call.writer.transport.abort()

    server_calls: list[Call] = []

    async def use(service, server):
        nonlocal server_calls
        server_calls = server.calls
        await asyncio.gather(*(ask(service, server.uri) for _ in range(4)))
        assert service.open_connections == 4
        await ask(service, server.uri)
        return len(server.calls), server.connections

    # Four at first; then one stale connection is tried, and a fresh one, not the other three.
    assert run_against(local_ca, twice_at_most, use) == (6, 5)


def test_a_kept_connection_that_breaks_in_an_answer_is_not_repeated(local_ca):
    async def half_the_second(call: Call) -> None:
        if call.number == 1:
            await call.token()
            return
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-le")
        await asyncio.sleep(0.05)
        call.writer.transport.abort()

    async def use(service, server):
        await ask(service, server.uri)
        with pytest.raises(TokenServiceUnreachableError, match="in the middle of the answer"):
            await ask(service, server.uri)
        return [call.on_connection for call in server.calls]

    assert run_against(local_ca, half_the_second, use) == [1, 2]


@pytest.mark.parametrize(
    "early", [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"HTTP/1.1 400 Early\r\n", b"H"]
)
def test_bytes_that_nobody_asked_for_end_a_kept_connection(local_ca, early):
    async def use(service, server):
        await ask(service, server.uri)
        (writer,) = server.open
        writer.write(early)
        async with asyncio.timeout(5):
            while service.open_connections:
                await asyncio.sleep(0.005)
        return (await ask(service, server.uri)).token_type

    assert run_against(local_ca, give_token, use) == "Bearer"


def test_cancelled_posts_leave_the_pool_whole(local_ca):
    """Experiment 7: the trial that wedged another client's pool for good."""
    hanging = True

    async def script(call: Call) -> None:
        await (hang(call) if hanging else call.token())

    async def use(service, server):
        nonlocal hanging
        for _ in range(3):
            posts = [asyncio.ensure_future(ask(service, server.uri)) for _ in range(60)]
            wanted = len(server.calls) + 4
            async with asyncio.timeout(20):
                while len(server.calls) < wanted:
                    await asyncio.sleep(0.005)
            for post in posts:
                post.cancel()
            results = await asyncio.gather(*posts, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            assert service.open_connections == 0
        hanging = False
        await server.until_open(0)
        good = await asyncio.gather(*(ask(service, server.uri) for _ in range(40)))
        assert len(good) == 40
        assert service.open_connections <= 8
        await service.aclose()
        await server.until_open(0)
        await asyncio.sleep(0.05)
        return len(asyncio.all_tasks())

    descriptors = open_descriptors()
    assert run_against(local_ca, script, use, slots=8) == 1
    assert open_descriptors() <= descriptors


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_connection_that_nobody_uses_is_closed_without_another_exchange(local_ca, monkeypatch):
    monkeypatch.setattr(pool_module, "MAXIMUM_IDLE_SECONDS", 0.1)

    async def use(service, server):
        await asyncio.gather(*(ask(service, server.uri) for _ in range(3)))
        assert service.open_connections >= 1
        await server.until_open(0)
        await until(lambda: not service.open_connections)
        return (await ask(service, server.uri)).token_type

    assert run_against(local_ca, give_token, use) == "Bearer"


def test_no_more_idle_connections_are_kept_than_one_mount_uses(local_ca, monkeypatch):
    monkeypatch.setattr(pool_module, "MAXIMUM_IDLE", 2)
    together = asyncio.Barrier(5)

    async def script(call: Call) -> None:
        await together.wait()
        await call.token()

    async def use(service, server):
        await asyncio.gather(*(ask(service, server.uri) for _ in range(5)))
        return server.connections, service.open_connections

    assert run_against(local_ca, script, use) == (5, 2)


def test_mounts_share_idle_connections_and_one_that_goes_away_takes_none(local_ca):
    async def main():
        pool = ConnectionPool(environ={}, context=lambda: client_context(local_ca))
        first, second = (HttpTokenService(pool, shared=True) for _ in range(2))
        async with serving(give_token, server_context(local_ca)) as server:
            await ask(first, server.uri)
            await ask(second, server.uri)
            await first.aclose()
            await ask(second, server.uri)
            await second.aclose()
            kept = pool.idle
            await pool.aclose()
            await server.until_open(0)
            return server.connections, kept, pool.idle

    assert asyncio.run(main()) == (1, 1, 0)
