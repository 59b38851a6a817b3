"""The token service over HTTPS: keep-alive, real cancellation, no redirects.

A request is sent again only where the service cannot have acted on it in a way that
matters: no connection came about, or a connection that had been kept was closed before
a byte of an answer came. A refusal is final.
"""

import asyncio
import functools
import itertools
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11

from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.answers import read_answer
from skyflowctl.skyflow.http.connect import ConnectFailedError, open_connection
from skyflowctl.skyflow.http.connection import ConnectionBrokenError, HttpAnswer, HttpConnection
from skyflowctl.skyflow.http.proxies import proxy_for
from skyflowctl.skyflow.token_service import Exchange, TokenServiceUnreachableError
from skyflowctl.version import __version__

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


GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PAUSE_SECONDS = 0.1


def default_context() -> ssl.SSLContext:
    """Return a verifying TLS context; OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR.

    One process may serve many mounts, each with its own connections: they share one
    context, for making one takes 20 ms of CPU.
    """
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=4)
def _context(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpTokenService:
    """A :class:`TokenService` behind HTTPS. Belongs to one event loop.

    Args:
        environ: where the proxy variables are read; the process's own by default.
        context: gives the TLS context when it is first needed.
        slots: connections per host; further exchanges wait, within their deadline.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        context: Callable[[], ssl.SSLContext] = default_context,
        slots: int = 64,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._slots = slots
        self._pools: dict[tuple[str, int], Pool] = {}

    @property
    def open_connections(self) -> int:
        """How many connections are open, in use or idle."""
        return sum(pool.open_connections for pool in self._pools.values())

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        """Post the assertion to the service that ``token_uri`` names.

        The deadline, in seconds, covers everything: a free slot, DNS, connecting, TLS,
        and the whole answer.

        Raises:
            TokenServiceRefusedError: the service said no. Never retried.
            TokenServiceUnreachableError: there was no answer in time, or a redirect.
        """
        try:
            async with asyncio.timeout(deadline):
                answer = await self._post(token_uri, _body(assertion, scope))
        except TimeoutError:
            reason = f"no answer from {urlsplit(token_uri).netloc} within {deadline:g} s"
            raise TokenServiceUnreachableError(reason) from None
        return read_answer(answer, token_uri)

    async def aclose(self) -> None:
        """Close its connections and wait until they are."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _post(self, token_uri: str, body: bytes) -> HttpAnswer:
        request, host, port = _request(token_uri, len(body))
        pool = self._pool(host, port)
        try:
            return await _attempt(pool, request, body, fresh=False)
        except ConnectFailedError as error:
            if not error.transient:
                raise TokenServiceUnreachableError(error.reason) from None
            await asyncio.sleep(_PAUSE_SECONDS)
        except _StaleConnectionError:
            pass
        try:
            return await _attempt(pool, request, body, fresh=True)
        except ConnectFailedError as error:
            raise TokenServiceUnreachableError(error.reason) from None

    def _pool(self, host: str, port: int) -> Pool:
        pool = self._pools.get((host, port))
        if pool is None:
            connect = functools.partial(self._connect, host, port)
            pool = self._pools[host, port] = Pool(f"{host}:{port}", connect, self._slots)
        return pool

    async def _connect(self, host: str, port: int) -> HttpConnection:
        if self._context is None:
            self._context = self._make_context()
        try:
            proxy = proxy_for(host, port, self._environ)
        except ValueError as error:
            raise ConnectFailedError(str(error), transient=False) from None
        return await open_connection(host, port, self._context, proxy)


class _StaleConnectionError(Exception):
    """A kept connection turned out to be closed by the other side."""


async def _attempt(pool: Pool, request: h11.Request, body: bytes, *, fresh: bool) -> HttpAnswer:
    async with pool.connection(fresh=fresh) as connection:
        try:
            return await connection.send(request, body)
        except ConnectionBrokenError as error:
            if error.untouched and connection.uses > 1:
                raise _StaleConnectionError from None
            raise TokenServiceUnreachableError(f"{pool.name}: {error.reason}") from None


def _body(assertion: Secret, scope: str | None) -> bytes:
    fields = {"grant_type": GRANT_TYPE, "assertion": assertion.reveal()}
    if scope is not None:
        fields["scope"] = scope
    return json.dumps(fields, separators=(",", ":")).encode()


def _request(token_uri: str, length: int) -> tuple[h11.Request, str, int]:
    """Return the request's head, and the host (without brackets) and port to ask."""
    parts = urlsplit(token_uri)
    headers = [
        ("host", parts.netloc),
        ("content-type", "application/json"),
        ("content-length", str(length)),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("user-agent", f"skyflowctl/{__version__}"),
    ]
    request = h11.Request(method="POST", target=parts.path, headers=headers)
    return request, parts.hostname or "", parts.port or 443
