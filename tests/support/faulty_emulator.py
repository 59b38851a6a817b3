"""The emulator with faults on request: what exchanges and calls meet instead of an answer.

``python -m support.faulty_emulator`` takes the arguments of the emulator itself. Faults are
queued through its control API (:class:`FaultyEmulatorControl`), or in the state's ``faults``
where the token service is :class:`FaultyTokenService`, without sockets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from skyflowctl.devstack.emulator_client import EmulatorControl, _validity
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import __main__ as emulator_main
from skyflowctl.skyflow.emulator.application import Application, read_exchange
from skyflowctl.skyflow.emulator.control import ControlApi
from skyflowctl.skyflow.emulator.exchange import log_failure, new_request_id
from skyflowctl.skyflow.emulator.fields import Fields
from skyflowctl.skyflow.emulator.http_server import ClientConnection, HttpReply, HttpRequest
from skyflowctl.skyflow.emulator.in_process import InProcessTokenService
from skyflowctl.skyflow.emulator.management import ManagementEndpoint, _Call, _Done
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError, error_body
from skyflowctl.skyflow.emulator.replies import headers, json_reply
from skyflowctl.skyflow.emulator.rules import claimed_ids
from skyflowctl.skyflow.emulator.server import (
    ServerSettings,
    StateFolder,
    assemble_application,
    serve,
)
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.http.answers import one_line, redirect_reason
from skyflowctl.skyflow.token_service import (
    NO_TOKEN,
    Exchange,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)

HTML_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Proxy</body></html>"

_LONGEST_WAIT = 3_600


class FaultKind(StrEnum):
    """What happens to an exchange."""

    STATUS = "status"
    """An error with ``status``, ``message`` and ``headers`` (429, 500, a redirect)."""

    HANG = "hang"
    """No answer; the connection stays open until the caller gives up."""

    DRIP = "drip"
    """The honest answer, one byte every ``seconds``."""

    DELAY = "delay"
    """The honest answer, whole, after ``seconds``."""

    HTML = "html"
    """Status 200 with a web page, as proxies and login portals send it."""

    EMPTY = "empty"
    """Status 200 with ``{}``."""

    RESET = "reset"
    """The connection is reset without an answer."""


class FaultTarget(StrEnum):
    """What a fault hits: exchanges, every management call, or one kind of them."""

    EXCHANGE = "exchange"
    MANAGEMENT = "management"
    CREATE_KEY = "create_key"
    LIST_KEYS = "list_keys"
    GET_KEY = "get_key"
    DELETE_KEY = "delete_key"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and for how many exchanges or calls it lasts.

    Args:
        kind: what happens.
        count: for how many exchanges; 0: until the faults are cleared.
        status: the HTTP status of ``STATUS``.
        message: the message of ``STATUS``.
        headers: further reply headers of ``STATUS`` (``retry-after``, ``location``).
        seconds: the wait of ``DELAY``, or between two bytes of ``DRIP``; with the
            other kinds a wait before the fault.
        client_id: hits only what concerns this account; empty: everybody's.
        target: what it hits.
        applied: the call is carried out, and its answer lost; management calls only.
    """

    kind: FaultKind
    count: int = 1
    status: int = 500
    message: str = "fault injected"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    client_id: str = ""
    target: FaultTarget = FaultTarget.EXCHANGE
    applied: bool = False

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 <= self.seconds <= _LONGEST_WAIT:
            raise ValueError("count must not be negative, seconds must be 0 to 3600")
        if not 300 <= self.status <= 599:
            raise ValueError("status must be 300 to 599")
        if self.applied and self.target is FaultTarget.EXCHANGE:
            raise ValueError("only a management call can be applied and its answer lost")

    def hits(self, client_id: str, target: FaultTarget) -> bool:
        """Say whether it hits this: an exchange, or a management call of one kind."""
        is_call = target is not FaultTarget.EXCHANGE
        meant = self.target is target or (is_call and self.target is FaultTarget.MANAGEMENT)
        return meant and self.client_id in ("", client_id)

    def to_json(self) -> dict[str, Any]:
        """Return the fault as the control API writes it."""
        return asdict(self)


