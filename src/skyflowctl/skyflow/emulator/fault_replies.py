"""What an injected fault puts in the place of an honest reply."""

from dataclasses import replace

from skyflowctl.skyflow.emulator.faults import HTML_PAGE, Fault, FaultKind
from skyflowctl.skyflow.emulator.http_server import Delivery, HttpReply
from skyflowctl.skyflow.emulator.refusal import error_body
from skyflowctl.skyflow.emulator.replies import headers, json_reply
from skyflowctl.skyflow.emulator.state import EmulatorState

_DRIP_SECONDS = 0.1
_DELIVERIES = {FaultKind.HANG: Delivery.HANG, FaultKind.RESET: Delivery.RESET}
_LATE = frozenset({FaultKind.DELAY, FaultKind.DRIP})


def is_only_late(fault: Fault) -> bool:
    """Tell whether the honest reply follows, later or slower."""
    return fault.kind in _LATE


def late_reply(fault: Fault, reply: HttpReply) -> HttpReply:
    """Return an honest reply as a fault of that kind delivers it."""
    if fault.kind is FaultKind.DELAY:
        return replace(reply, seconds=fault.seconds)
    return replace(reply, delivery=Delivery.DRIP, seconds=fault.seconds or _DRIP_SECONDS)


def false_reply(state: EmulatorState, fault: Fault, request_id: str) -> HttpReply:
    """Return what is sent, or withheld, instead of an honest reply."""
    return replace(_false_reply(state, fault, request_id), seconds=fault.seconds)


def _false_reply(state: EmulatorState, fault: Fault, request_id: str) -> HttpReply:
    if fault.kind in _DELIVERIES:
        return HttpReply(200, delivery=_DELIVERIES[fault.kind])
    if fault.kind is FaultKind.EMPTY:
        return json_reply(state.now(), request_id, {})
    if fault.kind is FaultKind.HTML:
        page = headers(state.now(), request_id, "text/html; charset=utf-8")
        return HttpReply(200, HTML_PAGE.encode(), page)
    body = error_body(fault.status, fault.message)
    reply = json_reply(state.now(), request_id, body, fault.status)
    extra = {name.lower(): value for name, value in fault.headers.items()}
    return replace(reply, headers={**reply.headers, **extra})
