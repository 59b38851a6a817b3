"""Sorts rows by time, and holds them until related later entries have arrived.

A slow request is joined after others that started later. The copy of a second device arrives a
moment after the first, and an unwrap seconds or hours after.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush

from skyflowctl.audit.changes import SIGN, error_text
from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.entries import Entry, GrantingPolicy, LoggedWrap, ResponseData
from skyflowctl.audit.join import JoinedRow
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import (
    Caller,
    ChangeKind,
    CredentialChange,
    RequestOutcome,
    TokenRequest,
)
from skyflowctl.audit.seen import PARKED_MAX
from skyflowctl.audit.times import parse_utc, utc_text
from skyflowctl.clock import parse_rfc3339

HELD_MAX = 10_000
"""The most rows that wait to be sorted: 20 MB. With more of them in ``REORDER_SECONDS``, the
oldest are released early, still nearly in order."""
REORDER_SECONDS = 30.0
"""A mint takes at most 10 s, a config write 25 s."""
WRAPPED_MAX = 5_000
_TTL_MAX = 31 * 86_400
"""The most wrapped answers that wait for their unwrap."""

_OF_CREDENTIALS = frozenset(
    {
        ChangeKind.WRITE,
        ChangeKind.ROTATION_OPENED,
        ChangeKind.ROTATION_WRITTEN,
        ChangeKind.ROTATION_COMMITTED,
        ChangeKind.ROLLBACK,
        ChangeKind.KEPT_DESTROYED,
        ChangeKind.REVOKED,
    }
)
"""Kinds of change without a name, because they concern a mount."""

Record = TokenRequest | CredentialChange


@dataclass(slots=True, eq=False)
class HeldRow:
    """A row, and what later entries added to it."""

    row: JoinedRow
    forms: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    wraps: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    unwrapped_by: str = ""
    execution: int = 0
    opened: ResponseData | None = None
    """The content of a wrapped answer, as its unwrap shows it."""

    def learn(self, row: JoinedRow) -> None:
        """Add what one device logged."""
        entry = row.entry
        data, response = entry.request.data, entry.response
        raw = ctx_text(data.ctx)[0] if data is not None else ""
        _add(self.forms, row.ctx)
        _add(self.forms, raw)
        _add(self.clients, entry.request.client_token)
        if response is not None:
            if response.data is not None:
                _add(self.tokens, response.data.access_token)
            if response.wrap_info is not None:
                _add(self.wraps, response.wrap_info.token)


def _add(known: list[str], value: object) -> None:
    if isinstance(value, str) and value and value not in known:
        known.append(value)


class Holding:
    """Takes rows as they are joined, and yields records in chronological order.

    Args:
        logins: identifies who unwrapped.
        reorder_seconds: how long a row waits for earlier ones; 0: it does not wait.
        hold_wrapped: a wrapped row waits for its unwrap, its ttl or the end, so it is out of
            order. False: it is in order, without its unwrap.
    """

    def __init__(
        self,
        logins: Logins,
        *,
        reorder_seconds: float = REORDER_SECONDS,
        hold_wrapped: bool = True,
    ) -> None:
        self._logins = logins
        self._reorder = timedelta(seconds=reorder_seconds)
        self._hold_wrapped = hold_wrapped
        self._heap: list[tuple[str, int, HeldRow]] = []
        self._by_id: dict[str, HeldRow] = {}
        self._wraps: dict[str, HeldRow] = {}
        self._waiting: OrderedDict[int, HeldRow] = OrderedDict()
        self._executions: OrderedDict[str, int] = OrderedDict()
        self._count = 0
        self._newest = ""
        self._due = ""
        self._ready: list[Record] = []

    def add(self, row: JoinedRow) -> None:
        """Add a row."""
        held = HeldRow(row, execution=self._executions.get(row.request_id, 0))
        held.learn(row)
        self._count += 1
        heappush(self._heap, (row.time, self._count, held))
        self._by_id[row.request_id] = held
        if self._hold_wrapped and row.outcome is RequestOutcome.GRANTED:
            self._wraps.update(dict.fromkeys(held.wraps, held))
        if row.time[:19] > self._newest[:19]:
            self._newest = row.time
            self._due = _earlier(row.time, self._reorder)

    def copied(self, row: JoinedRow) -> None:
        """Add what another device logged about a row that is still held."""
        held = self._by_id.get(row.request_id)
        if held is not None:
            held.learn(row)
            # The order in which a node's devices are read varies; the name must not.
            held.row = held.row._replace(node=min(held.row.node, row.node))
            if self._hold_wrapped and _is_wrapped(held):
                self._wraps.update(dict.fromkeys(held.wraps, held))

    def was_parked(self, request_id: str) -> None:
        """Record that a parked request is executed; its first answer was no wrapped token."""
        self._executions[request_id] = self._executions.get(request_id, 0) + 1
        if len(self._executions) > PARKED_MAX:
            self._executions.popitem(last=False)
        held = self._by_id.get(request_id)
        if held is not None and _is_wrapped(held) and not held.tokens:
            held.row = held.row._replace(outcome=RequestOutcome.PENDING)
            self._open(held)

    def unwrapped(self, entry: Entry) -> None:
        """Record who opened a wrapped answer; a rewrap moves it to another wrapping token."""
        request, response = entry.request, entry.response
        sent = request.data.token if request.data is not None else None
        held = self._wraps.get(sent if isinstance(sent, str) else request.client_token)
        if held is None or response is None:
            return
        if response.wrap_info is not None:
            _add(held.wraps, response.wrap_info.token)
            self._wraps[response.wrap_info.token] = held
            return
        if response.data is not None:
            _add(held.tokens, response.data.access_token)
            held.opened = response.data
        held.unwrapped_by = held.unwrapped_by or self._opener(entry, by_another=bool(sent))
        self._open(held)

    def _opener(self, entry: Entry, *, by_another: bool) -> str:
        """Return who unwrapped. The wrapping token itself has the name of its creator."""
        if by_another and entry.auth is not None:
            return self._logins.identity(entry.auth)[0]
        return f"the wrapping token's bearer at {entry.request.remote_address}"

    def _open(self, held: HeldRow) -> None:
        """Release a wrapped answer that waited only for this."""
        if self._waiting.pop(id(held), None) is not None:
            self._release(held)

    def ready(self) -> Iterator[Record]:
        """Yield the records that no longer have to wait."""
        heap = self._heap
        while heap and (heap[0][0] <= self._due or len(heap) > HELD_MAX):
            self._turn(heappop(heap)[2])
        if self._waiting:
            self._expire()
        if self._ready:
            yield from self._ready
            self._ready.clear()

    def rest(self) -> Iterator[Record]:
        """Yield all remaining records at the end of the log."""
        while self._heap:
            self._turn(heappop(self._heap)[2])
        for held in list(self._waiting.values()):
            self._open(held)
        yield from self._ready
        self._ready.clear()

    def _turn(self, held: HeldRow) -> None:
        """Release the next row, unless it waits for its unwrap."""
        waits = self._hold_wrapped and _is_wrapped(held) and not held.unwrapped_by
        if waits and not self._expired(held):
            self._waiting[id(held)] = held
        else:
            self._release(held)

    def _expire(self) -> None:
        """Release the oldest wrapped rows whose ttl has ended, or that exceed ``WRAPPED_MAX``."""
        while self._waiting:
            held = next(iter(self._waiting.values()))
            if len(self._waiting) <= WRAPPED_MAX and not self._expired(held):
                return
            self._open(held)

    def _expired(self, held: HeldRow) -> bool:
        info = _wrap_info(held.row)
        ttl = timedelta(seconds=min(max(info.ttl if info else 0, 0), 10 * 366 * 86_400))
        return held.row.time[:19] < _earlier(self._newest, ttl + self._reorder)

    def _release(self, held: HeldRow) -> None:
        self._by_id.pop(held.row.request_id, None)
        for token in held.wraps:
            self._wraps.pop(token, None)
        row = held.row
        self._ready.append(_request(held) if row.change is None else credential_change(row))


def _is_wrapped(held: HeldRow) -> bool:
    """Return whether a token is behind a wrapping token; a parked request has no token yet."""
    return bool(held.wraps) and held.row.outcome is not RequestOutcome.PENDING


def _earlier(time: str, span: timedelta) -> str:
    """Return the text of an earlier time; empty if there is none."""
    if not span:
        return time[:19] + "~"
    try:
        return (datetime.fromisoformat(time[:19]) - span).isoformat()
    except OverflowError:
        return ""


def _wrap_info(row: JoinedRow) -> LoggedWrap | None:
    return row.entry.response.wrap_info if row.entry.response is not None else None


def _caller(row: JoinedRow) -> Caller:
    auth = row.entry.auth
    if auth is None:
        return Caller(row.app, row.auth)
    return Caller(
        row.app,
        row.auth,
        auth.display_name,
        auth.entity_id,
        auth.accessor,
        tuple(auth.policies or ()),
    )


def _request(held: HeldRow) -> TokenRequest:
    row, entry = held.row, held.row.entry
    request = entry.request
    results = entry.auth.policy_results if entry.auth is not None else None
    policies: list[GrantingPolicy] = (
        results.granting_policies if results is not None else None
    ) or []
    answer = held.opened or (entry.response.data if entry.response is not None else None)
    expires_at, expiry_from = _expiry(entry, answer, row) if answer is not None else (None, "")
    return TokenRequest(
        time=parse_utc(row.time),
        caller=_caller(row),
        claimed_app=row.claimed_app,
        mount=row.mount,
        role=row.role,
        ctx=row.ctx,
        ctx_hashed=row.ctx_hashed,
        outcome=row.outcome,
        error=entry.error,
        request_id=row.request_id,
        node=row.node,
        run_id=row.run_id,
        key_id=row.key_id,
        remote_address=request.remote_address,
        wrapped=_is_wrapped(held) or request.wrap_ttl > 0,
        unwrapped_by=held.unwrapped_by,
        namespace=_space(row),
        operation=request.operation,
        ctx_forms=tuple(held.forms),
        token_hashes=tuple(held.tokens),
        granted_by=tuple(policy.name for policy in policies),
        client_tokens=tuple(held.clients),
        approved_by=row.approved_by,
        path=row.path,
        execution=held.execution,
        expires_at=expires_at,
        expiry_from=expiry_from,
        reused=answer is not None and answer.reused is True,
        opened_key_id=_text(held.opened.key_id) if held.opened is not None else "",
    )


def _expiry(entry: Entry, answer: ResponseData, row: JoinedRow) -> tuple[datetime | None, str]:
    """Return when the tokens of an answer expire, and the field that shows it.

    Only a mount whose audit settings were not applied hashes ``expires_at``. Numbers are never
    hashed, so the ``ttl`` of a bearer can then be read; that of a signature is in the request.
    """
    if row.outcome is not RequestOutcome.GRANTED:
        return None, ""
    with suppress(ValueError, TypeError, OverflowError):
        return parse_rfc3339(answer.expires_at), "expires_at"
    ttl = answer.ttl
    if row.path == SIGN:
        ttl = entry.request.data.ttl if entry.request.data is not None else None
    at = utc_text(entry.time)
    if at is None or isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl < _TTL_MAX:
        return None, ""
    return parse_utc(at) + timedelta(seconds=ttl), "ttl"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _space(row: JoinedRow) -> str:
    namespace = row.entry.request.namespace
    return "" if namespace is None or namespace.id == "root" else namespace.path or namespace.id


def credential_change(row: JoinedRow) -> CredentialChange:
    """Return the record of a row that has a change."""
    assert row.change is not None
    return CredentialChange(
        time=parse_utc(row.time),
        caller=_caller(row),
        kind=row.change,
        mount=row.mount,
        key_id=row.key_id,
        outcome=row.outcome,
        request_id=row.request_id,
        node=row.node,
        run_id=row.run_id,
        name="" if row.change in _OF_CREDENTIALS else row.role,
        fields=row.fields,
        created=row.entry.request.operation == "create",
        reason=_reason(row),
        error=error_text(row.entry.error),
        namespace=_space(row),
    )


def _reason(row: JoinedRow) -> str:
    """Return the reason of a cut-off, as logged."""
    data = row.entry.request.data
    if row.change is not ChangeKind.REVOKED or data is None or not isinstance(data.reason, str):
        return ""
    return data.reason
