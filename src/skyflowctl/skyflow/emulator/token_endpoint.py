"""``POST /v1/auth/sa/oauth/token``: the exchange over HTTP, faults included."""

import json

from skyflowctl.skyflow.emulator.exchange import (
    TOKEN_TYPE,
    begin_exchange,
    exchange_token,
    log_failure,
)
from skyflowctl.skyflow.emulator.fault_replies import false_reply, is_only_late, late_reply
from skyflowctl.skyflow.emulator.faults import Fault
from skyflowctl.skyflow.emulator.http_server import Delivery, HttpReply
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
        request = _read(raw)
    except ExchangeRefusedError as refusal:
        begin_exchange(state, None)
        state.counters.refused += 1
        log_failure(state, None, request_id, refusal.status, refusal.message)
        return refusal_reply(state.now(), request_id, refusal)
    fault = begin_exchange(state, request.assertion)
    if fault is None:
        return _honest(state, own_uris, request, request_id)
    if is_only_late(fault):
        return late_reply(fault, _honest(state, own_uris, request, request_id))
    return _faulty(state, fault, request, request_id)


def _read(raw: bytes) -> ExchangeForm:
    try:
        body = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ExchangeRefusedError(400, "The request body is no JSON.") from error
    if not isinstance(body, dict):
        raise ExchangeRefusedError(400, "The request body is no JSON object.")
    return ExchangeForm(body.get("grant_type"), body.get("assertion"), body.get("scope"))


def _honest(
    state: EmulatorState, own_uris: frozenset[str], request: ExchangeForm, request_id: str
) -> HttpReply:
    try:
        token = exchange_token(state, request, own_uris, request_id)
    except ExchangeRefusedError as refusal:
        return refusal_reply(state.now(), request_id, refusal)
    answer = {"accessToken": token, "tokenType": TOKEN_TYPE}
    return json_reply(state.now(), request_id, answer)


def _faulty(
    state: EmulatorState, fault: Fault, request: ExchangeForm, request_id: str
) -> HttpReply:
    reply = false_reply(state, fault, request_id)
    answered = reply.delivery is Delivery.WHOLE
    log_failure(state, request.assertion, request_id, reply.status if answered else 0, fault.kind)
    return reply
