"""Many callers at once, each a thread with a connection of its own that nothing is sent twice on."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from support.bao import BaoServer


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: its status, how long it took in seconds, and what was said if it is bad."""

    status: int
    seconds: float
    error: str = ""


def crowd(server: BaoServer, path: str, callers: int, rounds: int = 1) -> list[Told]:
    """Have so many callers read a path at the same moment, each so many times in turn."""
    told: list[Told] = []
    ready = threading.Barrier(callers)
    work = [
        threading.Thread(target=_call, args=(server, path, rounds, ready, told), daemon=True)
        for _ in range(callers)
    ]
    for one in work:
        one.start()
    for one in work:
        one.join(60)
    assert not any(one.is_alive() for one in work), "a caller hangs"
    return told


def _call(
    server: BaoServer, path: str, rounds: int, ready: threading.Barrier, told: list[Told]
) -> None:
    connection = connect(server)
    connection.connect()
    ready.wait(60)
    for _ in range(rounds):
        told.append(read(connection, server.token, path))
    connection.close()


def connect(server: BaoServer) -> http.client.HTTPConnection:
    """A connection to the server, not yet open."""
    place = urlsplit(server.address)
    if place.scheme == "http":
        return http.client.HTTPConnection(place.netloc, timeout=60)
    context = ssl.create_default_context(cafile=str(server.ca))
    return http.client.HTTPSConnection(place.netloc, timeout=60, context=context)


def read(connection: http.client.HTTPConnection, token: str, path: str) -> Told:
    """Read a path once."""
    begun = time.monotonic()
    connection.request("GET", f"/v1/{path}", headers={"X-Vault-Token": token})
    answer = connection.getresponse()
    body = answer.read()
    spent = time.monotonic() - begun
    error = "" if answer.status == 200 else " ".join(json.loads(body).get("errors", []))
    return Told(answer.status, spent, error)


@contextlib.contextmanager
def waiting_callers(server: BaoServer, path: str, callers: int) -> Iterator[None]:
    """Have so many callers of another process read a path again and again meanwhile.

    Another process: what it costs to wait must not be a cost of the measuring one.
    """
    work = subprocess.Popen(
        [sys.executable, __file__, server.address, str(server.ca or ""), path, str(callers)],
        env={**os.environ, "CROWD_TOKEN": server.token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert work.stdout is not None
        assert work.stdout.readline() == b"all are waiting\n"
        yield
    finally:
        work.kill()
        work.communicate()


async def _wait_on(address: str, ca: str, path: str, token: str) -> None:
    place = urlsplit(address)
    context = ssl.create_default_context(cafile=ca) if ca else None
    reader, writer = await asyncio.open_connection(place.hostname, place.port, ssl=context)
    request = f"GET /v1/{path} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {token}\r\n\r\n"
    while True:
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None, head
        await reader.readexactly(int(length[1]))


async def _main(address: str, ca: str, path: str, callers: str) -> None:
    token = os.environ["CROWD_TOKEN"]
    async with asyncio.TaskGroup() as group:
        for _ in range(int(callers)):
            group.create_task(_wait_on(address, ca, path, token))
        await asyncio.sleep(2)
        sys.stdout.write("all are waiting\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