class FaultQueue:
    """The faults to come, first in first out per account."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.met = 0

    def add(self, fault: Fault) -> None:
        """Append a fault to the queue."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Drop every fault; the next exchange is honest."""
        self._faults.clear()

    def pending(self) -> tuple[Fault, ...]:
        """Return what is queued, each with the count that is left."""
        return tuple(self._faults)

    def take(self, client_id: str, target: FaultTarget = FaultTarget.EXCHANGE) -> Fault | None:
        """Return the fault that hits this account's exchange or call now, and count it."""
        for index, fault in enumerate(self._faults):
            if fault.hits(client_id, target):
                self._consume(index)
                return fault
        return None

    def _consume(self, index: int) -> None:
        self.met += 1
        fault = self._faults[index]
        if fault.count == 1:
            del self._faults[index]
        elif fault.count > 1:
            self._faults[index] = replace(fault, count=fault.count - 1)


# Over HTTP ------------------------------------------------------------------------------

_DRIP_SECONDS = 0.1
_READ_SIZE = 65_536
_LATE = frozenset({FaultKind.DELAY, FaultKind.DRIP})
_WITHHELD = frozenset({FaultKind.HANG, FaultKind.RESET})


@dataclass(frozen=True, slots=True)
class FaultyReply(HttpReply):
    """A reply that leaves late, byte by byte, or not at all (its status is then 0).

    Args:
        fault: what it meets.
        seconds: the wait before it leaves; of ``DRIP`` the wait after each byte.
    """

    fault: FaultKind = FaultKind.DELAY
    seconds: float = 0.0

    async def send(self, connection: ClientConnection) -> bool:
        if self.fault is FaultKind.DRIP:
            for byte in connection.encode(self):
                connection.writer.write(bytes([byte]))
                await connection.writer.drain()
                await asyncio.sleep(self.seconds)
            return True
        await asyncio.sleep(self.seconds)
        if self.fault not in _WITHHELD:
            # slots=True makes a new class, in which super() without arguments is lost.
            return await HttpReply.send(self, connection)
        if self.fault is FaultKind.HANG:
            while await connection.reader.read(_READ_SIZE):
                pass
        else:
            # Lingering for zero seconds makes the close a reset (RST) instead of an end (FIN).
            linger = struct.pack("ii", 1, 0)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.writer.transport.abort()
        return False


def late_reply(fault: Fault, reply: HttpReply) -> HttpReply:
    """An honest reply as a fault of that kind delivers it."""
    seconds = fault.seconds
    if fault.kind is FaultKind.DRIP:
        seconds = seconds or _DRIP_SECONDS
    return FaultyReply(reply.status, reply.body, reply.headers, fault.kind, seconds)


def false_reply(state: EmulatorState, fault: Fault, request_id: str) -> HttpReply:
    """What is sent, or withheld, instead of an honest reply."""
    made = _false_reply(state, fault, request_id)
    return FaultyReply(made.status, made.body, made.headers, fault.kind, fault.seconds)


def _false_reply(state: EmulatorState, fault: Fault, request_id: str) -> HttpReply:
    if fault.kind in _WITHHELD:
        return HttpReply(0)
    if fault.kind is FaultKind.EMPTY:
        return json_reply(state.now(), request_id, {})
    if fault.kind is FaultKind.HTML:
        page = headers(state.now(), request_id, "text/html; charset=utf-8")
        return HttpReply(200, HTML_PAGE.encode(), page)
    body = error_body(fault.status, fault.message)
    reply = json_reply(state.now(), request_id, body, fault.status)
    extra = {name.lower(): value for name, value in fault.headers.items()}
    return replace(reply, headers={**reply.headers, **extra})


class FaultyApplication(Application):
    """The emulator whose exchanges meet the faults in its state."""

    def exchange(self, request: HttpRequest, request_id: str) -> HttpReply:
        honest = super().exchange
        try:
            assertion = read_exchange(request.body).assertion
        except ExchangeRefusedError:
            return honest(request, request_id)
        fault = self.state.faults.take(claimed_ids(assertion)[0])
        if fault is None:
            return honest(request, request_id)
        if fault.kind in _LATE:
            return late_reply(fault, honest(request, request_id))
        self.state.counters.exchanges += 1
        reply = false_reply(self.state, fault, request_id)
        log_failure(self.state, assertion, request_id, reply.status, fault.kind)
        return reply


