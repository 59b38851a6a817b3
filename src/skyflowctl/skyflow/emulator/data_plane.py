"""The emulator's data plane: insert, get and detokenize.

It is just large enough to prove that a token works, and for which role. A vault that was never
configured needs the role whose id equals the vault's, and makes up every value that was not
inserted. What is inserted stays in memory.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from skyflowctl.skyflow.emulator.accounts import GuardedVault
from skyflowctl.skyflow.emulator.data_tokens import DataTokenReader, check_context
from skyflowctl.skyflow.emulator.exchange import bearer_claims
from skyflowctl.skyflow.emulator.http_server import HttpRequest
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import EmulatorState

_BEARER = "bearer "
_OPERATIONS = frozenset({"detokenize", "query", "tokenize"})
_MOST_RECORDS = 25
"""The most records of one insert."""


def answer_data(
    state: EmulatorState, request: HttpRequest, vault_id: str, resource: str, ids: Sequence[str]
) -> dict[str, Any]:
    """Answer a request for ``/v1/vaults/{vault_id}/{resource}``.

    ``resource`` is a table to read (GET) or to insert into (POST), or ``detokenize``.

    Args:
        state: accounts, vaults and the key that tokens are checked with.
        request: only a bearer token counts as its Authorization.
        vault_id: the vault.
        resource: a table's name, or ``detokenize``.
        ids: the ids of the records to read.

    Raises:
        ExchangeRefusedError: 400 for the body, 401 for the token, 403 for its role or ctx, 404 for
            what is not there; for signed data tokens see :class:`DataTokenReader`.
    """
    state.counters.data_requests += 1
    configured = state.vaults.get(vault_id)
    vault = configured or GuardedVault(vault_id, role_id=vault_id)
    bearer = _authorise(state, request.headers.get("authorization", ""), vault)
    content = state.inserted.get(vault_id, vault)
    if request.method == "POST" and resource not in _OPERATIONS:
        return {"records": _insert(state, content, resource, _json(request.body))}
    made_up = configured is None
    if request.method == "GET":
        return {"records": [_record(content, resource, each, made_up) for each in ids]}
    if (request.method, resource) == ("POST", "detokenize"):
        reader = DataTokenReader(state.accounts, vault, bearer, state.now())
        tokens = [reader.read(one) for one in _data_tokens(_json(request.body))]
        return {"records": [_value(content, token, made_up) for token in tokens]}
    raise ExchangeRefusedError(404, "The emulator has no such data operation.")


def _authorise(state: EmulatorState, authorization: str, vault: GuardedVault) -> Mapping[str, Any]:
    """Return the claims of a bearer token that may read the vault."""
    if not authorization.lower().startswith(_BEARER):
        raise ExchangeRefusedError(401, "Authentication failed. The bearer token is missing.")
    claims = bearer_claims(state, authorization[len(_BEARER) :].strip())
    if vault.role_id not in claims["roles"]:
        raise ExchangeRefusedError(
            403, "The token's roles do not permit this operation on this vault."
        )
    check_context(vault, claims.get("ctx"))
    return claims


def _insert(
    state: EmulatorState, content: GuardedVault, table: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    """Keep the records, and answer their ids and, if asked for, a token for each value."""
    given = body.get("records")
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_RECORDS:
        raise ExchangeRefusedError(400, f"The body needs 1 to {_MOST_RECORDS} records.")
    rows = dict(content.records.get(table, {}))
    tokens = dict(content.tokens)
    answered: list[dict[str, Any]] = []
    for one in given:
        fields = one.get("fields") if isinstance(one, dict) else None
        if not isinstance(fields, dict) or not fields:
            raise ExchangeRefusedError(400, "A record needs fields.")
        record_id = str(uuid.uuid4())
        rows[record_id] = fields
        answer: dict[str, Any] = {"skyflow_id": record_id}
        if body.get("tokenization"):
            answer["tokens"] = {name: str(uuid.uuid4()) for name in fields}
            tokens |= {answer["tokens"][name]: str(value) for name, value in fields.items()}
        answered.append(answer)
    records = {**content.records, table: rows}
    state.inserted[content.vault_id] = replace(content, records=records, tokens=tokens)
    return answered


def _record(vault: GuardedVault, table: str, record_id: str, made_up: bool) -> dict[str, Any]:
    fields = vault.records.get(table, {}).get(record_id)
    if fields is None and not made_up:
        raise ExchangeRefusedError(404, "No Records Found")
    return {"fields": {"skyflow_id": record_id, **(fields or {})}}


def _value(vault: GuardedVault, token: str, made_up: bool) -> dict[str, Any]:
    value = vault.tokens.get(token)
    if value is None and not made_up:
        raise ExchangeRefusedError(404, "Tokens not found")
    shown = f"value of {token}" if value is None else value
    return {"token": token, "valueType": "STRING", "value": shown, "error": None}


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise ExchangeRefusedError(400, "The request body is no JSON.") from error
    if not isinstance(found, dict):
        raise ExchangeRefusedError(400, "The request body is no JSON object.")
    return found


def _data_tokens(body: dict[str, Any]) -> list[str]:
    try:
        tokens = [item["token"] for item in body["detokenizationParameters"]]
    except (KeyError, TypeError) as error:
        raise ExchangeRefusedError(
            400, "The body needs detokenizationParameters with tokens."
        ) from error
    if not all(isinstance(token, str) for token in tokens):
        raise ExchangeRefusedError(400, "A data token must be a string.")
    return tokens
