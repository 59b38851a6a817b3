"""The rules of the token service: which exchange is granted. Pure, no clock, no state.

Strict where Skyflow's own strictness is known (facts from its OpenAPI document, its SDKs
and its documentation), and refusing where it is not. Of the statuses that the
documentation lists for this endpoint, 400 means a bad request and 401 everything that
is wrong with who asks or with what it may have.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.emulator import jwt
from skyflowctl.skyflow.emulator.accounts import Account, AccountKey
from skyflowctl.skyflow.emulator.keys import read_public_key
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME_MAX = 3_600
CLOCK_SKEW = 60

KEY_EXPIRED = "Error: Key expired, consider rotating."
BAD_SCOPE = "Scopes in request token in wrong format"

_ROLE_PREFIX = "role:"

Context = str | int | float | bool | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExchangeForm:
    """The fields of an exchange's body that count."""

    grant_type: object
    assertion: object
    scope: object = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A granted exchange: what the token will say. ``ctx`` None means none."""

    client_id: str
    key_id: str
    role_ids: tuple[str, ...]
    ctx: Context | None


def check_exchange(
    request: ExchangeForm,
    accounts: Mapping[str, Account],
    own_uris: frozenset[str],
    now: datetime,
) -> Grant:
    """Return what this exchange is granted.

    Args:
        request: what was posted.
        accounts: the known accounts by client id.
        own_uris: the token URIs under which this service is reached; an account that
            names its own tokenURI accepts only that.
        now: the service's time.

    Raises:
        HttpError: 400 for a bad request, 401 for a bad assertion or role.
    """
    scope = parse_scope(request.scope)
    assertion = _parsed_assertion(request)
    account, key = _signer(assertion, accounts, now)
    _check_audience(assertion.claims, account, own_uris)
    _check_times(assertion.claims, now.timestamp())
    return Grant(
        client_id=account.client_id,
        key_id=key.key_id,
        role_ids=_granted_roles(scope, account),
        ctx=_context(assertion.claims, account),
    )


def parse_scope(scope: object) -> tuple[str, ...] | None:
    """Return the role ids that a scope asks for; None means all of the account's.

    Blanks around and between the items do not matter: each vendor SDK puts them
    elsewhere. A text without any item asks for all, like no scope.

    Raises:
        HttpError: 400, the scope is no text or an item is not ``role:<id>``.
    """
    if scope is None:
        return None
    if not isinstance(scope, str):
        raise ExchangeRefusedError(400, BAD_SCOPE)
    items = scope.split()
    if any(not item.startswith(_ROLE_PREFIX) or item == _ROLE_PREFIX for item in items):
        raise ExchangeRefusedError(400, BAD_SCOPE)
    return tuple(dict.fromkeys(item.removeprefix(_ROLE_PREFIX) for item in items)) or None


def claimed_ids(assertion: object) -> tuple[str, str]:
    """Return client id and key id as an assertion claims them, unverified, for a log."""
    try:
        claims = jwt.split_token(assertion).claims if isinstance(assertion, str) else {}
    except jwt.MalformedTokenError:
        return "", ""
    return _text(claims.get("sub")), _text(claims.get("key"))


def _parsed_assertion(request: ExchangeForm) -> jwt.ParsedToken:
    if request.grant_type != JWT_BEARER:
        raise ExchangeRefusedError(400, "The grant_type is not supported.")
    if not isinstance(request.assertion, str) or not request.assertion:
        raise ExchangeRefusedError(400, "The assertion is missing.")
    try:
        return jwt.split_token(request.assertion)
    except jwt.MalformedTokenError as error:
        raise ExchangeRefusedError(401, f"The assertion is unparseable: {error}.") from error


def _signer(
    assertion: jwt.ParsedToken, accounts: Mapping[str, Account], now: datetime
) -> tuple[Account, AccountKey]:
    claims = assertion.claims
    client_id = _text(claims.get("sub"))
    account = accounts.get(client_id)
    if account is None or claims.get("iss") != client_id:
        raise ExchangeRefusedError(
            401, "The assertion's issuer and subject are no known service account."
        )
    key = account.keys.get(_text(claims.get("key")))
    if key is None or not key.is_known_at(now):
        raise ExchangeRefusedError(401, "The key is not known, or was deleted.")
    if not jwt.is_signed_by(assertion, read_public_key(key.public_pem)):
        raise ExchangeRefusedError(401, "The assertion's signature is not valid.")
    if not key.is_valid_at(now):
        raise ExchangeRefusedError(401, KEY_EXPIRED)
    return account, key


def _check_audience(claims: Mapping[str, Any], account: Account, own_uris: frozenset[str]) -> None:
    accepted = own_uris if account.token_uri is None else {account.token_uri}
    if _text(claims.get("aud")) not in accepted:
        raise ExchangeRefusedError(401, "The assertion's audience is not this token service.")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires = _number(claims.get("exp"))
    if expires is None:
        raise ExchangeRefusedError(401, "The assertion has no expiry.")
    if expires <= now:
        raise ExchangeRefusedError(401, "The assertion is expired.")
    if expires > now + LIFETIME_MAX + CLOCK_SKEW:
        raise ExchangeRefusedError(401, "The assertion's expiry is too far away.")
    if "nbf" in claims:
        starts = _number(claims["nbf"])
        if starts is None or starts > now + CLOCK_SKEW:
            raise ExchangeRefusedError(401, "The assertion is not valid yet.")


def _granted_roles(scope: tuple[str, ...] | None, account: Account) -> tuple[str, ...]:
    if scope is None:
        return account.role_ids
    if not set(scope) <= set(account.role_ids):
        raise ExchangeRefusedError(
            401, "A role in the scope is not assigned to the service account."
        )
    return scope


def _context(claims: Mapping[str, Any], account: Account) -> Context | None:
    ctx = claims.get("ctx")
    if isinstance(ctx, list):
        raise ExchangeRefusedError(400, "The assertion's ctx is neither a value nor an object.")
    blank = ctx is None or ctx == {} or (isinstance(ctx, str) and not ctx.strip())
    if blank and account.enforce_ctx:
        raise ExchangeRefusedError(400, "The service account demands a ctx claim.")
    return ctx


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
