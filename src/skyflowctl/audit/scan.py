"""Reads the logs in one pass: records in chronological order, in bounded memory.

Iterating a ``Scan`` yields frozen records. ``Scan.rows()`` is the fast path for counting: it
yields plain named tuples as they are joined, in nearly chronological order. A scan can be used
only once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain, islice
from typing import Any

from skyflowctl.audit.chosen import EntryChooser, Fed, Origin
from skyflowctl.audit.entries import decode_all
from skyflowctl.audit.envelopes import Opener
from skyflowctl.audit.groups import GroupHandler, Section, SectionReader
from skyflowctl.audit.join import Handlers, JoinedRow, Joiner
from skyflowctl.audit.lines import TOO_LONG, blocks, split_lines
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import Counts, UnreadSpan
from skyflowctl.audit.pairing import PairScope, pair_part
from skyflowctl.audit.processes import worked
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.reorder import Holding, Record
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.sift import Ending, Sifted, Sifter, SoughtTexts, ending_of, yield_digest
from skyflowctl.audit.sources import FileRange, Input, LogFile, Sources, Stream
from skyflowctl.audit.times import parse_utc
from skyflowctl.audit.unread import Unread, known_format, no_audit_log

_MERGED_AT_ONCE = 64


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
        self._sections: SectionReader | None = None
        texts = SoughtTexts(
            options.prefilter,
            options.wrapped,
            options.notice,
            options.device_hashes,
            options.hash_field,
        )
        # Another stream may have passed an unwrap before its wrapped answer is read.
        early = options.wrapped or len(sources.streams) > 1
        self._sifter = Sifter(texts, unwraps=early)
        self._chooser = EntryChooser(options, self._damaged, self._unread)

    def __iter__(self) -> Iterator[Record]:
        """Yield every token request and credential change in chronological order."""
        logins = Logins()
        holding = Holding(
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

    def rows(self, groups: GroupHandler | None = None) -> Iterator[JoinedRow]:
        """Yield every token request and credential change as it is joined, fast.

        Args:
            groups: takes token requests that need not be yielded one by one, in their place
                between the rows. None: all are yielded.
        """
        joined: list[JoinedRow] = []
        recogniser, logins = self._recogniser(), Logins()
        joiner = self._joiner = Joiner(
            recogniser,
            logins,
            Handlers(joined.append),
            every_change=self._options.every_change,
        )
        if groups is not None and len(self._sources.streams) == 1:
            # The copies of several devices arrive between a request and its response.
            self._sections = SectionReader(joiner, logins, recogniser, groups)
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
        damaged = self._damaged + (joiner.damaged if joiner else Counter())
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
                yield self._chooser.decoded(
                    split_lines(opened), (node, numbers.setdefault(node, len(numbers)))
                )
            self._lines += opener.lines - before
        for node, opener in openers.items():
            opener.close()
            self._check_proved(opener, node)

    def _opener(self) -> Opener:
        return Opener(self._damaged, self._unread, self._unwrapped)

    def _of_stream(self, number: int, stream: Stream) -> Iterator[Iterable[Fed]]:
        parts = self._sources.ranges(stream)
        try:
            yield from self._of_parts(parts, stream, (stream.node, number))
        finally:
            self._sources.release(parts)

    def _of_parts(
        self, parts: Sequence[FileRange], stream: Stream, origin: Origin
    ) -> Iterator[Iterable[Fed]]:
        opener = self._opener()
        processes = self._sources.readers_of(stream)
        digests = self._digests(parts, min(1, processes))
        # Others can search and pair; all the rest is read here.
        readers = processes if self._options.prefilter or self._sections is not None else 0
        for part, results in worked(parts, self._read_part, readers):
            if part.start == 0:
                opener = self._opener()
                self._files += 1
            if self._options.prefilter:
                yield from self._of_results(self._checked(results, part), part, opener, origin)
            elif self._sections is not None and part.end is not None:
                yield from self._of_sections(self._sections, results, part, opener, origin)
            else:
                list(results)
                yield from self._of_part(part, opener, origin)
            if part.is_last:
                self._end_file(part, opener, digests)

    def _digests(self, parts: Sequence[FileRange], processes: int) -> Iterator[Any]:
        """Return the digests of the files that are read in ranges, in order."""
        found: list[FileRange | None] = [part for part in parts if part.is_last and part.end]
        if not found or not self._sources.digest:
            return iter(())
        digests = worked([None, *found], yield_digest, processes)
        list(next(digests)[1])  # begins now
        return digests

    def _read_part(self, part: FileRange) -> Iterator[tuple[Any, ...]]:
        """Read a part, perhaps in another process. Without a result, it must be read here."""
        options = self._options
        if options.prefilter:
            return self._sifter.sift_part(self._sources, part)
        if self._sections is None:
            return iter(())
        types, groups = frozenset(options.plugin_names), self._sections.scope
        scope = PairScope(types, groups, options.every_change, bool(options.mounts))
        return pair_part(self._sources, part, scope)

    def _of_sections(
        self,
        reader: SectionReader,
        results: Iterator[Any],
        part: FileRange,
        opener: Opener,
        origin: Origin,
    ) -> Iterator[Iterable[Fed]]:
        """Yield the entries of a part that are not joined yet; groups get the others."""
        for kind, *values in results:
            if kind == "section":
                # Each batch alone: its rows are yielded before the groups that follow.
                for lines in reader.lines(Section(*values), part, self._damaged):
                    yield self._chooser.decoded(lines, origin)
            elif kind == "seen":
                sifted = Sifted(*values[0])
                opener.pass_over(*sifted[3:7], proved=sifted.proved)
            elif kind == "block":
                self._check_format(part.file, opener, values[0])
                yield self._whole(values[0], origin, opener)
            else:
                self._end_part(part, opener, Ending(*values[0]))

    def _checked(self, results: Iterator[Any], part: FileRange) -> Iterator[Any]:
        """Return the results for a part; search it again if it had to be searched for more."""
        if part.end is None or not self._sifter.finds_unwraps:
            return results
        known = list(results)
        if Ending(*known[-1]).unwraps[0]:
            return iter(known)
        return self._read_part(part)

    def _of_results(
        self, results: Iterator[Any], part: FileRange, opener: Opener, origin: Origin
    ) -> Iterator[list[Fed]]:
        """Yield the entries that a search of a part found."""
        for result in results:
            if len(result) == len(Ending._fields):
                ending = Ending(*result)
                if ending.unwraps[1]:
                    self._sifter.find_unwraps()
                self._end_part(part, opener, ending)
                continue
            sifted = Sifted(*result)
            if sifted.lines < 0:
                (block,) = sifted.found
                self._check_format(part.file, opener, block)
                entries = opener.open_lines(block)
                sifted = self._sifter.sift(entries, len(entries))
            else:
                opener.pass_over(*sifted[3:7], proved=sifted.proved)
            self.noticed.update(sifted.noticed)
            self.foreign_hashes += sifted.foreign
            if sifted.found:
                yield self._chooser.decoded(sifted.found, origin)

    def _of_part(self, part: FileRange, opener: Opener, origin: Origin) -> Iterator[list[Fed]]:
        """Yield the entries of a part."""
        cut, damaged = Counter[str](), Counter[str]()
        with self._sources.reading(part, damaged) as content:
            for block in blocks(content, cut):
                self._check_format(part.file, opener, block)
                yield self._whole(block, origin, opener)
        self._end_part(part, opener, ending_of(part, cut, damaged, (True, True)))

    def _check_format(self, file: LogFile, opener: Opener, block: bytes) -> None:
        """Refuse a file that begins as another format does.

        Raises:
            InvalidInputError: it is no audit log.
        """
        if not opener.head and known_format(block):
            raise no_audit_log(file.name, block)

    def _end_part(self, part: FileRange, opener: Opener, ending: Ending) -> None:
        """Record how a part ended."""
        self._bytes += ending.size
        too_long, broken = ending.too_long, sum(ending.damaged.values())
        self._damaged.update(ending.damaged)
        if part.is_last:
            opener.close()
        first, last = opener.first, opener.last or opener.first
        if too_long:
            self._damaged[TOO_LONG] += too_long
            self._unread.add(first, last, too_long)
        if broken:
            self._unread.add(last, "", 0)
        opener.lines += too_long + broken
        if part.end is None:
            part.file.read = Input(part.file.name, ending.size, ending.sha256)

    def _end_file(self, part: FileRange, opener: Opener, digests: Iterator[Any]) -> None:
        """Record that a file was read."""
        self._lines += opener.lines
        if part.end is not None:
            _, digest = next(digests, (None, ()))
            part.file.read = Input(part.file.name, part.end, "".join(digest))
        if first := opener.first:
            node = part.file.node
            last = opener.last or first
            known = self.covered.get(node, (first, last))
            self.covered[node] = min(first, known[0]), max(last, known[1])
        self._check_proved(opener, part.file.name)

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
            lines = split_lines(block)
            entries = decode_all(lines)
            if entries is not None:
                opener.take(block, len(lines))
                return self._chooser.chosen(zip(entries, lines, strict=True), origin)
        opened = opener.open(block)
        return self._chooser.decoded(split_lines(opened), origin) if opened else []


def _time_key(fed: Fed) -> str:
    """Return the key by which streams are merged: without the Z, the texts sort like the times."""
    return fed[0].time[:-1]
