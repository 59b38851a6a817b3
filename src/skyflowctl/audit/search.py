"""Searches audit logs for token requests, and yields them in chronological order."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from heapq import heappop, heappush

from skyflowctl.audit.changes import is_cut_off
from skyflowctl.audit.ctx import is_hash
from skyflowctl.audit.model import Counts, TokenRequest, UnreadSpan
from skyflowctl.audit.query import HASHED_CTX, HASHED_KEY, Query, matcher, scan_options
from skyflowctl.audit.reorder import Record
from skyflowctl.audit.scan import Scan, scan
from skyflowctl.audit.sources import Sources
from skyflowctl.audit.wanted import CtxWanted
from skyflowctl.errors import Problem
from skyflowctl.text import counted

ORDERED_MAX = 10_000
"""The most requests that are held for sorting: 20 MB. A wrapped request is complete only once its
unwrap is read; if more than so many requests follow it before that, it is out of order."""


class Search:
    """The requests that match a query. It can be iterated once; the counts are final afterwards.

    Args:
        sources: the logs.
        query: selects the requests.
        plugin_names: the mount types of the engine.
        cut_offs: also find cut-offs.
        also: gets every other record that is read, and then all changes are.
    """

    def __init__(
        self,
        sources: Sources,
        query: Query,
        plugin_names: tuple[str, ...],
        *,
        cut_offs: bool = False,
        also: Callable[[Record], object] | None = None,
    ) -> None:
        self._query = query
        self.nodes = len({stream.node for stream in sources.streams})
        changes = also is not None
        self._options = scan_options(query, plugin_names, cut_offs=cut_offs, changes=changes)
        self._also: Callable[[Record], object] = also or (lambda _: None)
        self._scan: Scan = scan(sources, self._options)
        self._hashed_seen = False
        self.found = 0
        self.cut_offs: dict[tuple[str, str], datetime] = {}
        """The times of cut-offs read so far, by run and mount."""

    def __iter__(self) -> Iterator[TokenRequest]:
        return in_order(self._wanted())

    def _wanted(self) -> Iterator[TokenRequest]:
        wanted = matcher(self._query)
        for record in self._scan:
            if isinstance(record, TokenRequest):
                if wanted(record):
                    self.found += 1
                    yield record
                    continue
                self._hashed_seen = self._hashed_seen or record.ctx_hashed
            elif is_cut_off(record):
                self.cut_offs.setdefault((record.mount, record.run_id), record.time)
            self._also(record)

    def counts(self) -> Counts:
        """Return the counts of what was read."""
        return self._scan.counts()

    @property
    def covered(self) -> Mapping[str, tuple[str, str]]:
        """The first and last readable time of each node's logs."""
        return self._scan.covered

    @property
    def hashed_keys(self) -> bool:
        """Whether answers name their key as a hash, in lines that were not decoded."""
        return HASHED_KEY in self._scan.noticed

    @property
    def filtered_early(self) -> bool:
        """Whether lines that cannot match were not decoded, and so not checked."""
        return bool(self._options.prefilter)

    @property
    def certain(self) -> bool:
        """Whether every line could be read, and searched for the requested hashes."""
        return self.counts().certain and not self._scan.foreign_hashes

    def warnings(self) -> Iterator[Problem]:
        """Yield a warning for everything that the result may lack."""
        yield from unread_warnings(self.counts())
        if number := self._scan.foreign_hashes:
            yield Problem(
                "foreign-hashes",
                f"{counted(number, 'token')} in the log could not be searched: the answer is "
                "not certain",
                "another server hashed them, or an audit device that is gone: the server that "
                "was asked hashes the same text to another value",
                "name the server that wrote the log (--address)",
            )
        if not self._query.ctx or not (self._hashed_seen or HASHED_CTX in self._scan.noticed):
            return
        if any(_only_plain(one) for one in self._query.ctx):
            yield Problem(
                "hashed-ctx",
                "hashed ctx values are in the log and could not be searched",
                "only the server knows how its audit devices hash, and none was asked",
                "name the server that wrote the log (--address); audit who also takes the hash: "
                "--hashed",
            )
        if any(one.glob for one in self._query.ctx):
            yield Problem(
                "glob-on-hashes",
                "hashed ctx values are in the log, and a glob cannot find them",
                "a hash only tells whether two texts are the same",
                "give the whole ctx, without * and ?",
            )


def unread_warnings(counts: Counts) -> Iterator[Problem]:
    """Yield why a result is not certain, if parts of the logs could not be read."""
    if counts.certain:
        return
    reasons = ", ".join(f"{reason} {number}" for reason, number in counts.damaged)
    yield Problem(
        "damaged-log",
        f"{unread_words(counts)}: the answer is not certain",
        f"the unread lines are not included ({reasons})",
        "look at that part of the files; another device's log of the same node may be intact",
    )


def unread_words(counts: Counts) -> str:
    """Return how much could not be read or trusted, and from which time."""
    unread = counts.unread
    lines = unread.lines
    what = f"{counted(lines, 'line') if lines else 'parts'} could not be read"
    if not lines and unread == UnreadSpan():
        return "entries contradict one another or have no time"
    if unread.first == unread.last and unread.first is not None:
        return f"{what} (of {_minute(unread.first)})"
    first = _minute(unread.first) if unread.first else "the start of a log"
    last = _minute(unread.last) if unread.last else "the end of a log"
    return f"{what} (between {first} and {last})"


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}Z"


def _only_plain(wanted: CtxWanted) -> bool:
    """Whether a ctx is a single text whose hash is not known."""
    text = wanted.forms[0]
    return len(wanted.forms) < 2 and bool(text) and not wanted.glob and not is_hash(text)


def in_order(requests: Iterable[TokenRequest], most: int = ORDERED_MAX) -> Iterator[TokenRequest]:
    """Yield requests in chronological order, holding at most so many of them."""
    heap: list[tuple[datetime, str, int, TokenRequest]] = []
    for number, one in enumerate(requests):
        heappush(heap, (one.time, one.request_id, number, one))
        if len(heap) > most:
            yield heappop(heap)[3]
    while heap:
        yield heappop(heap)[3]
