"""Connects to Skyflow's token service from this machine, only when needed."""

import functools
import ssl
from pathlib import Path

from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import Exchange, TokenService


class TokenServiceOnDemand:
    """A ``TokenService`` over HTTP that is created at its first exchange.

    Its connections belong to one event loop. Most rotations mint on the server and never use it, so
    they do not import an HTTP library.

    Args:
        dev_ca: the CA file of a dev stack, whose token service is reached without a proxy; None:
            the system's trust and proxies apply.
    """

    def __init__(self, dev_ca: Path | None = None) -> None:
        self._dev_ca = dev_ca
        self._service: TokenService | None = None

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        """Post the assertion; see ``TokenService``."""
        if self._service is None:
            self._service = self._made()
        return await self._service.exchange(token_uri, assertion, scope, deadline=deadline)

    def _made(self) -> TokenService:
        from skyflowctl.skyflow.http.pool import ConnectionPool
        from skyflowctl.skyflow.http.token_service import HttpTokenService

        if self._dev_ca is None:
            return HttpTokenService()
        context = functools.partial(ssl.create_default_context, cafile=str(self._dev_ca))
        return HttpTokenService(ConnectionPool(environ={}, context=context))

    async def aclose(self) -> None:
        """Close its connections; the next exchange opens new ones, also in another event loop."""
        service, self._service = self._service, None
        if service is not None:
            await service.aclose()
