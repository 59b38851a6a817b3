"""Joins requests and responses by id: one row per request, however many devices logged it.

A response repeats its request, so a row is built from the response. The request supplies the
time; without a response, the row is built from the request alone.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from skyflowctl.audit.admin import KnownFields, admin_target, role_change
from skyflowctl.audit.changes import (
    CREDS,
    FORWARDED,
    ROLE,
    SIGN,
    TOKEN_PATHS,
    AuditTarget,
    asks_for_token,
    change_kind,
    is_guard_probe,
    outcome_of,
)
from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.entries import NOT_AN_ENTRY, Auth, Entry
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import ChangeKind, FieldChange, RequestOutcome
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.seen import Logged, Parked, Seen
from skyflowctl.audit.times import utc_text
from skyflowctl.frozen import dataclass

PENDING_MAX = 20_000
"""The most requests that wait for a response. A server answers within 90 s, and far fewer are in
flight. Beyond that the oldest is given up (outcome unknown)."""
PENDING_BYTES = 32 << 20
"""The most bytes of the lines of these requests."""
ALIASES_MAX = 50_000
"""The most ctx hashes that are mapped to the hash of another device."""
RECENT_MAX = 5_000
"""The most rows whose ctx is kept until the copy of the other device arrives."""

CONFLICTING_ID = "conflicting-id"
NO_TIME = "no-time"
AUTHORIZE = "sys/control-group/authorize"
UNWRAPS = frozenset({"sys/wrapping/unwrap", "sys/wrapping/rewrap", "cubbyhole/response"})


class JoinedRow(NamedTuple):
    """One joined request on the fast path: a plain tuple.

    Args:
        time: such as ``2026-11-22T18:44:11.505141946``: UTC, without zone, sorts as text;
            ``[:13]`` is the hour, ``[:10]`` the day.
        mount: the mount's path, without a trailing slash.
        role: the engine's role; for a change, the path below the mount.
        app: the login's own name.
        auth: how it logged in; empty if not known.
        ctx: as logged.
        ctx_hashed: whether ``ctx`` is or contains a hash.
        outcome: how the request ended.
        claimed_app, run_id: the headers Application-Source and X-Skyflowctl-Run.
        key_id: the key that minted; for a change, the live key afterwards.
        request_id: the server's request id.
        node: the node of the stream.
        change: the kind of change; None for a token request.
        entry: the entry itself, for fields that are rarely needed.
        approved_by: who approved a parked request.
        fields: the fields that a change changed.
        path: ``creds`` or ``sign``; of no meaning for a change.
    """

    time: str
    mount: str
    role: str
    app: str
    auth: str
    ctx: str
    ctx_hashed: bool
    outcome: RequestOutcome
    claimed_app: str
    run_id: str
    key_id: str
    request_id: str
    node: str
    change: ChangeKind | None
    entry: Entry
    approved_by: tuple[str, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    path: str = CREDS


def _ignore(_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The callbacks of a joiner.

    Args:
        row: gets each request once, when its response arrives or is given up.
        copy: gets what another device logged about a request that ``row`` already got.
        unwrap: gets the responses that opened a wrapped answer.
        again: gets the id of a request that is executed after it was answered. A control group
            sent that answer, even if the caller had asked for wrapping.
    """

    row: Callable[[JoinedRow], object]
    copy: Callable[[JoinedRow], object] = _ignore
    unwrap: Callable[[Entry], object] = _ignore
    again: Callable[[str], object] = _ignore


