"""Requests and responses joined by id: each request once, whoever logged it how often.

A response repeats its request, so a row is made from the response; the request gives the
time, and stands alone when no response follows.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from skyflowctl.audit.admin import KnownFields, admin_target, role_change
from skyflowctl.audit.changes import (
    CREDS,
    FORWARDED,
    ROLE,
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

PENDING_MAX = 20_000
"""Requests that wait for a response. A server answers within its 90 s and far fewer are in
flight; the oldest is given up first (outcome unknown)."""
PENDING_BYTES = 32 << 20
"""And at most so many bytes of their lines."""
ALIASES_MAX = 50_000
"""ctx hashes whose twin on another device is known."""
RECENT_MAX = 5_000
"""Rows whose ctx is kept until the other device's copy comes."""


CONFLICTING_ID = "conflicting-id"
NO_TIME = "no-time"
AUTHORIZE = "sys/control-group/authorize"
UNWRAPS = frozenset({"sys/wrapping/unwrap", "sys/wrapping/rewrap", "cubbyhole/response"})


class JoinedRow(NamedTuple):
    """One joined request, as the fast path has it: a plain tuple by position.

    Args:
        time: ``2026-11-22T18:44:11.505141946``: UTC, no zone, sorts as text; ``[:13]`` is
            the hour, ``[:10]`` the day.
        mount: without a trailing slash.
        role: of the engine; of a change the path behind the mount.
        app: the login's own name.
        auth: how it logged in; empty: not known.
        ctx: as the log has it.
        ctx_hashed: it is a hash, or holds one.
        outcome: how it ended.
        claimed_app: the header Application-Source.
        run_id: of skyflowctl.
        key_id: that minted; of a change the live one afterwards.
        request_id: the server's.
        node: the stream's.
        change: None for a token request.
        entry: the entry itself, for the fields that few ask for.
        approved_by: of a request that was parked: who let it pass.
        fields: of a change: what it changed.
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


def _ignore(_: object) -> None:
    """Take in nothing."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who gets what a joiner finds.

    Args:
        row: gets each request once, when its response is there or given up.
        copy: gets what another device wrote about a request that was handed out.
        unwrap: gets the responses that opened a wrapped answer.
        again: gets the id of a request that is executed after it was answered: the answer
            was a control group's, even if wrapping had been asked for.
    """

    row: Callable[[JoinedRow], object]
    copy: Callable[[JoinedRow], object] = _ignore
    unwrap: Callable[[Entry], object] = _ignore
    again: Callable[[str], object] = _ignore


class Joiner:
    """Takes entries in the order of time; hands out rows.

    Args:
        recogniser: which mounts are ours.
        logins: learns who the tokens belong to.
        handlers: get what is found.
        every_change: also hand out changes of roles and of the server's own settings, and
            what root tokens do.
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
        # Ordered: the oldest of a plain dict is found only past all that were removed before.
        self._pending: OrderedDict[int, Logged] = OrderedDict()
        self._pending_bytes = 0
        self._seen = Seen()
        self._parked = Parked()
        self._aliases: OrderedDict[str, str] = OrderedDict()
        self._recent: OrderedDict[int, str] = OrderedDict()

    def feed(self, entry: Entry, node: str, size: int, stream: int = 0) -> None:
        """Take in one entry whose line has ``size`` bytes, of the stream of this number."""
        request = entry.request
        target = self._recognise(request)
        change = None
        if target is not None and target.kind == CREDS:
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
        device = hash(request.client_token) + stream  # each device hashes it in its own way
        if entry.type == "response":
            self._answered(Logged(entry, node, stream, device, target, change, size), key)
        elif entry.type == "request":
            self._asked(Logged(entry, node, stream, device, target, change, size), key)
        else:
            self.damaged[NOT_AN_ENTRY] += 1

    def _change(
        self, entry: Entry, target: AuditTarget | None, stream: int
    ) -> tuple[AuditTarget, ChangeKind] | None:
        """Return what an entry changes, and on what; None: nothing that is asked for."""
        request, states, kind = entry.request, self._states, None
        if target is not None and target.kind != ROLE:
            kind = change_kind(target, request.operation, request.data)
        if states is None or kind is not None:
            return (target, kind) if target is not None and kind is not None else None
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

    @property
    def wants_approvals(self) -> bool:
        """Whether a request may be parked."""
        return bool(self._parked)

    def finish(self) -> None:
        """Hand out what still waits: the log ends here."""
        for key in list(self._pending):
            self._give_up(key)

    def _elsewhere(self, entry: Entry) -> None:
        """Take in a response of a mount that is not the engine's."""
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
        fingerprint = _fingerprint(entry)
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
        outcome = outcome_of(entry, token=logged.change is None)
        self._park(logged, key)
        if is_guard_probe(entry, outcome):
            return
        row = self._row(logged, time, outcome)
        if fields and row is not None:
            row = row._replace(fields=fields)
        if first != key and row is not None:
            row = row._replace(approved_by=self._parked.approvers(first))
            self._handlers.again(row.request_id)
        # Both devices log a request before it is served, so a first copy was seen by now.
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
        """Remember how this device names a request that may be parked to its approvers."""
        response = logged.entry.response
        if response is not None and response.wrap_info is not None:
            self._parked.add(key, response.wrap_info.accessor)

    def _take(self, key: int) -> Logged | None:
        """Return the request that waits for this response."""
        asked = self._pending.pop(key, None)
        if asked is None:
            self.unpaired += 1
        else:
            self._pending_bytes -= asked.size
        return asked

    def _give_up(self, key: int) -> None:
        """Hand out a request that got no response."""
        asked = self._pending.pop(key)
        self._pending_bytes -= asked.size
        self._seen.add(key, _fingerprint(asked.entry))
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
        """Write a hashed ctx as it was first written, so that one ctx counts as one."""
        if not row.ctx_hashed:
            return row
        ctx = self._aliases.get(row.ctx, row.ctx)
        self._recent[key] = ctx
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        return row._replace(ctx=ctx)

    def _copy(self, logged: Logged, key: int) -> None:
        """Note how another device hashed what was handed out already."""
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
        """Make the row; None when there is no time to put it at."""
        entry, node, _, _, target, change, _ = logged
        when = utc_text(time) or utc_text(entry.time)
        if when is None:
            return None
        request, response = entry.request, entry.response
        data, headers = request.data, request.headers
        ctx, hashed = ctx_text(data.ctx) if data is not None else ("", False)
        app, auth = self._logins.identity(entry.auth or _NOBODY)
        answer = None if response is None else response.data
        key_id = "" if answer is None else answer.key_id
        return JoinedRow(
            when,
            target.mount,
            target.name,
            app,
            auth,
            ctx,
            hashed,
            outcome,
            headers.claimed[0] if headers is not None and headers.claimed else "",
            headers.run[0] if headers is not None and headers.run else "",
            key_id if isinstance(key_id, str) else "",
            request.id,
            node,
            change,
            entry,
        )


_NOBODY = Auth()


def _is_device_test(entry: Entry) -> bool:
    """Return whether a server only tries out a new device: nobody asked for that."""
    return entry.request.path == "sys/audit/test" and not (entry.auth or _NOBODY).display_name


def is_root(auth: Auth | None) -> bool:
    """Return whether a token bears the root policy."""
    return auth is not None and auth.policies is not None and "root" in auth.policies


def _fingerprint(entry: Entry) -> int:
    """Return what two devices must agree on: nothing in it is ever hashed by a device."""
    auth = entry.auth or _NOBODY
    return hash((auth.display_name, auth.entity_id, entry.request.operation))
