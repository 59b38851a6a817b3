"""Skyflow's token service, reached from this machine only by whoever needs it."""

from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import Exchange, TokenService


class TokenServiceOnDemand:
    """A ``TokenService`` over HTTP that is made at its first exchange.

    Its connections belong to one event loop. Most rotations mint on the server and never
    ask it: they pay for no HTTP library.
    """

    def __init__(self) -> None:
        self._service: TokenService | None = None

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        """Post the assertion; see ``TokenService``."""
        if self._service is None:
            from skyflowctl.skyflow.http_exchange import HttpTokenService

            self._service = HttpTokenService()
        return await self._service.exchange(token_uri, assertion, scope, deadline=deadline)

    async def aclose(self) -> None:
        """Close its connections; the next exchange, in another loop as well, makes new ones."""
        service, self._service = self._service, None
        if service is not None:
            await service.aclose()