class Joiner:
    """Takes entries in chronological order and passes rows to its handlers.

    Args:
        recogniser: recognises our mounts.
        logins: records which app a token belongs to.
        handlers: the callbacks.
        every_change: also report changes of roles and of the server's own settings, and all
            requests of root tokens.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        logins: Logins,
        handlers: Handlers,
        *,
        every_change: bool = False,
    ) -> None:
        self._logins = logins
        self.damaged: Counter[str] = Counter()
        self.duplicates = self.forwards = self.unpaired = self.requests = 0
        self._recognise = recogniser.target
        self._handlers = handlers
        self._states = KnownFields() if every_change else None
        # An OrderedDict: finding the oldest key of a plain dict skips all keys removed before.
        self._pending: OrderedDict[int, Logged] = OrderedDict()
        self._pending_bytes = 0
        self._seen = Seen()
        self._parked = Parked()
        self._aliases: OrderedDict[str, str] = OrderedDict()
        self._recent: OrderedDict[int, str] = OrderedDict()

    def feed(self, entry: Entry, node: str, size: int, stream: int = 0) -> None:
        """Add one entry whose line has ``size`` bytes, from the stream with this number."""
        request = entry.request
        target = self._recognise(request)
        change = None
        if target is not None and target.kind in TOKEN_PATHS:
            if not asks_for_token(request.operation):
                return
        else:
            if target is None and entry.response is not None:
                self._elsewhere(entry)
                if self._states is None or not (entry.details or is_root(entry.auth)):
                    return
            found = self._change(entry, target, stream)
            if found is None:
                return
            target, change = found
        key = hash((request.id, request.path))
        device = hash(request.client_token) + stream  # each device has its own hash
        logged = Logged(entry, node, stream, device, target, change, size)
        if entry.type == "response":
            self._answered(logged, key)
        elif entry.type == "request":
            self._asked(logged, key)
        else:
            self.damaged[NOT_AN_ENTRY] += 1

    def _change(
        self, entry: Entry, target: AuditTarget | None, stream: int
    ) -> tuple[AuditTarget, ChangeKind] | None:
        """Return what an entry changes, and its target; None if that was not requested."""
        request, states, kind = entry.request, self._states, None
        if target is not None and target.kind != ROLE:
            kind = change_kind(target, request.operation, request.data)
        if states is None or kind is not None:
            return None if target is None or kind is None else (target, kind)
        states.look(entry, stream)
        if target is None and not _is_device_test(entry):
            found = admin_target(request.path, request.operation)
            if found is not None:
                return found
        elif (
            target is not None
            and target.kind == ROLE
            and (kind := role_change(request.operation)) is not None
        ):
            return target, kind
        if entry.response is not None and is_root(entry.auth):
            return AuditTarget("sys", "", request.path), ChangeKind.ROOT_TOKEN_USED
        return None

    def knows_none(self, marks: dict[int, int]) -> bool:
        """Return whether no request with one of these keys (of id and path) was added before."""
        return self._seen.knows_none(marks) and self._pending.keys().isdisjoint(marks)

    def take_joined(self, marks: dict[int, int]) -> None:
        """Add token requests joined elsewhere whose keys are not known, by what is remembered."""
        self._seen.put_all(marks)
        self.requests += len(marks)

    def finish(self) -> None:
        """Report the requests that still wait for a response, at the end of the log."""
        for key in list(self._pending):
            self._give_up(key)

    def _elsewhere(self, entry: Entry) -> None:
        """Process a response of a mount that is not the engine's."""
        if entry.response is not None and entry.response.auth is not None:
            self._logins.learn(entry)
        elif entry.request.path == AUTHORIZE:
            self._parked.approve(entry, self._logins)
        elif entry.request.path in UNWRAPS and not entry.error:
            self._handlers.unwrap(entry)

    def _asked(self, logged: Logged, key: int) -> None:
        known = self._seen.get(key)
        if self._seen.is_again(known, logged):
            key = self._parked.run_of(key, logged, self._seen)
            known = self._seen.get(key)
        if known is not None or key in self._pending:
            self.duplicates += 1
            return
        self._pending[key] = logged
        self._pending_bytes += logged.size
        while len(self._pending) > PENDING_MAX or self._pending_bytes > PENDING_BYTES:
            self._give_up(next(iter(self._pending)))

    def _answered(self, logged: Logged, key: int) -> None:
        entry = logged.entry
        fingerprint = fingerprint_of(entry)
        first, known = key, self._seen.get(key)
        conflicts = known is not None and not self._seen.fits(known, fingerprint)
        if self._seen.is_again(known, logged):
            key = self._parked.run_of(key, logged, self._seen)
            known = self._seen.get(key)
        self._seen.tell(key, fingerprint, logged, known or 0)
        fields: tuple[FieldChange, ...] = ()
        is_done = (
            logged.change is not None and outcome_of(entry, token=False) is RequestOutcome.GRANTED
        )
        if self._states is not None and logged.change is not None and is_done:
            fields = self._states.change(entry, logged.stream, logged.change)
        if known is not None and not conflicts:
            self._drop(first, logged)
            self._copy(logged, key)
            return
        self.damaged[CONFLICTING_ID] += conflicts
        asked = None if logged.change is ChangeKind.ROOT_TOKEN_USED else self._take(key)
        if FORWARDED in entry.error:
            self.forwards += 1
            return
        time = entry.time if asked is None else asked.entry.time
        signs = logged.target.kind == SIGN
        outcome = outcome_of(entry, token=logged.change is None, signed=signs)
        self._park(logged, key)
        if is_guard_probe(entry, outcome):
            return
        row = self._row(logged, time, outcome)
        if fields and row is not None:
            row = row._replace(fields=fields)
        if first != key and row is not None:
            row = row._replace(approved_by=self._parked.approvers(first))
            self._handlers.again(row.request_id)
        # Both devices log a request before the server executes it, so the first copy was seen.
        if self.duplicates and row is not None:
            row = self._in_one_form(row, key)
        self._hand_out(row)

    def _drop(self, key: int, logged: Logged) -> None:
        """Forget a request that looked like another execution, but whose line came twice."""
        run = self._parked.newest_run(key, logged)
        asked = self._pending.pop(run, None) if run is not None else None
        if asked is not None:
            self._pending_bytes -= asked.size
            self.duplicates += 1

    def _park(self, logged: Logged, key: int) -> None:
        """Remember the accessor by which approvers name a request that may be parked."""
        response = logged.entry.response
        if response is not None and response.wrap_info is not None:
            self._parked.add(key, response.wrap_info.accessor)

    def _take(self, key: int) -> Logged | None:
        """Remove and return the request that waits for this response."""
        asked = self._pending.pop(key, None)
        if asked is None:
            self.unpaired += 1
        else:
            self._pending_bytes -= asked.size
        return asked

    def _give_up(self, key: int) -> None:
        """Report a request that got no response."""
        asked = self._pending.pop(key)
        self._pending_bytes -= asked.size
        self._seen.add(key, fingerprint_of(asked.entry))
        self.unpaired += 1
        entry = asked.entry
        outcome = outcome_of(entry, token=True) if entry.error else RequestOutcome.UNKNOWN
        self._hand_out(self._row(asked, entry.time, outcome))

    def _hand_out(self, row: JoinedRow | None) -> None:
        if row is None:
            self.damaged[NO_TIME] += 1
            return
        if row.change is None:
            self.requests += 1
        self._handlers.row(row)

    def _in_one_form(self, row: JoinedRow, key: int) -> JoinedRow:
        """Replace a hashed ctx by its first known hash, so that equal ctx values count as one."""
        if not row.ctx_hashed:
            return row
        ctx = self._aliases.get(row.ctx, row.ctx)
        self._recent[key] = ctx
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        return row._replace(ctx=ctx)

    def _copy(self, logged: Logged, key: int) -> None:
        """Record how another device hashed a request that was already reported."""
        self.duplicates += 1
        self._park(logged, key)
        row = self._row(logged, logged.entry.time, RequestOutcome.UNKNOWN)
        if row is None:
            return
        first = self._recent.pop(key, "")
        if first and row.ctx_hashed and row.ctx != first:
            self._aliases[row.ctx] = first
            if len(self._aliases) > ALIASES_MAX:
                self._aliases.popitem(last=False)
        self._handlers.copy(row)

    def _row(self, logged: Logged, time: str, outcome: RequestOutcome) -> JoinedRow | None:
        """Build the row; None if the entry has no valid time."""
        entry, node, _, _, target, change, _ = logged
        when = utc_text(time) or utc_text(entry.time)
        if when is None:
            return None
        ctx, hashed, claimed, run, key_id = logged_values(entry)
        app, auth = self._logins.identity(entry.auth or _NOBODY)
        return JoinedRow(
            when,
            target.mount,
            target.name,
            app,
            auth,
            ctx,
            hashed,
            outcome,
            claimed,
            run,
            key_id,
            entry.request.id,
            node,
            change,
            entry,
            path=target.kind,
        )


_NOBODY = Auth()


def logged_values(entry: Entry) -> tuple[str, bool, str, str, str]:
    """Return a row's ctx, whether it is hashed, its claimed app, run and key id."""
    data, headers, response = entry.request.data, entry.request.headers, entry.response
    ctx, hashed = ctx_text(data.ctx) if data is not None else ("", False)
    answer = None if response is None else response.data
    key_id = "" if answer is None else answer.key_id
    return (
        ctx,
        hashed,
        headers.claimed[0] if headers is not None and headers.claimed else "",
        headers.run[0] if headers is not None and headers.run else "",
        key_id if isinstance(key_id, str) else "",
    )


def _is_device_test(entry: Entry) -> bool:
    """Return whether an entry is the server's own test of a new device, not a request."""
    return entry.request.path == "sys/audit/test" and not (entry.auth or _NOBODY).display_name


def is_root(auth: Auth | None) -> bool:
    """Return whether a token bears the root policy."""
    return auth is not None and auth.policies is not None and "root" in auth.policies


def fingerprint_of(entry: Entry) -> int:
    """Return the fields that are equal on all devices, because no device hashes them."""
    auth = entry.auth or _NOBODY
    return hash((auth.display_name, auth.entity_id, entry.request.operation))
