"""Asking a local HTTPS server through the real HttpTokenService."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.pool import ConnectionPool
from skyflowctl.skyflow.http.token_service import HttpTokenService
from support.https import Call, client_context, server_context, serving

ASSERTION = Secret("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln")


async def give_token(call: Call) -> None:
    await call.token(x_request_id="req-1")


async def hang(call: Call) -> None:
    await asyncio.sleep(3600)


@asynccontextmanager
async def client(ca, environ=None, **options):
    pool = ConnectionPool(environ=environ or {}, context=lambda: client_context(ca))
    service = HttpTokenService(pool, **options)
    try:
        yield service
    finally:
        await service.aclose()


def ask(service: HttpTokenService, uri: str, *, scope="role:r1", deadline=5.0):
    return service.exchange(uri, ASSERTION, scope, deadline=deadline)


def run_against(ca, script, use, **options):
    """Run ``use(service, server)`` against a server with this script."""

    async def main():
        async with serving(script, server_context(ca)) as server, client(ca, **options) as service:
            result = await use(service, server)
            await service.aclose()
            await server.until_open(0)
            return result

    return asyncio.run(main())


def failure(ca, script, kind, **options):
    async def use(service, server):
        with pytest.raises(kind) as caught:
            await ask(service, server.uri, **options)
        return caught.value, server

    return run_against(ca, script, use)


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only the names are counted
