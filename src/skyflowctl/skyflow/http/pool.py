"""The connections to token services that a process keeps open between exchanges.

All mounts of a process may share them: a connection belongs to nobody while it is idle, and
how many a mount may use at a time is limited where the mount asks.
"""

import asyncio
import functools
import os
import ssl
from collections.abc import Callable, Mapping

from skyflowctl.skyflow.http.connect import ConnectFailedError, open_connection
from skyflowctl.skyflow.http.connection import HttpConnection
from skyflowctl.skyflow.http.proxies import proxy_for

# Load balancers close idle connections after 60 s or later; this limit is shorter.
MAXIMUM_IDLE_SECONDS = 50.0
# As many as one mount uses at a time; more would wait there for nobody.
MAXIMUM_IDLE = 64

Address = tuple[str, int]
"""A host name and a port."""


def default_context() -> ssl.SSLContext:
    """Return a verifying TLS context; OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR.

    A process makes one for each value of these: making one takes 20 ms of CPU.
    """
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=4)
def _context(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class ConnectionPool:
    """Idle connections by address. Belongs to one event loop.

    A timer closes what was idle for 50 s, also when nobody asks again.

    Args:
        environ: where the proxy variables are read; the process's own by default.
        context: gives the TLS context when it is first needed.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        context: Callable[[], ssl.SSLContext] = default_context,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        # The longest idle stand first in each list; the newest are taken first.
        self._idle: dict[Address, list[HttpConnection]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        """How many idle connections are open."""
        return sum(connection.is_open for kept in self._idle.values() for connection in kept)

    def take(self, address: Address) -> HttpConnection | None:
        """Return an open connection that nobody uses, or None."""
        kept = self._idle.get(address, [])
        while kept:
            connection = kept.pop()
            if _is_usable(connection):
                return connection
            connection.abort()
        return None

    def keep(self, address: Address, connection: HttpConnection) -> None:
        """Keep a connection whose exchange ended well, if it can be used again."""
        if not connection.is_open:
            return
        connection.idle_since = asyncio.get_running_loop().time()
        kept = self._idle.setdefault(address, [])
        kept.append(connection)
        if len(kept) > MAXIMUM_IDLE:
            kept.pop(0).abort()
        if self._timer is None:
            self._close_later(MAXIMUM_IDLE_SECONDS)

    async def connect(self, address: Address) -> HttpConnection:
        """Return a new connection.

        Raises:
            ConnectFailedError: with the reason.
        """
        if self._context is None:
            self._context = self._make_context()
        host, port = address
        try:
            proxy = proxy_for(host, port, self._environ)
        except ValueError as error:
            raise ConnectFailedError(str(error), transient=False) from None
        return await open_connection(host, port, self._context, proxy)

    async def aclose(self) -> None:
        """Close the idle connections and wait until their sockets are closed."""
        connections = [connection for kept in self._idle.values() for connection in kept]
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await close_all(connections)

    def _close_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._close_unused)

    def _close_unused(self) -> None:
        self._timer = None
        for address, kept in list(self._idle.items()):
            while kept and not _is_usable(kept[0]):
                kept.pop(0).abort()
            if not kept:
                del self._idle[address]
        if self._idle:
            oldest = min(kept[0].idle_since for kept in self._idle.values())
            now = asyncio.get_running_loop().time()
            self._close_later(max(0.0, oldest + MAXIMUM_IDLE_SECONDS - now))


async def close_all(connections: list[HttpConnection]) -> None:
    """Close connections at once and wait until their sockets are closed."""
    for connection in connections:
        connection.abort()
    for connection in connections:
        await connection.wait_closed()


def _is_usable(connection: HttpConnection) -> bool:
    oldest = asyncio.get_running_loop().time() - MAXIMUM_IDLE_SECONDS
    return connection.is_open and connection.idle_since > oldest
