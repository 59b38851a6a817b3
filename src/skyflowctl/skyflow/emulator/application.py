"""The emulator's answer to a request: its token endpoint, data plane, management or control."""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.accounts import GuardedVault
from skyflowctl.skyflow.emulator.control import ControlApi
from skyflowctl.skyflow.emulator.exchange import (
    TOKEN_TYPE,
    bearer_claims,
    exchange_token,
    log_failure,
    new_request_id,
)
from skyflowctl.skyflow.emulator.http_server import HttpReply, HttpRequest
from skyflowctl.skyflow.emulator.management import ManagementEndpoint
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.replies import json_reply, refusal_reply
from skyflowctl.skyflow.emulator.rules import ExchangeForm
from skyflowctl.skyflow.emulator.state import EmulatorState

CONTROL_PREFIX = "_emu"
_VAULT_HOST_SUFFIX = ".vault.skyflowapis.com"
_BEARER = "bearer "
ENDPOINT_PATH = "/v1/auth/sa/oauth/token"  # noqa: S105 - a path, no token


@dataclass(frozen=True, slots=True)
class Application:
    """The emulator without its HTTP server.

    Args:
        state: accounts, keys, settings, log.
        control: the control API.
        control_token: what opens it.
        management: the Management API.
        own_uris: the token URIs under which this server is reached.
    """

    state: EmulatorState
    control: ControlApi
    control_token: Secret
    management: ManagementEndpoint
    own_uris: frozenset[str]

    def open_session(self) -> Callable[[HttpRequest], Awaitable[HttpReply]]:
        """Return what answers the requests of one new connection."""
        self.state.counters.connections += 1
        return _Session(self).answer

    def exchange(self, request: HttpRequest, request_id: str) -> HttpReply:
        """Answer one request for a token."""
        return token_reply(self.state, self.own_uris, request.body, request_id)


class _Session:
    """One connection: knows whether an exchange was asked for on it before."""

    def __init__(self, application: Application) -> None:
        self._app = application
        self._exchanged = False

    async def answer(self, request: HttpRequest) -> HttpReply:
        request_id = new_request_id()
        try:
            return await self._route(request, request_id)
        except ExchangeRefusedError as refusal:
            return refusal_reply(self._app.state.now(), request_id, refusal)

    async def _route(self, request: HttpRequest, request_id: str) -> HttpReply:
        if request.target == ENDPOINT_PATH:
            return self._token(request, request_id)
        url = urlsplit(request.target)
        segments = _segments(url.path)
        match segments:
            case [prefix, *rest] if prefix == CONTROL_PREFIX:
                self._demand_control_token(request)
                body = await self._app.control.answer(request.method, rest, request.body)
            case ["v1", "serviceAccounts", *rest]:
                query = parse_qs(url.query)
                return await self._app.management.answer(request, rest, query, request_id)
            case ["v1", "vaults", vault_id, resource]:
                body = read_vault(
                    self._app.state,
                    request.method,
                    vault_id,
                    resource,
                    authorization=request.headers.get("authorization", ""),
                    query=parse_qs(url.query),
                    body=request.body,
                )
            case _:
                return json_reply(self._app.state.now(), request_id, {}, 404)
        return json_reply(self._app.state.now(), request_id, body)

    def _token(self, request: HttpRequest, request_id: str) -> HttpReply:
        if request.method != "POST":
            raise ExchangeRefusedError(405, "The token endpoint takes POST.")
        if not self._exchanged:
            self._exchanged = True
            self._app.state.counters.token_connections += 1
        return self._app.exchange(request, request_id)

    def _demand_control_token(self, request: HttpRequest) -> None:
        expected = f"Bearer {self._app.control_token.reveal()}"
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("latin-1"), expected.encode()):
            raise ExchangeRefusedError(401, "The control API needs its token.")


def _segments(path: str) -> list[str]:
    """Split a path; a first segment that names a vault host is dropped.

    The vendor SDK builds its vault address as ``https://{cluster_id}.vault.skyflowapis.com``.
    With ``cluster_id="127.0.0.1:PORT/x"`` the host becomes the emulator's, and that
    ending the first segment of the path.
    """
    segments = [unquote(segment) for segment in path.split("/") if segment]
    if segments and segments[0].endswith(_VAULT_HOST_SUFFIX):
        del segments[0]
    return segments


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

    This data plane is just large enough to prove that a token works, and for which role. A vault
    that was never configured needs the role whose id equals the vault's, and makes up every value.

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
