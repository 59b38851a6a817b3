"""Reads the logs in one pass: records in chronological order, in bounded memory.

Iterating a ``Scan`` yields frozen records. ``Scan.rows()`` is the fast path for counting: it
yields plain named tuples as they are joined, in nearly chronological order. A scan can be used
only once.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice

from skyflowctl.audit.admin import details, has_details, is_change
from skyflowctl.audit.clipping import LONG_LINE_BYTES, clip_entry
from skyflowctl.audit.ctx import HASH_PREFIX
from skyflowctl.audit.entries import Entry, decode_all, decode_line
from skyflowctl.audit.envelopes import Opener
from skyflowctl.audit.join import Handlers, JoinedRow, Joiner
from skyflowctl.audit.lines import TOO_LONG, blocks, lines_with
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import Counts, UnreadSpan
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.reorder import REORDER_SECONDS, Holding, Record
from skyflowctl.audit.sources import LogFile, Sources, Stream
from skyflowctl.audit.times import parse_utc
from skyflowctl.audit.unread import Dating, Unread, known_format, no_audit_log

LOGIN_NEEDLE = b'mount_class":"auth"'
"""A text in every entry of a login; fast to search for, as none of its suffixes is frequent."""
APPROVAL_NEEDLE = b"sys/control-group/authorize"
UNWRAP_NEEDLES = (b"wrapping/", b"cubbyhole/response")
WRAP_NEEDLE = b'"wrap_info"'

_SAFE_RUN = re.compile(r"[A-Za-z0-9:_.,;=@#%+~^*()!?|-]+")
_NEEDLE_MIN = 4

_MERGED_AT_ONCE = 64

Origin = tuple[str, int]
"""A node, and the number of the stream of one device."""
Fed = tuple[Entry, str, int, int]
"""An entry, its node, the size of its line, the number of its stream."""


_TOKEN_TYPE = b'"token_type":"'
_HASH_START = HASH_PREFIX.encode()


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a scan looks for.

    Args:
        plugin_names: the mount types of the engine.
        mounts: paths of mounts that are the engine's whatever their type; not a filter.
        prefilter: only lines that contain one of these texts are decoded (besides logins and
            unwraps), so only they can be found damaged. The records must still be filtered,
            because a line may contain the text elsewhere. Empty: every line.
        device_hashes: with a prefilter: the hashes of ``Bearer`` by the devices that were asked.
        notice: with a prefilter: texts that ``Scan.noticed`` reports if they occur, although
            the lines that contain them are not decoded.
        wrapped: with a prefilter: also decode every wrapped answer, because only its unwrap
            shows the text (a bearer's hash).
        reorder_seconds: how long a record waits for earlier ones; 0 when following.
        every_change: also yield changes of roles and of the server's own settings, and all
            requests of root tokens; only ``rows`` yields them.
        hold_wrapped: a wrapped record waits until its unwrap is known (or its ttl has ended,
            or the log ends), so it is out of order.
    """

    plugin_names: tuple[str, ...] = ("skyflow",)
    mounts: tuple[str, ...] | None = None
    prefilter: tuple[bytes, ...] = ()
    notice: tuple[bytes, ...] = ()
    device_hashes: tuple[bytes, ...] = ()
    wrapped: bool = False
    reorder_seconds: float = REORDER_SECONDS
    hold_wrapped: bool = True
    every_change: bool = False


def needle(text: str) -> bytes | None:
    """Return the longest part of a text that no JSON writer escapes.

    None if no part has a useful length; every line must then be decoded.
    """
    runs = _SAFE_RUN.findall(text)
    longest = max(runs, key=len, default="")
    return longest.encode() if len(longest) >= _NEEDLE_MIN else None


def scan(sources: Sources, options: ScanOptions | None = None) -> "Scan":
    """Return a scan of these logs; see ``Scan``."""
    return Scan(sources, options or ScanOptions())


def scan_marked(lines: Iterable[tuple[bytes, str]], options: ScanOptions | None = None) -> "Scan":
    """Return a scan of lines that arrive as they are written, each with its node's name."""
    return Scan(Sources(()), options or ScanOptions(), lines=lines)


