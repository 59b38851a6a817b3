"""A data plane just large enough to prove that a token works, and for which role.

``get`` and ``detokenize`` of the vault API. A vault that was never configured needs the
role whose id equals the vault's and makes up a value for whatever is asked; a configured
one knows its role and holds what it was given.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.skyflow.emulator.accounts import GuardedVault
from skyflowctl.skyflow.emulator.exchange import bearer_claims
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import EmulatorState

_BEARER = "bearer "


def read_vault(
    state: EmulatorState,
    method: str,
    vault_id: str,
    resource: str,
    *,
    authorization: str,
    query: Mapping[str, Sequence[str]],
    body: bytes,
) -> dict[str, Any]:
    """Answer ``GET /v1/vaults/{vault_id}/{table}`` or ``POST .../detokenize``.

    Args:
        state: accounts, vaults and the key that tokens are checked with.
        method: the HTTP method.
        vault_id: the vault.
        resource: a table's name, or ``detokenize``.
        authorization: the Authorization header; only a bearer token counts.
        query: the query parameters, each with all its values.
        body: the request's body.

    Raises:
        HttpError: 401 for the token, 403 for its role, 404 for what is not there.
    """
    state.counters.data_requests += 1
    configured = state.vaults.get(vault_id)
    vault = configured or GuardedVault(vault_id, role_id=vault_id)
    _authorise(state, authorization, vault)
    made_up = configured is None
    if method == "GET":
        ids = query.get("skyflow_ids", ())
        return {"records": [_record(vault, resource, each, made_up) for each in ids]}
    if method == "POST" and resource == "detokenize":
        return {"records": [_value(vault, token, made_up) for token in _data_tokens(body)]}
    raise ExchangeRefusedError(404, "The emulator has no such data operation.")


def _authorise(state: EmulatorState, authorization: str, vault: GuardedVault) -> None:
    if not authorization.lower().startswith(_BEARER):
        raise ExchangeRefusedError(401, "Authentication failed. The bearer token is missing.")
    claims = bearer_claims(state, authorization[len(_BEARER) :].strip())
    if vault.role_id not in claims["roles"]:
        raise ExchangeRefusedError(
            403, "The token's roles do not permit this operation on this vault."
        )


def _record(vault: GuardedVault, table: str, record_id: str, made_up: bool) -> dict[str, Any]:
    if made_up:
        return {"fields": {"skyflow_id": record_id}}
    fields = vault.records.get(table, {}).get(record_id)
    if fields is None:
        raise ExchangeRefusedError(404, "No Records Found")
    return {"fields": {"skyflow_id": record_id, **fields}}


def _value(vault: GuardedVault, token: str, made_up: bool) -> dict[str, Any]:
    value = f"value of {token}" if made_up else vault.tokens.get(token)
    if value is None:
        raise ExchangeRefusedError(404, "Tokens not found")
    return {"token": token, "valueType": "STRING", "value": value, "error": None}


def _data_tokens(body: bytes) -> list[str]:
    try:
        items = json.loads(body.decode())["detokenizationParameters"]
        tokens = [item["token"] for item in items]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExchangeRefusedError(
            400, "The body needs detokenizationParameters with tokens."
        ) from error
    if not all(isinstance(token, str) for token in tokens):
        raise ExchangeRefusedError(400, "A data token must be a string.")
    return tokens
