"""Joins requests and responses within a part of a log, without the state of earlier parts.

Most token requests are followed by their response within the same part. Such a pair needs
nothing of other entries but the login of its token and whether its id occurred before, so it is
passed on as a few values. Every other line that may matter is passed on as it is, in its place.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from skyflowctl.audit.admin import has_details, is_change
from skyflowctl.audit.changes import CREDS, FORWARDED, asks_for_token, outcome_of
from skyflowctl.audit.clipping import LONG_LINE_BYTES
from skyflowctl.audit.entries import Auth, Entry, LoggedRequest, Namespace, decode_all
from skyflowctl.audit.join import (
    AUTHORIZE,
    JoinedRow,
    Joiner,
    fingerprint_of,
    is_root,
    logged_values,
)
from skyflowctl.audit.lines import blocks, split_lines
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.seen import marks_of
from skyflowctl.audit.sift import Gathered, Sifted, ending_of
from skyflowctl.audit.sources import FileRange, Sources
from skyflowctl.audit.times import utc_text

_OUTCOMES = tuple(RequestOutcome)
_NOBODY = Auth()
_ORIGINS_MAX = 10_000
"""The most origins that are kept: 10 MB."""


class PairOrigin(NamedTuple):
    """What many pairs have in common: the caller and the path."""

    mount_point: str
    mount_type: str
    path: str
    namespace: tuple[str, str] | None
    display_name: str
    accessor: str
    entity_id: str
    metadata: tuple[tuple[str, str], ...] | None

    def entry(self) -> Entry:
        """Return an entry with these fields."""
        space = None if self.namespace is None else Namespace(*self.namespace)
        request = LoggedRequest(
            mount_point=self.mount_point,
            mount_type=self.mount_type,
            path=self.path,
            namespace=space,
        )
        auth = Auth(
            accessor=self.accessor,
            display_name=self.display_name,
            entity_id=self.entity_id,
            metadata=None if self.metadata is None else dict(self.metadata),
        )
        return Entry(type="response", request=request, auth=auth)


def pair_part(
    sources: Sources, part: FileRange, types: frozenset[str], *, every_change: bool, any_mount: bool
) -> Iterator[tuple[Any, ...]]:
    """Join a range of a file; nothing is yielded for a file that can only be read as a whole.

    Yields plain tuples: ``("pairs", items, origins)``, each item a line or a pair (see
    ``PairReader.add``);
    ``("seen", Sifted)`` about the blocks read so far; ``("block", block)`` for a block with lines
    that are no entries; and at last ``("end", Ending)``.

    Args:
        sources: the logs.
        part: the range.
        types: mount types of the engine.
        every_change: as for a scan.
        any_mount: entries of other types may be the engine's as well.
    """
    if part.end is None:
        return
    cut, damaged = Counter[str](), Counter[str]()
    gathered, at = Gathered(), part.start
    pairing = _Pairing(types, every_change=every_change, any_mount=any_mount)
    with sources.reading(part, damaged) as content:
        for block in blocks(content, cut):
            lines = split_lines(block)
            entries = None if b"\0" in block else decode_all(lines)
            if entries is None or cut:
                # With a line that was skipped, positions are not known any more.
                yield ("pairs", *pairing.take())
                yield ("seen", gathered.take())
                yield ("block", block)
            else:
                pairing.add(entries, lines, at)
                gathered.add(block, len(block), len(lines), Sifted(()))
            at += len(block)
    yield ("pairs", *pairing.take())
    yield ("seen", gathered.take())
    yield ("end", tuple(ending_of(part, cut, damaged, (True, True))))


_Asked = tuple[int, Entry, int, int]
"""A request that waits for its response: its index, entry, and the start and size of its line."""


class _Pairing:
    """Joins the entries of consecutive blocks."""

    def __init__(self, types: frozenset[str], *, every_change: bool, any_mount: bool) -> None:
        self._types = types
        self._any_mount = any_mount
        self._target = Recogniser(types).target
        self._every_change = every_change
        self._met: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self._items: list[bytes | tuple[Any, ...] | None] = []
        self._waiting: dict[tuple[str, str], _Asked | None] = {}
        self._origins: dict[PairOrigin, int] = {}

    def take(self) -> tuple[list[Any], list[tuple[Any, ...]]]:
        """Return the items and the origins of the pairs, and begin anew."""
        found = [item for item in self._items if item is not None], [*map(tuple, self._origins)]
        self._clear()
        return found

    def add(self, entries: Iterable[Entry], lines: Iterable[bytes], at: int) -> None:
        """Add a block of entries that starts at this position of the file."""
        types, items = self._types, self._items
        for entry, line in zip(entries, lines, strict=True):
            if entry.request.mount_type in types:
                self._ours(entry, line, at)
            elif self._matters(entry):
                items.append(line)
            at += len(line) + 1

    def _matters(self, entry: Entry) -> bool:
        """Return whether an entry of a mount that is not the engine's may matter."""
        request, response = entry.request, entry.response
        if not request.mount_type or self._any_mount:
            return True
        if response is None:
            return self._every_change and is_change(request)
        if response.auth is not None or request.path == AUTHORIZE:
            return True
        return self._every_change and (has_details(request) or is_root(entry.auth))

    def _ours(self, entry: Entry, line: bytes, at: int) -> None:
        request = entry.request
        target = self._target(request)
        if target is None or request.mount_point not in self._met:
            # The mounts of entries without a type are found by those with one.
            self._met.add(request.mount_point)
            self._keep(request, line)
        elif target.kind == CREDS:
            if asks_for_token(request.operation):
                self._creds(entry, line, at)
        elif target.kind or has_details(request) or is_root(entry.auth):
            self._items.append(line)

    def _keep(self, request: LoggedRequest, line: bytes) -> None:
        """Pass on a line as it is, and so all others about the same request."""
        self._waiting.setdefault((request.id, request.path), None)
        self._items.append(line)

    def _creds(self, entry: Entry, line: bytes, at: int) -> None:
        request = entry.request
        key = (request.id, request.path)
        if key not in self._waiting:
            is_request = entry.type == "request" and entry.response is None
            short = len(line) <= LONG_LINE_BYTES
            asked = (len(self._items), entry, at, len(line)) if is_request and short else None
            self._waiting[key] = asked
            self._items.append(line)
            return
        asked = self._waiting[key]
        pair = None if asked is None else self._pair(asked, entry, line, at)
        if asked is None or pair is None:
            self._waiting[key] = None
            self._items.append(line)
            return
        del self._waiting[key]
        self._items[asked[0]] = None
        self._items.append(pair)

    def _pair(self, asked: _Asked, entry: Entry, line: bytes, at: int) -> tuple[Any, ...] | None:
        """Return the pair of a request and its response; None if the joiner must see both."""
        _, first, first_at, first_size = asked
        when = utc_text(first.time)
        if when is None or not _is_simple(entry) or len(line) > LONG_LINE_BYTES:
            return None
        request = entry.request
        ctx, hashed, claimed, run, key_id = logged_values(entry)
        return (
            hash((request.id, request.path)),
            marks_of(hash(request.client_token), entry.time, fingerprint_of(entry)),
            self._origin(entry),
            when,
            ctx,
            hashed,
            _OUTCOMES.index(outcome_of(entry, token=True)),
            claimed,
            run,
            key_id,
            request.id,
            (first_at, first_size, at, len(line)),
        )

    def _origin(self, entry: Entry) -> int:
        request, auth = entry.request, entry.auth or _NOBODY
        space = request.namespace
        origin = PairOrigin(
            request.mount_point,
            request.mount_type,
            request.path,
            None if space is None else (space.id, space.path),
            auth.display_name,
            auth.accessor,
            auth.entity_id,
            None if auth.metadata is None else tuple(auth.metadata.items()),
        )
        return self._origins.setdefault(origin, len(self._origins))


