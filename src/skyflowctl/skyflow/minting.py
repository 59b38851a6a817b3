"""Minting: exchanges a signed assertion for a bearer token.

The claims are those that the vendor's SDKs make (``tests/contract`` holds ours to
them): ``iss``, ``key``, ``aud``, ``sub``, ``exp`` and, when asked, ``ctx``; no ``iat``
and no ``jti``. The answer names no lifetime, so it is read from the token's own ``exp``.
"""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

from skyflowctl.clock import Clock
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.bearer import expiry_of
from skyflowctl.skyflow.service_account import ServiceAccount
from skyflowctl.skyflow.signing_key import InvalidKeyError, SigningKey
from skyflowctl.skyflow.threads import finished_in_thread
from skyflowctl.skyflow.token_service import (
    NO_TOKEN,
    Exchange,
    HostRefusedError,
    TokenService,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)
from skyflowctl.skyflow.token_uri import (
    NOTHING_SENT,
    SKYFLOW_HOSTS,
    HostNotAllowedError,
    check_token_uri,
)

__all__ = [
    "NO_TOKEN",
    "InvalidKeyError",
    "MintedToken",
    "Minter",
    "MintingCredential",
    "SigningKey",
    "assertion_claims",
    "expiry_of",
    "mint_each",
    "sign",
]

ASSERTION_LIFETIME = timedelta(hours=1)

# As many as the engine's own config/verify has at once.
_EXCHANGES_AT_ONCE = 8


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


_HEADER = _encoded(_compact({"alg": "RS256", "typ": "JWT"}))


@dataclass(frozen=True, slots=True)
class MintingCredential:
    """A service account with its key ready to sign."""

    account: ServiceAccount
    key: SigningKey


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A fresh bearer token.

    Args:
        access_token: the bearer.
        token_type: the service's name for it, ``Bearer``.
        expires_at: the token's own ``exp``; nothing can end it earlier.
        key_id: the key that signed the assertion.
        request_id: the token service's id of the exchange; empty when it named none.
        latency_ms: how long the exchange took, in milliseconds.
    """

    access_token: Secret
    token_type: str
    expires_at: datetime
    key_id: str
    request_id: str
    latency_ms: float


def assertion_claims(
    account: ServiceAccount, ctx: str | Mapping[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """Return the claims of an assertion that is valid for one hour.

    Args:
        account: who asks; its tokenURI is the audience.
        ctx: goes into the token verbatim; None leaves the claim out.
        now: the current time.
    """
    claims: dict[str, Any] = {
        "iss": account.client_id,
        "key": account.key_id,
        "aud": account.token_uri,
        "sub": account.client_id,
        "exp": int((now + ASSERTION_LIFETIME).timestamp()),
    }
    if ctx is not None:
        claims["ctx"] = ctx if isinstance(ctx, str) else dict(ctx)
    return claims


def sign(claims: Mapping[str, Any], key: SigningKey) -> Secret:
    """Return the claims as a compact RS256 JWT."""
    signed_part = f"{_HEADER}.{_encoded(_compact(claims))}"
    return Secret(f"{signed_part}.{_encoded(key.sign(signed_part.encode()))}")


class Minter:
    """Mints tokens through one token service.

    Args:
        service: where assertions are exchanged.
        clock: the time for ``exp`` and for measuring.
        deadline: seconds that one mint may take.
        allowed_hosts: ``host:port`` of the services that may see an assertion.
    """

    def __init__(
        self,
        service: TokenService,
        clock: Clock,
        *,
        deadline: float = 10.0,
        allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS,
    ) -> None:
        self._service = service
        self._clock = clock
        self._deadline = deadline
        self._allowed_hosts = allowed_hosts

    async def mint(
        self,
        credential: MintingCredential,
        role_id: str | None,
        ctx: str | Mapping[str, Any] | None,
    ) -> MintedToken:
        """Exchange a fresh assertion for a token of one role.

        Args:
            credential: who asks.
            role_id: the Skyflow role; None asks for a token without scope.
            ctx: the context to bind into the token, or None.

        Raises:
            TokenServiceRefusedError: the service said no, or answered what is no token.
            TokenServiceUnreachableError: no answer in time.
            HostRefusedError: the tokenURI is not allowed; nothing was sent.
        """
        account = credential.account
        self._check_host(account.token_uri)
        claims = assertion_claims(account, ctx, self._clock.now())
        assertion = await finished_in_thread(sign, claims, credential.key)
        scope = None if role_id is None else f"role:{role_id}"
        started = self._clock.monotonic()
        answer = await self._service.exchange(
            account.token_uri, assertion, scope, deadline=self._deadline
        )
        latency_ms = (self._clock.monotonic() - started) * 1000
        return _minted(answer, account.key_id, latency_ms)

    def _check_host(self, token_uri: str) -> None:
        try:
            check_token_uri(token_uri, self._allowed_hosts)
        except HostNotAllowedError as error:
            hint = f"to allow it, give the engine or the command --allow-host {error.host}"
            raise HostRefusedError(f"tokenURI {error}; {NOTHING_SENT}; {hint}") from None
        except ValueError as error:
            raise HostRefusedError(f"tokenURI {error}; {NOTHING_SENT}") from None


Scope = tuple[str | None, str | Mapping[str, Any] | None]
MintResult = MintedToken | TokenServiceRefusedError | TokenServiceUnreachableError


def mint_each(
    account: ServiceAccount,
    scopes: Mapping[str, Scope],
    service: TokenService,
    clock: Clock,
    allowed_hosts: AbstractSet[str],
) -> dict[str, MintResult]:
    """Mint one token for each role, a few at once, in an event loop of its own.

    Args:
        account: who asks; its key was checked before.
        scopes: by name, the Skyflow role's id and the ctx. Without any role, one token
            without scope is minted, under the name "".
        service: where assertions are exchanged; its connections are closed in the end.
        clock: as for :class:`Minter`.
        allowed_hosts: as for :class:`Minter`.
    """
    credential = MintingCredential(account, SigningKey.trusted(account.private_key))
    minter = Minter(service, clock, allowed_hosts=allowed_hosts)

    async def mint(places: asyncio.Semaphore, scope: Scope) -> MintResult:
        try:
            async with places:
                return await minter.mint(credential, *scope)
        except (TokenServiceRefusedError, TokenServiceUnreachableError) as error:
            return error

    async def mint_all(scopes: Mapping[str, Scope]) -> list[MintResult]:
        places = asyncio.Semaphore(_EXCHANGES_AT_ONCE)
        try:
            return await asyncio.gather(*(mint(places, scope) for scope in scopes.values()))
        finally:
            await service.aclose()

    scopes = scopes or {"": (None, None)}
    return dict(zip(scopes, asyncio.run(mint_all(scopes)), strict=True))


def _minted(answer: Exchange, key_id: str, latency_ms: float) -> MintedToken:
    try:
        expires_at = expiry_of(answer.access_token)
    except ValueError:
        raise TokenServiceRefusedError(200, NO_TOKEN, answer.request_id) from None
    return MintedToken(
        access_token=answer.access_token,
        token_type=answer.token_type,
        expires_at=expires_at,
        key_id=key_id,
        request_id=answer.request_id,
        latency_ms=latency_ms,
    )
