"""Shows the newest token requests of the logs, and new ones while the logs are followed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from heapq import heappush, heappushpop
from itertools import chain
from queue import Full, Queue
from threading import Event, Thread

from skyflowctl.audit.digesting import GZIP_MAGIC, ZSTD_MAGIC
from skyflowctl.audit.lines import Followed, follow_lines
from skyflowctl.audit.model import Counts, TokenRequest
from skyflowctl.audit.query import Query, matcher
from skyflowctl.audit.scan import scan, scan_marked
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.sources import LogFile, Sources, Stream
from skyflowctl.errors import InvalidInputError, UsageError, os_reason

NEWEST_BYTES = 64 << 20
"""The bytes at a stream's end that are searched for the newest requests."""
_QUEUED = 16
"""The most lines that wait to be decoded; each may have 16 MiB."""

LogPart = tuple[LogFile, int]
"""A file, and how many bytes at its end to read."""


class Tail:
    """The last requests that match a query, then the next ones.

    Args:
        sources: the logs; compressed logs and stdin are read completely, and cannot be
            followed.
        query: selects the requests.
        plugin_names: the mount types of the engine.
        rows: how many of the newest requests to show.
        following: continue until interrupted.

    Raises:
        UsageError: a log to be followed cannot be followed.
    """

    def __init__(
        self,
        sources: Sources,
        query: Query,
        plugin_names: tuple[str, ...],
        *,
        rows: int,
        following: bool,
    ) -> None:
        self._wanted = matcher(query)
        self._rows = rows
        self._newest: list[tuple[datetime, int, TokenRequest]] | None = []
        self._show: Callable[[TokenRequest], object] = lambda _: None
        self._files = len(sources.streams)
        self._followed: list[Followed] = []
        options = ScanOptions(plugin_names, reorder_seconds=0, hold_wrapped=False)
        if all(_is_plain(stream.files[-1]) for stream in sources.streams):
            caught_up = self._show_newest if following else None
            lines = _lines(sources.streams, caught_up, self._followed)
            self._scan = scan_marked(lines, options)
        elif following:
            raise UsageError(
                "a packed file or standard input cannot be followed",
                why="nothing is added to it",
                fix="name the file that the server writes, or leave out -f",
            )
        else:
            self._scan = scan(sources, options)

    def run(self, show: Callable[[TokenRequest], object]) -> None:
        """Pass the newest requests to ``show``, oldest first, then each new one.

        Raises:
            InvalidInputError: a log cannot be read.
        """
        self._show = show
        for number, record in enumerate(self._scan):
            if isinstance(record, TokenRequest) and self._wanted(record):
                self._take(record, number)
        self._show_newest()

    def _take(self, request: TokenRequest, number: int) -> None:
        """Show a request, or keep it until the ends of all logs are reached."""
        if self._newest is None:
            self._show(request)
        elif len(self._newest) < self._rows:
            heappush(self._newest, (request.time, number, request))
        elif self._rows:
            heappushpop(self._newest, (request.time, number, request))

    def _show_newest(self) -> None:
        newest, self._newest = sorted(self._newest or ()), None
        for _, _, request in newest:
            self._show(request)

    def counts(self) -> Counts:
        """Return the counts so far."""
        counts = self._scan.counts()
        damaged = Counter(dict(counts.damaged))
        for one in self._followed:
            damaged.update(one.damaged)
        names = tuple(sorted(damaged.items()))
        return replace(counts, files=counts.files or self._files, damaged=names)


def _is_plain(file: LogFile) -> bool:
    """Return whether reading can start in the middle of a file."""
    if file.path is None or not file.path.is_file():
        return False
    with file.path.open("rb") as raw:
        magic = raw.read(4)
    return not magic.startswith(GZIP_MAGIC) and magic != ZSTD_MAGIC


def _newest_parts(stream: Stream) -> list[LogPart]:
    """Return the newest files of a stream within ``NEWEST_BYTES``, oldest first."""
    parts: list[LogPart] = []
    left = NEWEST_BYTES
    for file in reversed(stream.files):
        if left <= 0 or file.path is None or not _is_plain(file):
            break
        parts.insert(0, (file, left))
        left -= file.path.stat().st_size
    return parts


class _Reader(Thread):
    """Reads one stream's end, and follows it until it is stopped."""

    def __init__(
        self,
        parts: Sequence[LogPart],
        out: "Queue[_Item]",
        stop: Event,
        followed: list[Followed],
        *,
        following: bool,
    ) -> None:
        super().__init__(daemon=True)
        self._followed = followed
        self._following = following
        self._parts = parts
        self._out = out
        self._stopped = stop
        self._idle = False

    def run(self) -> None:
        """Queue lines, then a marker for the end, then new lines."""
        try:
            *older, newest = self._parts
            for file, size in older:
                self._pass_on(file, size, lambda _: False)
            self._pass_on(*newest, self._wait if self._following else lambda _: False)
        except OSError as error:
            self._put((self, None, os_reason(error)))
        self._put((self, None, ""))

    def _pass_on(self, file: LogFile, size: int, wait: Callable[[float], bool]) -> None:
        assert file.path is not None
        followed = follow_lines(file.path, wait, from_start=True, newest=size)
        self._followed.append(followed)
        # An incomplete last line is read only when following ends: it is then complete.
        for line in chain(followed, followed.finish()):
            self._put((self, line, file.node))

    def _wait(self, seconds: float) -> bool:
        if not self._idle:
            self._idle = True
            self._put((self, b"", None))
        return not self._stopped.wait(seconds)

    def _put(self, item: "_Item") -> None:
        while not self._stopped.is_set():
            try:
                self._out.put(item, timeout=0.2)
            except Full:
                continue
            return


_Item = tuple[_Reader, bytes | None, str | None]
"""The reader; a line and its node. Without a node: the end is reached. Without a line: the reader
has ended, and the text says why."""


def _lines(
    streams: Sequence[Stream],
    caught_up: Callable[[], object] | None,
    followed: list[Followed],
) -> Iterator[tuple[bytes, str]]:
    """Yield the lines of all streams with their nodes.

    Args:
        streams: the streams whose newest lines are read.
        caught_up: called once all streams were read to their end; None: do not follow.
        followed: gets each file that is read; they count the lines that are too long.
    """
    stop, items = Event(), Queue[_Item](_QUEUED)
    readers = [
        _Reader(_newest_parts(each), items, stop, followed, following=caught_up is not None)
        for each in streams
    ]
    behind = set(readers)
    for reader in readers:
        reader.start()
    try:
        while behind or caught_up is not None:
            reader, line, text = items.get()
            if line is None and text:
                raise InvalidInputError(
                    "a log cannot be read any further",
                    why=text.lower(),
                    fix="see that the file is there and readable, then follow it again",
                )
            if line is not None and text is not None:
                yield line, text
            elif reader in behind:
                behind.discard(reader)
                if not behind and caught_up is not None:
                    caught_up()
    finally:
        stop.set()
