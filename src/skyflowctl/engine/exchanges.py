"""Exchanges of one mount with the token service, limited in number."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from skyflowctl.clock import Clock
from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.ctx import Ctx
from skyflowctl.engine.masking import mask_ctx
from skyflowctl.engine.mint_limiter import MintLimiter, NoPlaceError
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.minting import MintedToken, Minter, MintingCredential
from skyflowctl.skyflow.token_service import (
    HostRefusedError,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)

if TYPE_CHECKING:
    from skyflowctl.engine.observed import MountTelemetry

# Far more than a mount's live and kept credentials; candidates must not accumulate.
_REMEMBERED = 64


class TokenLifetimes:
    """The longest life of a token of each credential that this process minted with."""

    def __init__(self) -> None:
        self._longest: OrderedDict[tuple[str, str], timedelta] = OrderedDict()

    def note(self, client_id: str, key_id: str, life: timedelta) -> None:
        """Record that a token of this credential is valid for ``life`` from now."""
        who = (client_id, key_id)
        self._longest[who] = max(life, self._longest.get(who, life))
        self._longest.move_to_end(who)
        if len(self._longest) > _REMEMBERED:
            self._longest.popitem(last=False)

    def longest(self, client_id: str, key_id: str) -> timedelta | None:
        """Return the longest life seen of this credential's tokens; None: none was seen."""
        return self._longest.get((client_id, key_id))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange gave no token; nothing in it repeats the ctx.

    Args:
        status: the token service's own status; 0 when it did not answer.
        message: its message, or why there was no answer.
        request_id: its id of the exchange; empty when it named none.
        not_allowed: the engine asked no token service, because the tokenURI is refused.
        no_place: the engine asked no token service, because too many requests wait.
    """

    status: int
    message: str
    request_id: str = ""
    not_allowed: bool = False
    no_place: bool = False

    @property
    def refused(self) -> bool:
        """True if the service answered."""
        return self.status > 0

    def text(self) -> str:
        """Return all of it in one line."""
        if not self.refused:
            return f"skyflow: {self.message}"
        suffix = f" (request id {self.request_id})" if self.request_id else ""
        return f"token service refused: {self.status} {self.message}{suffix}"

    def reason(self) -> str:
        """Return the kind of failure, for metrics."""
        if self.refused:
            return "token_service_refused"
        if self.no_place:
            return "queue_full"
        return "token_service_not_allowed" if self.not_allowed else "token_service_unreachable"

    def error(self, suffix: str = "") -> EngineError:
        """Return the answer to the request that needed the token: 502 or 503."""
        return EngineError(502 if self.refused else 503, self.text() + suffix, self.reason())


class MintFailedError(Exception):
    """The exchange returned no token; ``failure`` has the reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text())
        self.failure = failure


class ExchangeSet:
    """Mints for one mount, at most as many at a time as the limiter lets in.

    ``lifetimes`` learns from every token how long it lives; ``observed`` measures, if it is there.
    """

    def __init__(
        self,
        minter: Minter,
        limiter: MintLimiter,
        clock: Clock,
        observed: "MountTelemetry | None" = None,
    ) -> None:
        self.lifetimes = TokenLifetimes()
        self._minter = minter
        self._limiter = limiter
        self._clock = clock
        self._observed = observed

    async def mint(
        self, credential: MintingCredential, role_id: str | None, ctx: Ctx | None
    ) -> MintedToken:
        """Wait for a place and return a fresh token.

        Raises:
            MintFailedError: there is none.
        """
        async with self.place():
            return await self.exchange(credential, role_id, ctx)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for one exchange around a block; see :class:`MintLimiter`.

        Raises:
            MintFailedError: there is no place.
        """
        async with AsyncExitStack() as held:
            try:
                observed = None if self._limiter.free else self._observed
                with observed.waiting() if observed else nullcontext():
                    await held.enter_async_context(self._limiter.place())
            except NoPlaceError as error:
                raise MintFailedError(Failure(0, str(error), no_place=True)) from None
            yield

    def close(self) -> None:
        """Refuse all waiting callers."""
        self._limiter.close()

    async def exchange(
        self, credential: MintingCredential, role_id: str | None, ctx: Ctx | None
    ) -> MintedToken:
        """Return a fresh token; the caller holds a place.

        Raises:
            MintFailedError: there is none.
        """
        if self._observed is None:
            return await self._exchange(credential, role_id, ctx)
        return await self._observed.exchange(partial(self._exchange, credential, role_id, ctx))

    async def _exchange(
        self, credential: MintingCredential, role_id: str | None, ctx: Ctx | None
    ) -> MintedToken:
        try:
            asked = self._clock.now()
            token = await self._minter.mint(credential, role_id, ctx)
            account = credential.account
            self.lifetimes.note(account.client_id, account.key_id, token.expires_at - asked)
            return token
        except TokenServiceRefusedError as error:
            message, request_id = mask_ctx(error.message, ctx), mask_ctx(error.request_id, ctx)
            # "from None": the cause's text may repeat the ctx.
            raise MintFailedError(Failure(error.status, message, request_id)) from None
        except TokenServiceUnreachableError as error:
            reason = mask_ctx(error.reason, ctx, own_words=True)
            not_allowed = isinstance(error, HostRefusedError)
            raise MintFailedError(Failure(0, reason, not_allowed=not_allowed)) from None
