"""One exchange from request to token: rules, token, log. Shared by both front doors."""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.emulator import jwt
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.rules import ExchangeForm, Grant, check_exchange, claimed_ids
from skyflowctl.skyflow.emulator.state import EmulatorState, ExchangeRecord

TOKEN_ISSUER = "skyflow-emulator"  # noqa: S105 - who issues tokens, no token
TOKEN_TYPE = "Bearer"  # noqa: S105 - the name of a type, no token
BEARER_EXPIRED = (
    "Authentication failed. Bearer token is expired. Use a valid bearer token. "
    "See https://docs.skyflow.com/api-authentication/"
)


@dataclass(frozen=True, slots=True)
class _Issued:
    text: str
    jti: str


def new_request_id() -> str:
    """Return a fresh id for the ``x-request-id`` header."""
    return secrets.token_hex(16)


def exchange_token(
    state: EmulatorState, request: ExchangeForm, own_uris: frozenset[str], request_id: str
) -> str:
    """Return a bearer token for the assertion, and log the exchange either way.

    Raises:
        HttpError: the rules refuse it.
    """
    state.counters.exchanges += 1
    try:
        grant = check_exchange(request, state.accounts, own_uris, state.now())
    except ExchangeRefusedError as refusal:
        state.counters.refused += 1
        log_failure(state, request.assertion, request_id, refusal.status, refusal.message)
        raise
    issued = _issue(state, grant)
    state.counters.granted += 1
    state.log.append(_success(state, grant, issued, request_id))
    return issued.text


def log_failure(
    state: EmulatorState, assertion: object, request_id: str, status: int, message: str
) -> None:
    """Log an exchange that yielded no token; status 0 means that nothing was answered."""
    client_id, key_id = claimed_ids(assertion)
    state.log.append(
        ExchangeRecord(
            time=state.now(),
            client_id=client_id,
            key_id=key_id,
            role_ids=(),
            ctx=None,
            jti="",
            token_sha256="",
            status=status,
            message=message,
            request_id=request_id,
        )
    )


def _success(
    state: EmulatorState, grant: Grant, issued: _Issued, request_id: str
) -> ExchangeRecord:
    return ExchangeRecord(
        time=state.now(),
        client_id=grant.client_id,
        key_id=grant.key_id,
        role_ids=grant.role_ids,
        ctx=grant.ctx,
        jti=issued.jti,
        token_sha256=hashlib.sha256(issued.text.encode()).hexdigest(),
        status=200,
        message="",
        request_id=request_id,
    )


def _issue(state: EmulatorState, grant: Grant) -> _Issued:
    now = int(state.now().timestamp())
    jti = secrets.token_hex(16)
    claims: dict[str, Any] = {
        "iss": TOKEN_ISSUER,
        "sub": grant.client_id,
        "iat": now,
        "exp": now + state.token_lifetime,
        "jti": jti,
        "key": grant.key_id,
        "roles": list(grant.role_ids),
    }
    if grant.ctx is not None:
        claims["ctx"] = grant.ctx
    return _Issued(jwt.sign_claims(claims, state.signing_key), jti)


def bearer_claims(state: EmulatorState, token: str) -> Mapping[str, Any]:
    """Return the claims of a bearer token that this emulator issued.

    Raises:
        HttpError: 401, the token is not of this emulator, or expired.
    """
    try:
        parsed = jwt.split_token(token)
    except jwt.MalformedTokenError as error:
        raise ExchangeRefusedError(
            401, "Authentication failed. The bearer token is unparseable."
        ) from error
    if not jwt.is_signed_by(parsed, state.signing_key.public_key()):
        raise ExchangeRefusedError(401, "Authentication failed. The bearer token is not valid.")
    if parsed.claims["exp"] <= state.now().timestamp():
        raise ExchangeRefusedError(401, BEARER_EXPIRED)
    return parsed.claims
