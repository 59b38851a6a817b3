"""Connections kept for reuse, for one host: at most so many, newest first."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from skyflowctl.skyflow.http.connection import HttpConnection

# Load balancers close idle connections after 60 s or later; this limit is shorter.
_MAXIMUM_IDLE_SECONDS = 50.0


class Pool:
    """The connections to one host.

    Args:
        name: the host and port, for messages.
        connect: opens a new one.
        slots: how many may be in use at a time; more requests wait.
    """

    def __init__(
        self, name: str, connect: Callable[[], Awaitable[HttpConnection]], slots: int
    ) -> None:
        self.name = name
        self._connect = connect
        self._slots = asyncio.Semaphore(slots)
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()

    @property
    def open_connections(self) -> int:
        """How many connections are open: in use, or idle."""
        return len(self._busy) + sum(connection.is_open for connection in self._idle)

    @asynccontextmanager
    async def connection(self, *, fresh: bool) -> AsyncIterator[HttpConnection]:
        """Lend a connection; it is kept afterwards only if the block ended well.

        Args:
            fresh: open a new one, even where an idle one is there.
        """
        async with self._slots:
            connection = (None if fresh else self._take_idle()) or await self._connect()
            self._busy.add(connection)
            try:
                yield connection
            except BaseException:
                # Also a cancelled exchange: its late answer must not meet another request.
                connection.abort()
                raise
            finally:
                self._busy.discard(connection)
            self._keep(connection)

    async def aclose(self) -> None:
        """Close every connection and wait until the sockets are closed."""
        connections = list(itertools.chain(self._idle, self._busy))
        self._idle.clear()
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.wait_closed()

    def _keep(self, connection: HttpConnection) -> None:
        if connection.is_open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        # The longest idle stand first, and are never taken while newer ones are there.
        while self._idle and not _is_usable(self._idle[0]):
            self._idle.pop(0).abort()

    def _take_idle(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if _is_usable(connection):
                return connection
            connection.abort()
        return None


def _is_usable(connection: HttpConnection) -> bool:
    oldest = asyncio.get_running_loop().time() - _MAXIMUM_IDLE_SECONDS
    return connection.is_open and connection.idle_since >= oldest
