"""``POST /v1/auth/sa/oauth/token``: the exchange over HTTP."""

import json

from skyflowctl.skyflow.emulator.exchange import (
    TOKEN_TYPE,
    exchange_token,
    log_failure,
)
from skyflowctl.skyflow.emulator.http_server import HttpReply
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.replies import json_reply, refusal_reply
from skyflowctl.skyflow.emulator.rules import ExchangeForm
from skyflowctl.skyflow.emulator.state import EmulatorState

ENDPOINT_PATH = "/v1/auth/sa/oauth/token"  # noqa: S105 - a path, no token


def token_reply(
    state: EmulatorState, own_uris: frozenset[str], raw: bytes, request_id: str
) -> HttpReply:
    """Answer one exchange. Its Authorization header does not matter: SDKs send bogus ones."""
    try:
        request = read_exchange(raw)
    except ExchangeRefusedError as refusal:
        state.counters.exchanges += 1
        state.counters.refused += 1
        log_failure(state, None, request_id, refusal.status, refusal.message)
        return refusal_reply(state.now(), request_id, refusal)
    return _exchange(state, own_uris, request, request_id)


def read_exchange(raw: bytes) -> ExchangeForm:
    """Return the form of an exchange.

    Raises:
        ExchangeRefusedError: 400, the body is no JSON object.
    """
    try:
        body = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ExchangeRefusedError(400, "The request body is no JSON.") from error
    if not isinstance(body, dict):
        raise ExchangeRefusedError(400, "The request body is no JSON object.")
    return ExchangeForm(body.get("grant_type"), body.get("assertion"), body.get("scope"))


def _exchange(
    state: EmulatorState, own_uris: frozenset[str], request: ExchangeForm, request_id: str
) -> HttpReply:
    try:
        token = exchange_token(state, request, own_uris, request_id)
    except ExchangeRefusedError as refusal:
        return refusal_reply(state.now(), request_id, refusal)
    answer = {"accessToken": token, "tokenType": TOKEN_TYPE}
    return json_reply(state.now(), request_id, answer)
