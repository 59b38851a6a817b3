"""The emulator as a token service inside this process: no sockets, for dry runs."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.exchange import (
    TOKEN_TYPE,
    begin_exchange,
    exchange_token,
    log_failure,
    new_request_id,
)
from skyflowctl.skyflow.emulator.faults import Fault, FaultKind
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.rules import JWT_BEARER, ExchangeForm
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.http.sanitize import one_line, redirect_reason
from skyflowctl.skyflow.token_service import (
    NO_TOKEN,
    Exchange,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)

if TYPE_CHECKING:
    from skyflowctl.skyflow.service_account import ServiceAccount

_UNANSWERED = frozenset({FaultKind.HANG, FaultKind.DRIP})


class InProcessTokenService:
    """A token service for the accounts that were added to it.

    Args:
        state: shared with the code that sets faults or reads the log; None: a new one.
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
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        """Exchange an assertion; see :class:`skyflowctl.skyflow.token_service.TokenService`.

        An account's own tokenURI is the audience, so ``token_uri`` counts only for an
        account that names none.

        Raises:
            TokenServiceRefusedError: the rules, or an injected fault, say no.
            TokenServiceUnreachableError: an injected fault leaves the exchange unanswered.
        """
        request = ExchangeForm(JWT_BEARER, assertion.reveal(), scope)
        request_id = new_request_id()
        fault = begin_exchange(self.state, request.assertion)
        if fault is not None:
            await self._suffer(fault, request, token_uri, request_id, deadline)
        try:
            token = exchange_token(self.state, request, frozenset({token_uri}), request_id)
        except ExchangeRefusedError as refusal:
            raise TokenServiceRefusedError(refusal.status, refusal.message, request_id) from refusal
        return Exchange(Secret(token), TOKEN_TYPE, request_id)

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""

    async def _suffer(
        self,
        fault: Fault,
        request: ExchangeForm,
        token_uri: str,
        request_id: str,
        deadline: float,
    ) -> None:
        """Act out a fault; returns only from one that an honest answer follows."""
        endless = fault.kind in _UNANSWERED
        await asyncio.sleep(deadline if endless else min(fault.seconds, deadline))
        if endless or fault.seconds >= deadline:
            log_failure(self.state, request.assertion, request_id, 0, fault.kind)
            raise TokenServiceUnreachableError(f"no answer within {deadline:g} s")
        if fault.kind is FaultKind.DELAY:
            return
        log_failure(self.state, request.assertion, request_id, _status(fault), fault.kind)
        if fault.kind is FaultKind.RESET:
            raise TokenServiceUnreachableError("the connection was reset")
        if fault.kind is not FaultKind.STATUS:
            raise TokenServiceRefusedError(200, NO_TOKEN, request_id)
        if fault.status < 400:
            location = fault.headers.get("location", "")
            raise TokenServiceUnreachableError(redirect_reason(fault.status, location, token_uri))
        raise TokenServiceRefusedError(fault.status, one_line(fault.message), request_id)


def _status(fault: Fault) -> int:
    """Return the status that a fault answers with; 0 when it answers nothing."""
    if fault.kind is FaultKind.STATUS:
        return fault.status
    return 200 if fault.kind in (FaultKind.HTML, FaultKind.EMPTY) else 0
