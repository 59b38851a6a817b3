"""Collects what the logs show about one key, app or ctx: every token, its end, what was done since.

The figures are of all tokens; ``TOKENS_MAX`` of them are kept one by one.
"""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from math import inf

from skyflowctl.audit.ctx import is_hash
from skyflowctl.audit.model import ChangeKind, CredentialChange, RequestOutcome, TokenRequest
from skyflowctl.audit.query import Query, full_mount, in_namespace
from skyflowctl.audit.reorder import Record
from skyflowctl.audit.search import Search
from skyflowctl.frozen import dataclass

TOKENS_MAX = 20_000
"""The most tokens that are kept one by one: 40 MB."""
_GROUPS_MAX = 10_000
_CHANGES_MAX = 10_000
_WRAPPED_MAX = 20_000
"""The most wrapped tokens whose key the log does not name."""
_CTX_MAX = 10_000
"""The most values of ctx that are counted in one group."""

_MAKES_LIVE = frozenset({ChangeKind.WRITE, ChangeKind.ROTATION_WRITTEN, ChangeKind.ROLLBACK})
_MAY_HAVE_TOKEN = frozenset({RequestOutcome.GRANTED, RequestOutcome.UNKNOWN})


class SubjectKind(StrEnum):
    """What an incident is about."""

    KEY = "key_id"
    APP = "app"
    CTX = "ctx"


@dataclass(frozen=True, slots=True)
class IncidentSubject:
    """One key, app or ctx, as it was given."""

    kind: SubjectKind
    value: str


@dataclass(slots=True)
class TokenFigures:
    """The tokens of one mount, or of one app on one role.

    Args:
        tokens: how many, signatures included; ``signatures`` are the requests to sign, ``reused``
            those answered with a bearer that was returned before.
        first: when the first was requested; ``last``: the last.
        alive_until: when the last of them expires, of those whose end is known.
        end_unknown: how many have an end that the log does not show.
    """

    tokens: int = 0
    signatures: int = 0
    reused: int = 0
    first: datetime | None = None
    last: datetime | None = None
    alive_until: datetime | None = None
    end_unknown: int = 0
    ctxs: set[int] = field(default_factory=set)
    more_ctx: bool = False

    def add(self, one: TokenRequest) -> None:
        """Add a token."""
        self.tokens += 1
        self.signatures += one.path == "sign"
        self.reused += one.reused
        self.first = min(self.first or one.time, one.time)
        self.last = max(self.last or one.time, one.time)
        if one.expires_at is None:
            self.end_unknown += 1
        else:
            self.alive_until = max(self.alive_until or one.expires_at, one.expires_at)
        if one.ctx and len(self.ctxs) < _CTX_MAX:
            self.ctxs.add(hash(one.ctx))
        elif one.ctx:
            self.more_ctx = True


GroupKey = tuple[str, str, str, str, str]
"""Mount, ``creds`` or ``sign``, role, app, and how it logged in."""


@dataclass(frozen=True, slots=True)
class MountIncident:
    """What happened on one mount.

    Args:
        figures: of its tokens.
        ended: the change after which the key mints no more there; for an app or a ctx only a
            cut-off ends anything. None: the logs show none.
        after_end: tokens that were requested after it.
    """

    mount: str
    figures: TokenFigures
    ended: CredentialChange | None
    after_end: int


@dataclass(frozen=True, slots=True)
class Attempts:
    """Requests without a token, by how they ended."""

    outcome: RequestOutcome
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Incident:
    """What the logs show.

    Args:
        subject: what was asked about.
        total: the figures of all tokens.
        tokens: at most ``TOKENS_MAX`` of them, by time.
        inferred: the ids of requests among them whose key follows from the time alone: a
            wrapped answer does not show its key.
        groups: by mount, path, role and app.
        mounts: by path.
        attempts: requests without a token.
        actions: changes of these mounts' credentials since the first token.
        left_out: tokens beyond ``TOKENS_MAX``; counted in all figures.
        unplaced: wrapped tokens whose key the logs do not show.
        tallies: how many tokens lack what, by a word such as ``hashed-ctx``.
        limits: what else was left out, as sentences.
    """

    subject: IncidentSubject
    total: TokenFigures
    tokens: tuple[TokenRequest, ...]
    inferred: frozenset[str]
    groups: tuple[tuple[GroupKey, TokenFigures], ...]
    mounts: tuple[MountIncident, ...]
    attempts: tuple[Attempts, ...]
    actions: tuple[CredentialChange, ...]
    left_out: int
    unplaced: int
    tallies: Counter[str]
    limits: tuple[str, ...]


