"""Faults on request: what the next exchanges meet instead of an honest answer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

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
        fault = self._faults[index]
        if fault.count == 1:
            del self._faults[index]
        elif fault.count > 1:
            self._faults[index] = replace(fault, count=fault.count - 1)
