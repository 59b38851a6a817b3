"""The emulator as a token service inside this process: no sockets, for dry runs."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.exchange import (
    TOKEN_TYPE,
    exchange_token,
    new_request_id,
)
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.rules import JWT_BEARER, ExchangeForm
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.token_service import (
    Exchange,
    TokenServiceRefusedError,
)

if TYPE_CHECKING:
    from skyflowctl.skyflow.service_account import ServiceAccount


class InProcessTokenService:
    """A token service for the accounts that were added to it.

    Args:
        state: shared with the code that reads the log; None: a new one.
    """

    def __init__(self, state: EmulatorState | None = None) -> None:
        self.state = state or EmulatorState()

    def trust(
        self, account: "ServiceAccount", role_ids: Iterable[str], *, enforce_ctx: bool = False
    ) -> None:
        """Add a service account and assign these roles to it.

        Raises:
            ValueError: the account's private key is no RSA key.
        """
        self.state.trust(account, role_ids, enforce_ctx=enforce_ctx)

    async def exchange(
        self,
        token_uri: str,
        assertion: Secret,
        scope: str | None,
        *,
        deadline: float,  # noqa: ARG002 - the port's signature
    ) -> Exchange:
        """Exchange an assertion; see :class:`skyflowctl.skyflow.token_service.TokenService`.

        An account's own tokenURI is the audience, so ``token_uri`` counts only for an
        account that names none.

        Raises:
            TokenServiceRefusedError: the rules say no.
        """
        request = ExchangeForm(JWT_BEARER, assertion.reveal(), scope)
        request_id = new_request_id()
        try:
            token = exchange_token(self.state, request, frozenset({token_uri}), request_id)
        except ExchangeRefusedError as refusal:
            raise TokenServiceRefusedError(refusal.status, refusal.message, request_id) from refusal
        return Exchange(Secret(token), TOKEN_TYPE, request_id)

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""