class Scan:
    """One pass over logs.

    Args:
        sources: the logs to read.
        options: what to look for.
        lines: lines to read instead of the sources, each with the node that wrote it.

    Attributes:
        noticed: the texts of the options' ``notice`` that occurred.
        foreign_hashes: token answers that no device of ``device_hashes`` wrote.
        covered: the first and last readable time in each node's logs, as text.
    """

    def __init__(
        self,
        sources: Sources,
        options: ScanOptions,
        *,
        lines: Iterable[tuple[bytes, str]] | None = None,
    ) -> None:
        self._sources = sources
        self._options = options
        self._extra = lines
        self.noticed: set[bytes] = set()
        self.foreign_hashes = 0
        self.covered: dict[str, tuple[str, str]] = {}
        self._damaged: Counter[str] = Counter()
        self._unwrapped: Counter[str] = Counter()
        self._unread = Unread()
        self._lines = self._bytes = self._files = 0
        self._joiner: Joiner | None = None
        # Older servers do not log the type, nor does a request for a removed mount have it.
        self._types: Container[str] = (
            _AnyType() if options.mounts else frozenset({*options.plugin_names, ""})
        )
        self._holding: Holding | None = None

    def __iter__(self) -> Iterator[Record]:
        """Yield every token request and credential change in chronological order."""
        logins = Logins()
        holding = self._holding = Holding(
            logins,
            reorder_seconds=self._options.reorder_seconds,
            hold_wrapped=self._options.hold_wrapped,
        )
        joiner = self._joiner = Joiner(
            self._recogniser(),
            logins,
            Handlers(holding.add, holding.copied, holding.unwrapped, holding.was_parked),
        )
        feed = joiner.feed
        for batch in self._batches():
            for entry, node, size, stream in batch:
                feed(entry, node, size, stream)
            yield from holding.ready()
        joiner.finish()
        yield from holding.rest()

    def rows(self) -> Iterator[JoinedRow]:
        """Yield every token request and credential change as it is joined, fast."""
        joined: list[JoinedRow] = []
        joiner = self._joiner = Joiner(
            self._recogniser(),
            Logins(),
            Handlers(joined.append),
            every_change=self._options.every_change,
        )
        feed = joiner.feed
        for batch in self._batches():
            for entry, node, size, stream in batch:
                feed(entry, node, size, stream)
            yield from joined
            joined.clear()
        joiner.finish()
        yield from joined

    def counts(self) -> Counts:
        """Return the counts so far; they are complete after the end."""
        joiner = self._joiner
        damaged = self._damaged + self._sources.damaged + (joiner.damaged if joiner else Counter())
        return Counts(
            files=self._files,
            bytes=self._bytes,
            lines=self._lines,
            requests=joiner.requests if joiner else 0,
            damaged=tuple(sorted(damaged.items())),
            duplicates=joiner.duplicates if joiner else 0,
            forwards=joiner.forwards if joiner else 0,
            unpaired=joiner.unpaired if joiner else 0,
            unwrapped=tuple(sorted(self._unwrapped.items())),
            unread=self._unread_span(),
        )

    def _unread_span(self) -> UnreadSpan:
        first, last = self._unread.span()
        return UnreadSpan(
            self._unread.lines,
            parse_utc(first) if first else None,
            parse_utc(last) if last else None,
        )

    def _recogniser(self) -> Recogniser:
        return Recogniser(self._options.plugin_names, self._options.mounts or ())

    def _batches(self) -> Iterator[Iterable[Fed]]:
        """Yield the entries of all streams in batches, merged by time."""
        if self._extra is not None:
            return self._of_lines(self._extra)
        streams = [self._of_stream(*each) for each in enumerate(self._sources.streams)]
        if len(streams) == 1:
            return streams[0]
        entries = merge(*(chain.from_iterable(each) for each in streams), key=_time_key)
        return iter(lambda: list(islice(entries, _MERGED_AT_ONCE)), [])

    def _of_lines(self, lines: Iterable[tuple[bytes, str]]) -> Iterator[list[Fed]]:
        openers: dict[str, Opener] = {}
        numbers: dict[str, int] = {}
        for line, node in lines:
            self._bytes += len(line) + 1
            opener = openers.get(node)
            if opener is None:
                opener = openers[node] = self._opener()
            before = opener.lines
            if opened := opener.open(line):
                yield self._decoded(_split(opened), (node, numbers.setdefault(node, len(numbers))))
            self._lines += opener.lines - before
        for node, opener in openers.items():
            opener.close()
            self._check_proved(opener, node)

    def _opener(self) -> Opener:
        return Opener(self._damaged, self._unread, self._unwrapped)

    def _of_stream(self, number: int, stream: Stream) -> Iterator[list[Fed]]:
        for file in stream.files:
            yield from self._of_file(file, (stream.node, number))

    def _of_file(self, file: LogFile, origin: Origin) -> Iterator[list[Fed]]:
        self._files += 1
        opener = self._opener()
        cut: Counter[str] = Counter()
        broken = self._sources.damaged.total()
        with self._sources.reading(file) as content:
            for block in blocks(content, cut):
                if not opener.head and known_format(block):
                    raise no_audit_log(file.name, block)
                if not self._options.prefilter:
                    yield self._whole(block, origin, opener)
                elif opened := opener.open(block):
                    yield from self._wanted(opened, origin)
        self._lines += opener.lines
        self._end(opener, origin[0], cut, broken=self._sources.damaged.total() - broken)
        if file.read is not None:
            self._bytes += file.read.bytes
        self._check_proved(opener, file.name)

    def _end(self, opener: Opener, node: str, cut: Counter[str], *, broken: int) -> None:
        """Record the counts of a file that was read to its end."""
        opener.close()
        self._damaged.update(cut)
        first, last = opener.first, opener.last or opener.first
        if cut[TOO_LONG]:
            self._unread.add(first, last, cut[TOO_LONG])
        if broken:
            self._unread.add(last, "", 0)
        opener.lines += cut[TOO_LONG] + broken
        if first:
            known = self.covered.get(node, (first, last))
            self.covered[node] = min(first, known[0]), max(last, known[1])

    def _check_proved(self, opener: Opener, name: str) -> None:
        """Refuse a file that has content but no entry.

        Raises:
            InvalidInputError: the file is not an audit log; the error says what it is.
        """
        if (opener.lines and not opener.proved) or known_format(opener.head):
            raise no_audit_log(name, opener.head)

    def _whole(self, block: bytes, origin: Origin, opener: Opener) -> list[Fed]:
        """Decode every line of a block and return its entries."""
        if b"\0" not in block:
            lines = _split(block)
            entries = decode_all(lines)
            if entries is not None:
                opener.take(block, len(lines))
                return self._chosen(zip(entries, lines, strict=True), origin)
        opened = opener.open(block)
        return self._decoded(_split(opened), origin) if opened else []

    def _wanted(self, block: bytes, origin: Origin) -> Iterator[list[Fed]]:
        """Search a block, and yield only the entries that may match, decoded."""
        for text in self._options.notice:
            if text not in self.noticed and text in block:
                self.noticed.add(text)
        if self._options.device_hashes:
            ours = sum(block.count(_TOKEN_TYPE + one) for one in self._options.device_hashes)
            self.foreign_hashes += block.count(_TOKEN_TYPE + _HASH_START) - ours
        needles = (*self._options.prefilter, LOGIN_NEEDLE)
        if self._options.wrapped:
            needles = (*needles, WRAP_NEEDLE)
        # Another stream may have passed an unwrap before its wrapped answer is read.
        early = self._options.wrapped or len(self._sources.streams) > 1 or self._wants_unwraps()
        if early:
            needles = (*needles, *UNWRAP_NEEDLES)
        approvals = len(self._sources.streams) > 1 or self._wants_approvals()
        if approvals:
            needles = (*needles, APPROVAL_NEEDLE)
        if lines := lines_with(block, needles):
            found = self._decoded(lines, origin)
            if not approvals and any(_is_behind_a_token(fed[0]) for fed in found):
                # A request may be parked, approved and executed in the same block.
                found += self._decoded(lines_with(block, (APPROVAL_NEEDLE,)), origin)
                found.sort(key=_time_key)
            yield found
        if not early and self._wants_unwraps():
            yield self._decoded(lines_with(block, UNWRAP_NEEDLES), origin)

    def _wants_approvals(self) -> bool:
        return self._joiner is not None and self._joiner.wants_approvals

    def _wants_unwraps(self) -> bool:
        return self._holding is not None and self._holding.wants_unwraps

    def _decoded(self, lines: Sequence[bytes], origin: Origin) -> list[Fed]:
        """Return the entries of these lines, except requests on mounts that are not ours."""
        return self._chosen(self._entries(lines), origin)

    def _entries(self, lines: Sequence[bytes]) -> Iterator[tuple[Entry, bytes]]:
        """Yield these entries and those of the lines; other lines are counted."""
        dating = Dating(self._unread)
        for line in lines:
            entry = decode_line(line)
            if isinstance(entry, str):
                self._damaged[entry] += 1
                dating.unreadable(line)
            else:
                dating.readable(line)
                yield entry, line
        dating.end()

    def _chosen(self, entries: Iterable[tuple[Entry, bytes]], origin: Origin) -> list[Fed]:
        """Return the entries that may match."""
        found: list[Fed] = []
        ours, changes = self._types, self._options.every_change
        node, number = origin
        for entry, line in entries:
            request = entry.request
            if entry.response is None:
                named = request.mount_type
                if named and named not in ours and not (changes and is_change(request)):
                    continue
            elif changes and has_details(request):
                entry.details = details(line)
            size = len(line)
            found.append(
                (clip_entry(entry) if size > LONG_LINE_BYTES else entry, node, size, number)
            )
        return found


def _is_behind_a_token(entry: Entry) -> bool:
    """Return whether an answer is a wrapping token."""
    return entry.response is not None and entry.response.wrap_info is not None


def _split(block: bytes) -> list[bytes]:
    """Return the lines of a block of entries."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


class _AnyType:
    """A set that contains every type, for mounts that are known by their path."""

    def __contains__(self, mount_type: object) -> bool:
        return True


def _time_key(fed: Fed) -> str:
    """Return the key by which streams are merged: without the Z, the texts sort like the times."""
    return fed[0].time[:-1]
