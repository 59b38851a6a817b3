"""The emulator's answer to a request: its token endpoint, data plane, management or control."""

import hmac
import json
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, unquote, urlsplit

from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.control import ControlApi
from skyflowctl.skyflow.emulator.data_plane import answer_data
from skyflowctl.skyflow.emulator.exchange import (
    TOKEN_TYPE,
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
from skyflowctl.telemetry.spans import SpanKind, Tracer

CONTROL_PREFIX = "_emu"
_VAULT_HOST_SUFFIX = ".vault.skyflowapis.com"
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
        tracer: records a span for each exchange; None: nothing is recorded.
    """

    state: EmulatorState
    control: ControlApi
    control_token: Secret
    management: ManagementEndpoint
    own_uris: frozenset[str]
    tracer: Tracer | None = None

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
            return self._traced_token(request, request_id)
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
                ids = parse_qs(url.query).get("skyflow_ids", ())
                body = answer_data(self._app.state, request, vault_id, resource, ids)
            case _:
                return json_reply(self._app.state.now(), request_id, {}, 404)
        return json_reply(self._app.state.now(), request_id, body)

    def _traced_token(self, request: HttpRequest, request_id: str) -> HttpReply:
        """Answer in a span that continues the caller's trace; a refusal makes it a failed one."""
        if self._app.tracer is None:
            return self._token(request, request_id)
        caller = request.headers.get("traceparent")
        name = f"POST {ENDPOINT_PATH}"
        with self._app.tracer.span(name, SpanKind.SERVER, caller) as span:
            span.set("skyflow.token_service.request_id", request_id)
            try:
                reply = self._token(request, request_id)
            except ExchangeRefusedError as refusal:
                span.set("http.response.status_code", refusal.status)
                raise
            span.set("http.response.status_code", reply.status)
            return reply

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