class IncidentReader:
    """Reads the logs once.

    Args:
        subject: what is asked about.
        query: selects its requests.
        keep: gets every token, as it is found.
    """

    def __init__(
        self,
        subject: IncidentSubject,
        query: Query,
        keep: Callable[[TokenRequest], object] = lambda _: None,
    ) -> None:
        self._subject = subject
        self._query = query
        self._keep = keep
        self._total = TokenFigures()
        self._tokens: list[TokenRequest] = []
        self._groups: dict[GroupKey, TokenFigures] = {}
        self._mounts: dict[str, TokenFigures] = {}
        self._times: dict[str, array[float]] = {}
        self._attempts: dict[RequestOutcome, list[datetime]] = {}
        self._attempted: Counter[RequestOutcome] = Counter()
        self._changes: list[CredentialChange] = []
        self._wrapped: list[TokenRequest] = []
        self._tallies: Counter[str] = Counter()
        self._left_out = self._groups_left_out = self._changes_left_out = 0

    def read(self, found: Search) -> Incident:
        """Return the incident.

        Args:
            found: of the query; ``also`` must be :meth:`watch`.
        """
        for one in found:
            self._add(one)
        inferred = self._place_wrapped()
        self._tokens.sort(key=lambda one: (one.time, one.request_id, one.execution))
        return Incident(
            subject=self._subject,
            total=self._total,
            tokens=tuple(self._tokens),
            inferred=frozenset(inferred),
            groups=tuple(sorted(self._groups.items(), key=lambda one: (-one[1].tokens, one[0]))),
            mounts=tuple(self._mount(path) for path in sorted(self._mounts)),
            attempts=tuple(self._attempts_found()),
            actions=tuple(self._actions()),
            left_out=self._left_out,
            unplaced=len(self._wrapped) - len(inferred),
            tallies=self._tallies,
            limits=tuple(self._limits()),
        )

    def watch(self, record: Record) -> None:
        """Take a record that the query does not select."""
        if isinstance(record, CredentialChange):
            if len(self._changes) < _CHANGES_MAX:
                self._changes.append(record)
            else:
                self._changes_left_out += 1
        elif self._subject.kind is SubjectKind.KEY and self._may_be_ours(record):
            if len(self._wrapped) < _WRAPPED_MAX:
                self._wrapped.append(record)
            else:
                self._tallies["wrapped-left-out"] += 1

    def _may_be_ours(self, one: TokenRequest) -> bool:
        """Whether this is a wrapped token of this time that names no key."""
        since, until = self._query.since, self._query.until
        wrapped = one.wrapped and one.outcome is RequestOutcome.GRANTED and not one.key_id
        return wrapped and (not since or one.time >= since) and (not until or one.time < until)

    def _add(self, one: TokenRequest) -> None:
        if one.outcome not in _MAY_HAVE_TOKEN:
            times = self._attempts.setdefault(one.outcome, [one.time, one.time])
            times[:] = [min(times[0], one.time), max(times[1], one.time)]
            self._attempted[one.outcome] += 1
            return
        self._keep(one)
        mount = full_mount(one)
        key = (mount, one.path, one.role, one.caller.app, one.caller.auth)
        for figures in (self._total, self._mounts.setdefault(mount, TokenFigures())):
            figures.add(one)
        group = self._groups.get(key)
        if group is None and len(self._groups) < _GROUPS_MAX:
            group = self._groups[key] = TokenFigures()
        if group is not None:
            group.add(one)
        else:
            self._groups_left_out += 1
        self._times.setdefault(mount, array("d")).append(one.time.timestamp())
        self._tally(one)
        if len(self._tokens) < TOKENS_MAX:
            self._tokens.append(one)
        else:
            self._left_out += 1

    def _tally(self, one: TokenRequest) -> None:
        self._tallies["no-answer"] += one.outcome is RequestOutcome.UNKNOWN
        self._tallies["hashed-ctx"] += one.ctx_hashed
        self._tallies["no-end"] += one.expires_at is None
        self._tallies["not-opened"] += one.wrapped and not one.unwrapped_by
        self._tallies["no-app"] += not one.caller.app
        self._tallies["hashed-key"] += is_hash(one.key_id)

    def _place_wrapped(self) -> list[str]:
        """Add the wrapped tokens that this key made, as the last change or token before shows."""
        if not self._wrapped:
            return []
        lives = {mount: sorted(self._lives(mount)) for mount in map(full_mount, self._wrapped)}
        found = [one for one in self._wrapped if _is_live(lives[full_mount(one)], one.time)]
        for one in found:
            self._add(one)
        return [one.request_id for one in found]

    def _lives(self, mount: str) -> Iterator[tuple[float, bool, bool]]:
        """Yield the times at which the logs show a mount's live key, whether it is ours, and
        whether it was before."""
        yield from ((at, True, True) for at in self._times.get(mount, ()))
        for change in self._of_mount(mount):
            ours = change.key_id in self._query.keys
            if change.kind is ChangeKind.REVOKED:
                yield change.time.timestamp(), ours, ours
            elif change.kind in _MAKES_LIVE:
                yield change.time.timestamp(), ours, False

    def _of_mount(self, mount: str) -> Iterator[CredentialChange]:
        """Yield the changes that were made of a mount's credential, by time."""
        for change in sorted(self._changes, key=lambda one: one.time):
            done = change.outcome is RequestOutcome.GRANTED
            if done and in_namespace(change.mount, change.namespace) == mount:
                yield change

    def _mount(self, mount: str) -> MountIncident:
        figures = self._mounts[mount]
        ended: CredentialChange | None = None
        for change in self._of_mount(mount):
            if figures.first is None or change.time < figures.first:
                continue
            if change.kind is ChangeKind.REVOKED:
                ended = ended or change
            elif self._subject.kind is SubjectKind.KEY and change.kind in _MAKES_LIVE:
                again = change.key_id in self._query.keys
                ended = None if again else ended or change
            elif change.kind in _MAKES_LIVE:
                ended = None
        end = ended.time.timestamp() if ended else inf
        after = sum(at > end for at in self._times[mount])
        return MountIncident(mount, figures, ended, after)

    def _attempts_found(self) -> Iterator[Attempts]:
        for outcome, (first, last) in sorted(self._attempts.items()):
            yield Attempts(outcome, self._attempted[outcome], first, last)

    def _actions(self) -> Iterable[CredentialChange]:
        """Return the changes since the first token of a mount, and those that made the key live."""
        for change in sorted(self._changes, key=lambda one: (one.time, one.request_id)):
            figures = self._mounts.get(in_namespace(change.mount, change.namespace))
            of_key = bool(change.key_id) and change.key_id in self._query.keys
            since = figures is not None and figures.first and change.time >= figures.first
            if of_key or since:
                yield change

    def _limits(self) -> Iterator[str]:
        if out := self._left_out:
            yield f"{out} further tokens are counted, and not listed one by one"
        if out := self._groups_left_out:
            yield f"{out} tokens of further apps and roles are counted in the totals alone"
        if out := self._changes_left_out:
            yield f"{out} later changes are not listed"


def _is_live(shown: Sequence[tuple[float, bool, bool]], time: datetime) -> bool:
    """Whether the key was live: the last sight of it before tells, and if there is none, the
    first one after; a change that made it live shows that another one was live before."""
    at = bisect_right(shown, (time.timestamp(), True, True))
    return shown[at - 1][1] if at else bool(shown) and shown[0][2]