def _is_simple(entry: Entry) -> bool:
    """Return whether an entry is a response without a role in other requests."""
    response, data = entry.response, entry.request.data
    return (
        entry.type == "response"
        and response is not None
        and response.wrap_info is None
        and FORWARDED not in entry.error
        and (data is None or data.skyflowctl_guard_probe is None)
        and not is_root(entry.auth)
    )


class PairReader:
    """Turns pairs of one part after another into rows, in the process that joins.

    Args:
        joiner: gets the rows.
        logins: finds the app of a token.
        recogniser: of the joiner.
    """

    def __init__(self, joiner: Joiner, logins: Logins, recogniser: Recogniser) -> None:
        self._joiner = joiner
        self._identity = logins.identity
        self._target = recogniser.target
        self._known: dict[tuple[Any, ...], tuple[Entry, Auth, str, str]] = {}

    def origins(self, found: Iterable[tuple[Any, ...]]) -> list[tuple[Entry, Auth, str, str]]:
        """Return entry, caller, mount and role of each origin."""
        if len(self._known) > _ORIGINS_MAX:
            self._known.clear()
        return [self._known.get(each) or self._origin(each) for each in found]

    def _origin(self, found: tuple[Any, ...]) -> tuple[Entry, Auth, str, str]:
        entry = PairOrigin(*found).entry()
        target = self._target(entry.request)
        assert target is not None
        known = entry, entry.auth or _NOBODY, target.mount, target.name
        self._known[found] = known
        return known

    def add(
        self, pair: tuple[Any, ...], origins: Sequence[tuple[Entry, Auth, str, str]], node: str
    ) -> tuple[int, int, int, int] | None:
        """Pass on the row of a pair; if its id is known, return where its lines are instead."""
        key, marks, origin, when, ctx, hashed, outcome, claimed, run, key_id, name, lines = pair
        joiner = self._joiner
        if joiner.knows(key):
            place: tuple[int, int, int, int] = lines
            return place
        entry, auth, mount, role = origins[origin]
        app, method = self._identity(auth)
        row = JoinedRow(
            when, mount, role, app, method, ctx, hashed, _OUTCOMES[outcome],
            claimed, run, key_id, name, node, None, entry,
        )  # fmt: skip
        joiner.take_paired(row, key, marks)
        return None