class FaultyManagement(ManagementEndpoint):
    """The Management API whose calls meet the faults in its state."""

    async def _carry_out(self, call: _Call) -> _Done:
        fault = None
        if call.operation is not None:
            target = FaultTarget(call.operation)
            fault = self._state.faults.take(call.client_id, target)
        if fault is None:
            return await super()._carry_out(call)
        if fault.kind in _LATE:
            done = await super()._carry_out(call)
            return replace(done, reply=late_reply(fault, done.reply))
        done = await super()._carry_out(call) if fault.applied else _Done(HttpReply(0))
        reply = false_reply(self._state, fault, call.request_id)
        return replace(done, reply=reply, message=str(fault.kind))


class FaultyControl(ControlApi):
    """The control API with the queue of faults."""

    async def answer(self, method: str, path: list[str], body: bytes) -> dict[str, Any]:
        faults: FaultQueue = self._state.faults
        if path == ["faults"] and method == "POST":
            faults.add(_read_fault(Fields.parse(body)))
            return {}
        if path == ["faults"] and method == "DELETE":
            faults.clear()
            return {}
        answer = await super().answer(method, path, body)
        if path == ["state"]:
            answer["faults"] = [fault.to_json() for fault in faults.pending()]
        elif path == ["counters"] and method == "DELETE":
            faults.met = 0
        elif path == ["counters"]:
            answer["faults"] = faults.met
        return answer


def _read_fault(fields: Fields) -> Fault:
    try:
        fault = Fault(
            kind=FaultKind(fields.text("kind")),
            count=fields.whole("count", 1),
            status=fields.whole("status", 500),
            message=fields.text("message", "fault injected"),
            headers=fields.text_mapping("headers"),
            seconds=fields.number("seconds", 0.0),
            client_id=fields.text("client_id"),
            target=FaultTarget(fields.text("target", FaultTarget.EXCHANGE)),
            applied=fields.flag("applied"),
        )
    except ValueError as error:
        raise ExchangeRefusedError(400, f"No such fault: {error}.") from error
    fields.done()
    return fault


