"""Joins requests and responses within a part of a log, and counts them in groups.

Most token requests are followed by their response within the same part. Such a pair needs
nothing of other entries but the login of its token and whether its id occurred before, so pairs
of the same caller, role and hour are passed on together. Every other line that may matter is
passed on as it is, in its place.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from skyflowctl.audit.admin import has_details, is_change
from skyflowctl.audit.changes import CREDS, FORWARDED, asks_for_token, outcome_of
from skyflowctl.audit.clipping import LONG_LINE_BYTES
from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.entries import Auth, Entry
from skyflowctl.audit.envelopes import entries_of
from skyflowctl.audit.groups import ENDINGS, GroupScope
from skyflowctl.audit.join import AUTHORIZE, fingerprint_of, is_root
from skyflowctl.audit.lines import LineBlock
from skyflowctl.audit.logins import taught_by
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.seen import marks_of
from skyflowctl.audit.sift import Gathered, Sifted, ending_of, line_blocks
from skyflowctl.audit.sources import FileRange, Sources
from skyflowctl.audit.times import utc_text
from skyflowctl.frozen import dataclass

_NOBODY = Auth()


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
    gathered, at = Gathered(), part.start
    pairing = _Pairing(scope, at)
    with sources.reading(part, damaged) as content:
        for block, size in line_blocks(content, cut):
            found = entries_of(block, size)
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
        self._origins: dict[tuple[Any, ...], tuple[int, int]] = {}
        self._of_caller: dict[tuple[bool, str], list[tuple[Any, ...]]] = {}
        self._taught: dict[tuple[bool, str], str] = {}
        self._hour = self._day = ""

    def take(self, end: int, following: int) -> tuple[Any, ...]:
        """Return the values of a ``Section`` that ends here; begin anew at a later position."""
        self._close_groups()
        certain = not self._repeated and self._other.isdisjoint(self._marks)
        items = [item for item in self._items if item is not None] if certain else []
        found = self._start, end, certain, self._marks, items, list(self._origins)
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
        if asked is not None and short and self._add_pair(asked[1], entry):
            self._items[asked[0]] = None
            self._unpaired.pop(asked[0], None)
            return
        if asked is not None:
            self._other.add(hash(key))
        is_request = entry.type == "request" and entry.response is None
        if asked is None and is_request and short:
            number = len(self._items)
            self._waiting[key] = number, entry
            self._unpaired[number] = start, end
            self._items.append(None)
        else:
            self._keep(entry, start, end)

    def _add_pair(self, asked: Entry, entry: Entry) -> bool:
        """Add a request and its response to a group; False if the joiner must see both."""
        when = utc_text(asked.time)
        if when is None or not _is_simple(entry):
            return False
        request, scope = entry.request, self._scope.groups
        if when[:13] != self._hour:
            self._hour = when[:13]
            if when[:10] != self._day:
                self._close_groups()
                self._day = when[:10]
        origin, fingerprint = self._origin(entry)
        key = hash((request.id, request.path))
        self._repeated = self._repeated or key in self._marks
        self._marks[key] = marks_of(hash(request.client_token), entry.time, fingerprint)
        if when >= scope.until:
            return True
        ctx, hashed = ctx_text(request.data.ctx) if request.data is not None else ("", False)
        outcome = ENDINGS.index(outcome_of(entry, token=True))
        number = len(self._marks) if scope.single else 0
        name = origin, self._hour, outcome, hashed, when < scope.since, number
        group = self._open.get(name)
        if group is None:
            group = self._open[name] = [origin, outcome, hashed, name[4], when, when, b"", {}]
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

    def _close_groups(self) -> None:
        self._items += map(tuple, self._open.values())
        self._open.clear()
        self._of_caller.clear()

    def _origin(self, entry: Entry) -> tuple[int, int]:
        """Return the number of what this pair has in common with others, and its fingerprint."""
        request, auth, space = entry.request, entry.auth or _NOBODY, entry.request.namespace
        origin = (
            request.mount_point,
            request.mount_type,
            request.path,
            None if space is None else (space.id, space.path),
            auth.display_name,
            auth.accessor,
            auth.entity_id,
            None if auth.metadata is None else tuple(auth.metadata.items()),
            request.operation,
        )
        found = self._origins.get(origin)
        if found is None:
            found = self._origins[origin] = len(self._origins), fingerprint_of(entry)
        return found


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
        and not is_root(entry.auth)
    )
