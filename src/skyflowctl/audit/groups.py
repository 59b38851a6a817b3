"""Token requests that were joined and counted together, by another process.

``pair_part`` makes the sections; ``SectionReader`` turns them into groups, in the process that
joins. A section whose requests depend on earlier ones in another way is read again there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from skyflowctl.audit.entries import Auth, Entry, LoggedRequest, Namespace
from skyflowctl.audit.join import Joiner
from skyflowctl.audit.lines import blocks, split_lines
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.ranges import RangeReader
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.sources import FileRange
from skyflowctl.frozen import dataclass

ENDINGS = tuple(RequestOutcome)
_NOBODY = Auth()
_ORIGINS_MAX = 10_000
"""The most origins that are kept: 10 MB."""


@dataclass(frozen=True, slots=True)
class GroupScope:
    """Which token requests may be counted together.

    Args:
        since: the start of the range, as a row's time; earlier ones have their own groups.
        until: the end, exclusive; later ones are not passed on.
        single: each request is a group.
    """

    since: str = ""
    until: str = "~"
    single: bool = False


class RequestGroup(NamedTuple):
    """Token requests of one caller and role, in one hour, that ended alike.

    None of them has a run, a wrapped answer or a root token. The order of a section's groups
    may differ from that of the log, but not across days or logins of a caller.

    Args:
        mount: as in a ``JoinedRow``, like ``role``, ``app``, ``auth``, ``outcome``, ``ctx_hashed``.
        role: the engine's role.
        app: the login's own name.
        auth: how it logged in.
        outcome: how the requests ended.
        ctx_hashed: whether the values of ctx are hashed.
        entry: an entry with the mount, the path and the caller, without anything else.
        before: whether they are before the range.
        first: the time of the earliest.
        last: the time of the latest.
        minutes: for each request, the minute of its time.
        ctxs: the different values of ctx.
    """

    mount: str
    role: str
    app: str
    auth: str
    outcome: RequestOutcome
    ctx_hashed: bool
    entry: Entry
    before: bool
    first: str
    last: str
    minutes: bytes
    ctxs: Sequence[str]


class GroupHandler(Protocol):
    """Takes groups instead of rows."""

    @property
    def scope(self) -> GroupScope:
        """Which requests may be counted together."""
        ...

    def has_room(self, groups: int, ctxs: int) -> bool:
        """Return whether so many groups and values of ctx reach no limit within a section."""
        ...

    def add_group(self, group: RequestGroup) -> None:
        """Add a group."""
        ...


class Section(NamedTuple):
    """A part of a range that holds only entries.

    Args:
        start: its position in the file.
        end: where it ends.
        certain: False: requests in it have the same id, so it must be read again.
        marks: what is remembered of each joined request, by its key.
        items: lines as they are, and groups.
        origins: what the requests of groups have in common.
    """

    start: int
    end: int
    certain: bool
    marks: dict[int, int]
    items: list[Any]
    origins: list[tuple[Any, ...]]


class SectionReader:
    """Reads sections in the process that joins.

    Args:
        joiner: gets the ids.
        logins: finds the app of a token.
        recogniser: of the joiner.
        handler: gets the groups.
    """

    def __init__(
        self, joiner: Joiner, logins: Logins, recogniser: Recogniser, handler: GroupHandler
    ) -> None:
        self._joiner = joiner
        self._logins = logins
        self._target = recogniser.target
        self._handler = handler
        self.scope = handler.scope
        self._known: dict[tuple[Any, ...], tuple[Entry, Auth, str, str]] = {}

    def lines(
        self, section: Section, part: FileRange, damaged: Counter[str]
    ) -> Iterator[list[bytes]]:
        """Yield the lines that must be joined here, and hand over the groups between them.

        Args:
            section: of a part.
            part: the part, to read lines again.
            damaged: counts what can no longer be read.
        """
        if not self._is_usable(section):
            assert part.opened is not None  # only ranges have sections
            again = RangeReader(part.opened, section.start, section.end, damaged)
            yield from map(split_lines, blocks(again, damaged))
            return
        self._joiner.take_joined(section.marks)
        if len(self._known) > _ORIGINS_MAX:
            self._known.clear()
        origins = [self._known.get(each) or self._origin(each) for each in section.origins]
        for item in section.items:
            if isinstance(item, bytes):
                yield [item]
            else:
                self._hand_over(item, origins)

    def _is_usable(self, section: Section) -> bool:
        """Return whether the groups of a section give what its lines would give."""
        groups = [item for item in section.items if not isinstance(item, bytes)]
        ctxs = sum(len(group[7]) for group in groups)
        if not section.certain or not self._handler.has_room(len(groups), ctxs):
            return False
        if self._joiner.duplicates and any(group[2] for group in groups):
            return False  # another device may hash a ctx in another way
        forgotten = self._logins.may_forget(len(section.items) - len(groups))
        callers = {name for each in section.origins for name in each[5:7]}
        return forgotten.isdisjoint(callers) and self._joiner.knows_none(section.marks)

    def _origin(self, found: tuple[Any, ...]) -> tuple[Entry, Auth, str, str]:
        mount_point, mount_type, path, space, display, accessor, entity, metadata, _ = found
        request = LoggedRequest(mount_point=mount_point, mount_type=mount_type, path=path)
        request.namespace = None if space is None else Namespace(*space)
        auth = Auth(accessor=accessor, display_name=display, entity_id=entity)
        auth.metadata = None if metadata is None else dict(metadata)
        target = self._target(request)
        assert target is not None
        entry = Entry(type="response", request=request, auth=auth)
        known = self._known[found] = entry, auth, target.mount, target.name
        return known

    def _hand_over(
        self, item: tuple[Any, ...], origins: Sequence[tuple[Entry, Auth, str, str]]
    ) -> None:
        origin, outcome, hashed, before, first, last, minutes, ctxs = item
        entry, auth, mount, role = origins[origin]
        app, method = self._logins.identity(auth)
        self._handler.add_group(
            RequestGroup(
                mount,
                role,
                app,
                method,
                ENDINGS[outcome],
                hashed,
                entry,
                before,
                first,
                last,
                minutes,
                tuple(ctxs),
            )
        )