class FaultyEmulatorControl(EmulatorControl):
    """The whole control API, for an emulator that takes faults."""

    def delete_account(self, client_id: str) -> None:
        """Forget an account and its keys."""
        self._call("DELETE", ("accounts", client_id))

    def register_key(
        self,
        client_id: str,
        key_id: str,
        public_key: str,
        *,
        valid_after: datetime | None = None,
        valid_before: datetime | None = None,
    ) -> None:
        """Register a public key (PEM) under an id; one of the same id is replaced."""
        body = {
            "key_id": key_id,
            "public_key": public_key,
            **_validity(valid_after, valid_before),
        }
        self._call("POST", ("accounts", client_id, "keys"), body)

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Forget a key: what it signs is refused from now on."""
        self._call("DELETE", ("accounts", client_id, "keys", key_id))

    def configure(self, client_id: str, **enforced: bool) -> dict[str, Any]:
        """Change what an account enforces, with the names of the Management API."""
        return self._call("PUT", ("accounts", client_id, "client_configuration"), enforced)

    def put_vault(
        self,
        vault_id: str,
        role_id: str,
        *,
        records: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
        tokens: Mapping[str, str] | None = None,
        context_rules: Mapping[str, str] | None = None,
    ) -> None:
        """Guard a vault by a role; see :class:`~.accounts.GuardedVault` for its content."""
        body = {"role_id": role_id, "records": records or {}, "tokens": tokens or {}}
        body |= {"context_rules": context_rules} if context_rules else {}
        self._call("PUT", ("vaults", vault_id), body)

    def delete_vault(self, vault_id: str) -> None:
        """Forget a vault; the rule for unknown vaults applies again."""
        self._call("DELETE", ("vaults", vault_id))

    def set_token_lifetime(self, seconds: int) -> None:
        """Set how long the tokens live that are issued from now on."""
        self._call("PUT", ("settings",), {"token_lifetime": seconds})

    def set_clock_offset(self, seconds: float) -> None:
        """Move the emulator's clock away from the machine's."""
        self._call("PUT", ("settings",), {"clock_offset": seconds})

    def log(self) -> list[dict[str, Any]]:
        """Return the exchanges since the start or the last reset, oldest first."""
        exchanges: list[dict[str, Any]] = self._call("GET", ("log",))["exchanges"]
        return exchanges

    def reset_log(self) -> None:
        """Empty the log."""
        self._call("DELETE", ("log",))

    def reset_counters(self) -> None:
        """Set every counter to zero."""
        self._call("DELETE", ("counters",))

    def set_management(
        self,
        *,
        operator_token: Secret | None = None,
        account_id: str | None = None,
        key_delay: float | None = None,
    ) -> None:
        """Change what the Management API demands, and how long its keys take to be known.

        What is None stays as it is; everything is as at the start after a restart.
        """
        body = {
            "operator_token": operator_token.reveal() if operator_token else None,
            "account_id": account_id,
            "key_delay": key_delay,
        }
        given = {name: value for name, value in body.items() if value is not None}
        self._call("PUT", ("management",), given)

    def management_log(self) -> list[dict[str, Any]]:
        """Return the management calls since the start or the last reset, oldest first."""
        calls: list[dict[str, Any]] = self._call("GET", ("management", "log"))["calls"]
        return calls

    def reset_management_log(self) -> None:
        """Empty the log of management calls."""
        self._call("DELETE", ("management", "log"))

    def state(self) -> dict[str, Any]:
        """Return accounts, vaults, settings and the tokenURI."""
        return self._call("GET", ("state",))

    def add_fault(self, fault: Fault) -> None:
        """Queue a fault for the exchanges or management calls to come."""
        self._call("POST", ("faults",), fault.to_json())

    def reset_faults(self) -> None:
        """Drop every queued fault."""
        self._call("DELETE", ("faults",))


# Without sockets ------------------------------------------------------------------------

_UNANSWERED = frozenset({FaultKind.HANG, FaultKind.DRIP})


class FaultyTokenService(InProcessTokenService):
    """The token service in this process whose exchanges meet the faults in its state."""

    def __init__(self, state: EmulatorState | None = None) -> None:
        super().__init__(state)
        self.state.faults = FaultQueue()

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        fault = self.state.faults.take(claimed_ids(assertion.reveal())[0])
        if fault is not None:
            await self._suffer(fault, assertion.reveal(), token_uri, deadline)
        return await super().exchange(token_uri, assertion, scope, deadline=deadline)

    async def _suffer(self, fault: Fault, assertion: str, token_uri: str, deadline: float) -> None:
        """Act out a fault; returns only from one that an honest answer follows."""
        endless = fault.kind in _UNANSWERED
        await asyncio.sleep(deadline if endless else min(fault.seconds, deadline))
        late = endless or fault.seconds >= deadline
        if fault.kind is FaultKind.DELAY and not late:
            return
        self.state.counters.exchanges += 1
        request_id = new_request_id()
        status = 0 if late else _status(fault)
        log_failure(self.state, assertion, request_id, status, fault.kind)
        if late:
            raise TokenServiceUnreachableError(f"no answer within {deadline:g} s")
        if fault.kind is FaultKind.RESET:
            raise TokenServiceUnreachableError("the connection was reset")
        if fault.kind is not FaultKind.STATUS:
            raise TokenServiceRefusedError(200, NO_TOKEN, request_id)
        if fault.status < 400:
            location = fault.headers.get("location", "")
            raise TokenServiceUnreachableError(redirect_reason(fault.status, location, token_uri))
        raise TokenServiceRefusedError(fault.status, one_line(fault.message), request_id)


def _status(fault: Fault) -> int:
    """The status that a fault answers with; 0 when it answers nothing."""
    if fault.kind is FaultKind.STATUS:
        return fault.status
    return 200 if fault.kind in (FaultKind.HTML, FaultKind.EMPTY) else 0


# As a process ---------------------------------------------------------------------------


def assemble_faulty(settings: ServerSettings, folder: StateFolder, port: int) -> Application:
    """The emulator of a folder, with faults."""
    honest = assemble_application(settings, folder, port)
    state, issuer = honest.state, honest.control._issuer
    state.faults = FaultQueue()
    return FaultyApplication(
        state=state,
        control=FaultyControl(state, issuer, folder.save),
        management=FaultyManagement(state, issuer, folder.save),
        control_token=honest.control_token,
        own_uris=honest.own_uris,
    )


def main(argv: Sequence[str] | None = None) -> int:
    asyncio.run(serve(emulator_main._settings(argv), assemble_faulty))
    return 0


if __name__ == "__main__":
    sys.exit(main())
