"""Joins requests and responses within a part of a log, and counts them in groups.

Most token requests are followed by their response within the same part. Such a pair needs
nothing of other entries but the login of its token and whether its id occurred before, so pairs
of the same caller, role and hour are passed on together. Every other line that may matter is
passed on as it is, in its place.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from skyflowctl.audit.admin import has_details, is_change
from skyflowctl.audit.changes import CREDS, FORWARDED, asks_for_token, outcome_of
from skyflowctl.audit.clipping import LONG_LINE_BYTES
from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.entries import Auth, Entry, SharedAuths
from skyflowctl.audit.envelopes import entries_of
from skyflowctl.audit.groups import ENDINGS, GroupScope
from skyflowctl.audit.join import AUTHORIZE, fingerprint_of, is_root
from skyflowctl.audit.lines import LineBlock
from skyflowctl.audit.logins import taught_by
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.seen import marks_of
from skyflowctl.audit.sift import Gathered, Sifted, ending_of, line_blocks
from skyflowctl.audit.sources import FileRange, Sources
from skyflowctl.audit.times import utc_text
from skyflowctl.frozen import dataclass

_NOBODY = Auth()
_GRANTED = ENDINGS.index(RequestOutcome.GRANTED)
_is_minute = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:").fullmatch
_are_seconds = re.compile(r"[0-5][0-9]\.[0-9]{1,9}Z").fullmatch


@dataclass(frozen=True, slots=True)
class PairScope:
    """Which entries are joined.

    Args:
        types: mount types of the engine.
        groups: which pairs are counted together.
        every_change: as for a scan.
        any_mount: entries of other types may be the engine's as well.
    """

    types: frozenset[str]
    groups: GroupScope
    every_change: bool
    any_mount: bool


def pair_part(sources: Sources, part: FileRange, scope: PairScope) -> Iterator[tuple[Any, ...]]:
    """Join a range of a file; nothing is yielded for a file that can only be read as a whole.

    Yields plain tuples: ``("section", ...)`` with the values of a ``Section``;
    ``("seen", Sifted)`` about the blocks read so far; ``("block", block)`` for a block with lines
    that are no entries; and at last ``("end", Ending)``.
    """
    if part.end is None:
        return
    cut, damaged = Counter[str](), Counter[str]()
    gathered, at, auths = Gathered(), part.start, SharedAuths()
    pairing = _Pairing(scope, at)
    with sources.reading(part, damaged) as content:
        for block, size in line_blocks(content, cut):
            found = entries_of(block, size, auths)
            if found is None or cut:
                # With a line that was skipped, positions are not known any more.
                yield ("section", *pairing.take(at, at + size))
                yield ("seen", gathered.take())
                yield ("block", bytes(block[:size]))
            else:
                pairing.add(block, *found)
                gathered.add(block, size, len(found[0]), Sifted(()))
            at += size
    yield ("section", *pairing.take(at, at))
    yield ("seen", gathered.take())
    yield ("end", tuple(ending_of(part, cut, damaged, (True, True))))


_Key = tuple[str, str]
"""Id and path of a request."""
_Asked = tuple[int, Entry]
"""A request that waits for its response: the index of its line, and its entry."""


class _Origin(NamedTuple):
    """What requests have in common: their token, and what they ask for.

    Args:
        number: its number in the section.
        common: an item of ``Section.origins``.
        auth: the token.
        device: the token as the device hashes it.
        fingerprint: what is equal on all devices.
        is_root: whether it is a root token.
    """

    number: int
    common: tuple[Any, ...]
    auth: Auth | None
    device: int
    fingerprint: int
    is_root: bool


class _Pairing:
    """Joins the entries of consecutive blocks, from this position of the file on."""

    def __init__(self, scope: PairScope, start: int) -> None:
        self._scope = scope
        self._target = Recogniser(scope.types).target
        self._met: set[str] = set()
        self._block: LineBlock = b""
        self._clear(start)

    def _clear(self, start: int) -> None:
        self._start = start
        self._items: list[bytes | tuple[Any, ...] | None] = []
        self._unpaired: dict[int, tuple[int, int]] = {}
        """Requests of this block without a response, by the index of their line."""
        self._waiting: dict[_Key, _Asked | None] = {}
        self._marks: dict[int, int] = {}
        self._other: set[int] = set()
        self._repeated = False
        self._open: dict[tuple[Any, ...], list[Any]] = {}
        self._origins: dict[tuple[Any, ...], _Origin] = {}
        self._of_caller: dict[tuple[bool, str], list[tuple[Any, ...]]] = {}
        self._taught: dict[tuple[bool, str], str] = {}
        self._hour = self._day = self._minute = ""

    def take(self, end: int, following: int) -> tuple[Any, ...]:
        """Return the values of a ``Section`` that ends here; begin anew at a later position."""
        self._close_groups()
        certain = not self._repeated and self._other.isdisjoint(self._marks)
        items = [item for item in self._items if item is not None] if certain else []
        origins = [each.common for each in self._origins.values()]
        found = self._start, end, certain, self._marks, items, origins
        self._clear(following)
        return found

    def add(self, block: LineBlock, entries: Iterable[Entry], ends: Iterable[int]) -> None:
        """Add a block of entries, by the end of each line."""
        types, start = self._scope.types, 0
        self._block = block
        for entry, end in zip(entries, ends, strict=True):
            if entry.request.mount_type in types:
                self._ours(entry, start, end)
            elif self._matters(entry):
                self._teach(entry)
                self._pass_on(entry, start, end)
            start = end + 1
        for number, (start, end) in self._unpaired.items():
            self._items[number] = bytes(block[start:end])
        self._unpaired.clear()

    def _matters(self, entry: Entry) -> bool:
        """Return whether an entry of a mount that is not the engine's may matter."""
        request, response, scope = entry.request, entry.response, self._scope
        if not request.mount_type or scope.any_mount:
            return True
        if response is None:
            return scope.every_change and is_change(request)
        if response.auth is not None or request.path == AUTHORIZE:
            return True
        return scope.every_change and (has_details(request) or is_root(entry.auth))

    def _teach(self, entry: Entry) -> None:
        """Close the groups of a caller whose login may be known from this entry on."""
        accessor, entity, method = taught_by(entry)
        for caller in ((True, accessor), (False, entity)):
            if method and caller[1] and self._taught.get(caller) != method:
                self._taught[caller] = method
                for key in self._of_caller.pop(caller, ()):
                    if (group := self._open.pop(key, None)) is not None:
                        self._items.append(tuple(group))

    def _ours(self, entry: Entry, start: int, end: int) -> None:
        request = entry.request
        target = self._target(request)
        if target is None or request.mount_point not in self._met:
            # The mounts of entries without a type are found by those with one.
            self._met.add(request.mount_point)
            self._keep(entry, start, end)
        elif target.kind == CREDS:
            if asks_for_token(request.operation):
                self._creds(entry, start, end)
        elif target.kind or has_details(request) or is_root(entry.auth):
            self._keep(entry, start, end)

    def _pass_on(self, entry: Entry, start: int, end: int) -> None:
        """Pass on a line as it is, after the groups of earlier days."""
        if entry.time[:10] != self._day or entry.time[-1:] != "Z":
            self._close_groups()
        self._other.add(hash((entry.request.id, entry.request.path)))
        self._items.append(bytes(self._block[start:end]))

    def _keep(self, entry: Entry, start: int, end: int) -> None:
        """Pass on a line as it is, and so all later ones about the same request."""
        request = entry.request
        self._waiting.setdefault((request.id, request.path), None)
        self._pass_on(entry, start, end)

    def _creds(self, entry: Entry, start: int, end: int) -> None:
        request = entry.request
        key, short = (request.id, request.path), end - start <= LONG_LINE_BYTES
        asked = self._waiting.pop(key, None)
        if asked is not None:
            number, first = asked
            if short and self._add_pair(first.time, entry, key):
                self._items[number] = None
                self._unpaired.pop(number, None)
                return
            self._other.add(hash(key))
        elif short and entry.response is None and entry.type == "request":
            number = len(self._items)
            self._waiting[key] = number, entry
            self._unpaired[number] = start, end
            self._items.append(None)
            return
        self._keep(entry, start, end)

    def _add_pair(self, asked: str, entry: Entry, key: _Key) -> bool:
        """Add a request of this time, and its response, to a group; False if the joiner must see
        both."""
        when = self._time_of(asked)
        origin, scope, data = self._origin(entry), self._scope.groups, entry.request.data
        if when is None or origin.is_root or not _is_simple(entry):
            return False
        mark = hash(key)
        self._repeated = self._repeated or mark in self._marks
        self._marks[mark] = marks_of(origin.device, entry.time, origin.fingerprint)
        if when >= scope.until:
            return True
        ctx, hashed = ("", False) if data is None else ctx_text(data.ctx)
        number = len(self._marks) if scope.single else 0
        name = origin.number, self._hour, _ending(entry), hashed, when < scope.since, number
        group = self._open.get(name)
        if group is None:
            group = self._open[name] = [name[0], name[2], hashed, name[4], when, when, b"", {}]
            group[6] = bytearray()
            auth = entry.auth or _NOBODY
            for caller in ((True, auth.accessor), (False, auth.entity_id)):
                self._of_caller.setdefault(caller, []).append(name)
        elif when > group[5]:
            group[5] = when
        elif when < group[4]:
            group[4] = when
        group[6].append(int(when[14:16]))
        if ctx:
            group[7][ctx] = None
        return True

    def _time_of(self, time: str) -> str | None:
        """Return a time in UTC as ``utc_text`` does; close the groups of earlier days."""
        if time[:17] == self._minute and _are_seconds(time, 17):
            return time[:-1]
        when = utc_text(time)
        if when is not None:
            self._minute = time[:17] if time[-1] == "Z" and _is_minute(time, 0, 17) else ""
            self._hour = when[:13]
            if when[:10] != self._day:
                self._close_groups()
                self._day = when[:10]
        return when

    def _close_groups(self) -> None:
        self._items += map(tuple, self._open.values())
        self._open.clear()
        self._of_caller.clear()

    def _origin(self, entry: Entry) -> _Origin:
        """Return what a request has in common with others."""
        request, auth, space = entry.request, entry.auth, entry.request.namespace
        # Entries of a token mostly share their auth; origins that are equal do no harm.
        key = (
            id(auth),
            request.path,
            request.operation,
            request.mount_point,
            request.mount_type,
            request.client_token,
            None if space is None else (space.id, space.path),
        )
        found = self._origins.get(key)
        if found is None:
            who = auth or _NOBODY
            metadata = None if who.metadata is None else tuple(who.metadata.items())
            common = (
                request.mount_point,
                request.mount_type,
                request.path,
                key[-1],
                who.display_name,
                who.accessor,
                who.entity_id,
                metadata,
                request.operation,
            )
            number, device = len(self._origins), hash(request.client_token)
            found = _Origin(number, common, auth, device, fingerprint_of(entry), is_root(auth))
            self._origins[key] = found
        return found


def _ending(entry: Entry) -> int:
    """Return the number of a request's outcome."""
    answer = None if entry.response is None else entry.response.data
    if entry.error or answer is None or answer.access_token is None or answer.error is not None:
        return ENDINGS.index(outcome_of(entry, token=True))
    return _GRANTED


def _is_simple(entry: Entry) -> bool:
    """Return whether an entry is a response that concerns no other request, nor a run."""
    response, request = entry.response, entry.request
    data, headers = request.data, request.headers
    return (
        entry.type == "response"
        and response is not None
        and response.wrap_info is None
        and not (headers is not None and headers.run)
        and FORWARDED not in entry.error
        and (data is None or data.skyflowctl_guard_probe is None)
    )
