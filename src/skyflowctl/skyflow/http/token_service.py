"""The token service over HTTPS: keep-alive, real cancellation, no redirects.

A request is sent again only where the service cannot have acted on it in a way that
matters: no connection came about, or a connection that had been kept was closed before
a byte of an answer came. A refusal is final.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11

from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.answers import read_answer
from skyflowctl.skyflow.http.connect import ConnectFailedError
from skyflowctl.skyflow.http.connection import ConnectionBrokenError, HttpAnswer, HttpConnection
from skyflowctl.skyflow.http.pool import Address, ConnectionPool, close_all
from skyflowctl.skyflow.token_service import Exchange, TokenServiceUnreachableError
from skyflowctl.telemetry.spans import outgoing_traceparent
from skyflowctl.version import __version__

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PAUSE_SECONDS = 0.1


class HttpTokenService:
    """A :class:`TokenService` behind HTTPS. Belongs to one event loop.

    Args:
        pool: keeps connections between exchanges; one of its own by default.
        shared: others use the pool too: :meth:`aclose` leaves its idle connections open.
        slots: connections in use at a time; further exchanges wait, within their deadline.
    """

    def __init__(
        self, pool: ConnectionPool | None = None, *, shared: bool = False, slots: int = 64
    ) -> None:
        self._pool = pool or ConnectionPool()
        self._shared = shared
        self._slots = asyncio.Semaphore(slots)
        self._busy: set[HttpConnection] = set()

    @property
    def open_connections(self) -> int:
        """How many connections are open: in use here, or idle in the pool."""
        return len(self._busy) + self._pool.idle

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
        await close_all(list(self._busy))
        if not self._shared:
            await self._pool.aclose()

    async def _post(self, token_uri: str, body: bytes) -> HttpAnswer:
        request, address = _request(token_uri, len(body))
        try:
            return await self._attempt(address, request, body, fresh=False)
        except ConnectFailedError as error:
            if not error.transient:
                raise TokenServiceUnreachableError(error.reason) from None
            await asyncio.sleep(_PAUSE_SECONDS)
        except _StaleConnectionError:
            pass
        try:
            return await self._attempt(address, request, body, fresh=True)
        except ConnectFailedError as error:
            raise TokenServiceUnreachableError(error.reason) from None

    async def _attempt(
        self, address: Address, request: h11.Request, body: bytes, *, fresh: bool
    ) -> HttpAnswer:
        async with self._connection(address, fresh=fresh) as connection:
            try:
                return await connection.send(request, body)
            except ConnectionBrokenError as error:
                if error.untouched and connection.uses > 1:
                    raise _StaleConnectionError from None
                name = "{}:{}".format(*address)
                raise TokenServiceUnreachableError(f"{name}: {error.reason}") from None

    @asynccontextmanager
    async def _connection(self, address: Address, *, fresh: bool) -> AsyncIterator[HttpConnection]:
        """Lend a connection; it is kept afterwards only if the block ended well.

        Args:
            address: where to.
            fresh: open a new one, even where an idle one is there.
        """
        async with self._slots:
            kept = None if fresh else self._pool.take(address)
            connection = kept or await self._pool.connect(address)
            self._busy.add(connection)
            try:
                yield connection
            except BaseException:
                # Also a cancelled exchange: its late answer must not meet another request.
                connection.abort()
                raise
            finally:
                self._busy.discard(connection)
            self._pool.keep(address, connection)


class _StaleConnectionError(Exception):
    """A kept connection turned out to be closed by the other side."""


def _body(assertion: Secret, scope: str | None) -> bytes:
    fields = {"grant_type": GRANT_TYPE, "assertion": assertion.reveal()}
    if scope is not None:
        fields["scope"] = scope
    return json.dumps(fields, separators=(",", ":")).encode()


def _request(token_uri: str, length: int) -> tuple[h11.Request, Address]:
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
    traceparent = outgoing_traceparent()
    if traceparent:
        headers.append(("traceparent", traceparent))
    request = h11.Request(method="POST", target=parts.path, headers=headers)
    return request, (parts.hostname or "", parts.port or 443)
