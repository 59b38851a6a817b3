"""Connects to Skyflow's token service from this machine, only when needed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import Exchange, TokenService

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TokenServiceOnDemand:
    """A ``TokenService`` over HTTP that is created at its first exchange.

    Its connections belong to one event loop. Most rotations mint on the server and never use it, so
    they do not import an HTTP library; nor does a plugin that starts.

    Args:
        dev_ca: the CA file of a dev stack, whose token service is reached without a proxy; None:
            the system's trust and proxies apply.
        make: creates the service, in place of one with connections of its own.
    """

    def __init__(
        self, dev_ca: Path | None = None, *, make: Callable[[], TokenService] | None = None
    ) -> None:
        self._make = make or functools.partial(_own_service, dev_ca)
        self._service: TokenService | None = None

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        """Post the assertion; see ``TokenService``."""
        if self._service is None:
            self._service = self._make()
        return await self._service.exchange(token_uri, assertion, scope, deadline=deadline)

    async def aclose(self) -> None:
        """Close its connections; the next exchange opens new ones, also in another event loop."""
        service, self._service = self._service, None
        if service is not None:
            await service.aclose()


def _own_service(dev_ca: Path | None) -> TokenService:
    import ssl

    from skyflowctl.skyflow.http.pool import ConnectionPool
    from skyflowctl.skyflow.http.token_service import HttpTokenService

    if dev_ca is None:
        return HttpTokenService()
    context = functools.partial(ssl.create_default_context, cafile=str(dev_ca))
    return HttpTokenService(ConnectionPool(environ={}, context=context))
