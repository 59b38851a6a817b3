"""Skyflow's Management API, as far as the keys of service accounts go.

``/v1/serviceAccounts/{ID}/keys``: create, list, read and delete, as in Skyflow's public
API document ("Management API 2026.04"). Strict: an operator's bearer token and the
account's id are demanded of every call.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.emulator.accounts import Account, AccountKey
from skyflowctl.skyflow.emulator.fields import Fields
from skyflowctl.skyflow.emulator.http_server import HttpReply, HttpRequest
from skyflowctl.skyflow.emulator.issuing import KEY_ALGORITHM, KeyIssuer
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.replies import json_reply, refusal_reply
from skyflowctl.skyflow.emulator.state import EmulatorState, ManagementRecord

ACCOUNT_HEADER = "x-skyflow-account-id"

UrlQuery = Mapping[str, Sequence[str]]


class KeyOperation(StrEnum):
    """What a call does with the keys of an account."""

    CREATE_KEY = "create_key"
    LIST_KEYS = "list_keys"
    GET_KEY = "get_key"
    DELETE_KEY = "delete_key"


@dataclass(frozen=True, slots=True)
class _Call:
    """One call: what it asks for, and of which account and key."""

    operation: KeyOperation | None
    client_id: str
    key_id: str
    request: HttpRequest
    query: UrlQuery
    request_id: str


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of a call: its reply, and what the log says of it."""

    reply: HttpReply
    key_id: str = ""
    applied: bool = False
    message: str = ""


class ManagementEndpoint:
    """Answers calls to the Management API.

    Args:
        state: accounts, the operator's token, log.
        issuer: makes keys.
        save: called after every change that must outlive a restart.
    """

    def __init__(
        self, state: EmulatorState, issuer: KeyIssuer, save: Callable[[EmulatorState], None]
    ) -> None:
        self._state = state
        self._issuer = issuer
        self._save = save

    async def answer(
        self, request: HttpRequest, path: Sequence[str], query: UrlQuery, request_id: str
    ) -> HttpReply:
        """Answer one call; ``path``: the part after ``/v1/serviceAccounts/``."""
        call = _read(request, path, query, request_id)
        self._state.counters.management_requests += 1
        done = await self._carry_out(call)
        self._log(call, done)
        return done.reply

    async def _carry_out(self, call: _Call) -> _Done:
        try:
            self._admit(call.request)
            key_id, body = await self._dispatch(call)
        except ExchangeRefusedError as refusal:
            reply = refusal_reply(self._state.now(), call.request_id, refusal)
            return _Done(reply, message=refusal.message)
        reply = json_reply(self._state.now(), call.request_id, body)
        return _Done(reply, key_id, applied=True)

    def _admit(self, request: HttpRequest) -> None:
        """Demand the operator's token and account.

        Which statuses Skyflow has here is known for the token alone (401).
        """
        token = self._state.operator_token
        given = request.headers.get("authorization", "").encode("latin-1")
        if not token or not hmac.compare_digest(given, f"Bearer {token.reveal()}".encode()):
            raise ExchangeRefusedError(401, "Authentication failed. The bearer token is not valid.")
        account_id = request.headers.get(ACCOUNT_HEADER, "")
        if not account_id:
            raise ExchangeRefusedError(400, "The header X-SKYFLOW-ACCOUNT-ID is missing.")
        if account_id != self._state.account_id:
            raise ExchangeRefusedError(403, "The bearer token has no permission in this account.")

    async def _dispatch(self, call: _Call) -> tuple[str, dict[str, Any]]:
        match call.operation:
            case KeyOperation.CREATE_KEY:
                return await self._create(call)
            case KeyOperation.LIST_KEYS:
                return "", self._list(call)
            case KeyOperation.GET_KEY:
                return call.key_id, self._get(call)
            case KeyOperation.DELETE_KEY:
                return call.key_id, self._delete(call)
            case _:
                raise ExchangeRefusedError(
                    404, "There is no such path, or it takes another method."
                )

    async def _create(self, call: _Call) -> tuple[str, dict[str, Any]]:
        Fields.parse(call.request.body).done()
        valid_after, valid_before = self._issuer.one_year()
        credentials = await self._issuer.issue(
            call.client_id,
            valid_after=valid_after,
            valid_before=valid_before,
            delay=self._state.key_delay,
        )
        return credentials["keyID"], credentials

    def _list(self, call: _Call) -> dict[str, Any]:
        if set(call.query.get("keyTypes", ())) - {"USER_MANAGED"}:
            raise ExchangeRefusedError(400, "The only keyTypes is USER_MANAGED.")
        return {"keys": [_shown(key) for key in self._account(call).keys.values()]}

    def _get(self, call: _Call) -> dict[str, Any]:
        if set(call.query.get("publicKeyType", ())) - {"TYPE_X509_PEM_FILE"}:
            raise ExchangeRefusedError(400, "The only publicKeyType is TYPE_X509_PEM_FILE.")
        key = self._account(call).keys.get(call.key_id)
        if key is None:
            raise ExchangeRefusedError(404, "The account has no such key.")
        return {**_shown(key), "publicKeyData": key.public_pem}

    def _delete(self, call: _Call) -> dict[str, Any]:
        self._account(call)
        try:
            self._state.delete_key(call.client_id, call.key_id)
        except KeyError as error:
            raise ExchangeRefusedError(404, "The account has no such key.") from error
        self._save(self._state)
        return {"ID": call.client_id, "keyID": call.key_id}

    def _account(self, call: _Call) -> Account:
        account = self._state.accounts.get(call.client_id)
        if account is None:
            raise ExchangeRefusedError(404, "There is no such account.")
        return account

    def _log(self, call: _Call, done: _Done) -> None:
        self._state.management_log.append(
            ManagementRecord(
                time=self._state.now(),
                operation=str(call.operation or ""),
                client_id=call.client_id,
                key_id=done.key_id or call.key_id,
                applied=done.applied,
                status=done.reply.status,
                message=done.message,
                request_id=call.request_id,
            )
        )


def _read(request: HttpRequest, path: Sequence[str], query: UrlQuery, request_id: str) -> _Call:
    operation: KeyOperation | None = None
    client_id = key_id = ""
    match (request.method, *path):
        case ("POST", client_id, "keys"):
            operation = KeyOperation.CREATE_KEY
        case ("GET", client_id, "keys"):
            operation = KeyOperation.LIST_KEYS
        case ("GET", client_id, "keys", key_id):
            operation = KeyOperation.GET_KEY
        case ("DELETE", client_id, "keys", key_id):
            operation = KeyOperation.DELETE_KEY
    return _Call(operation, client_id, key_id, request, query, request_id)


def _shown(key: AccountKey) -> dict[str, Any]:
    shown = {"keyID": key.key_id, "keyAlgorithm": KEY_ALGORITHM}
    if key.valid_after is not None:
        shown["validAfterTime"] = rfc3339(key.valid_after)
    if key.valid_before is not None:
        shown["validBeforeTime"] = rfc3339(key.valid_before)
    return shown
