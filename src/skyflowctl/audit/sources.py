"""Finds the log files that patterns name, and sorts them into streams.

A stream is the output of one audit device in chronological order: a file and its rotated
siblings. Streams are merged by time; a node may have several (one per device).
"""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import BinaryIO

from skyflowctl.audit.digesting import Stored, unpacked
from skyflowctl.audit.lines import Readable
from skyflowctl.audit.processes import usable_cores
from skyflowctl.audit.ranges import RangeReader, line_ranges
from skyflowctl.audit.spans import Span, span_of
from skyflowctl.errors import InvalidInputError, UsageError
from skyflowctl.frozen import dataclass

FROM_STDIN = "-"
PARALLEL_BYTES = 64 << 20
"""Smaller logs are read by this process alone; others take longer to start than they save."""
READERS_MAX = 16
"""The most processes that read; with more streams, this process reads all of them."""
KEPT_OPEN_MAX = 128
"""The most files that stay open while a command reads: half of the least limit that systems set.
Older files beyond that are opened when their turn comes, and read as a whole."""
_NODE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,62})=(.+)", re.DOTALL)
_PACKED = re.compile(r"\.(gz|zst|zstd)$")
_ROTATED = re.compile(
    r"""(
      \.\d{1,5}                                        # audit.log.1
    | [-._]\d{4}-?\d\d-?\d\d([-T_]?[\d.:-]*\d)?Z?      # audit.log-20261122, …-2026-11-22T18-44
    )(?=$|\.log$|\.json$|\.jsonl$)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was read: its name as given, its stored size, its digest in hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class LogFile:
    """One file of a stream."""

    name: str
    path: Path | None
    """None: standard input."""
    node: str = ""
    read: Input | None = None
    """Set once the file was read to its end."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """A range of a file; ``end`` is None for a whole file that is read from its start.

    ``opened`` is the open file. All its ranges share it, in every process, so they are parts of one
    file even if its name is given to another while it is read. They share its position as well:
    ranges are read with ``os.pread``. None: the file is opened when its turn comes.
    """

    file: LogFile
    start: int = 0
    end: int | None = None
    is_last: bool = True
    opened: BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """The files that one device wrote, oldest first."""

    node: str
    files: tuple[LogFile, ...]


@dataclass
class Sources:
    """The logs that a command reads, once.

    Args:
        streams: the streams, to be merged by time.
        digest: hash the files while they are read.
        stdin: what ``-`` reads.
    """

    streams: tuple[Stream, ...]
    digest: bool = True
    stdin: BinaryIO | None = None
    processes: int = field(default_factory=usable_cores)
    """The most processes that read at once; 1: this one alone."""
    _kept: int = field(default=0, init=False, repr=False)
    """How many files are open."""

    @property
    def files(self) -> tuple[LogFile, ...]:
        """Every file, stream by stream."""
        return tuple(file for stream in self.streams for file in stream.files)

    @contextmanager
    def reading(self, part: FileRange, damaged: Counter[str]) -> Iterator[Readable]:
        """Open the content of a file, or of a part of it.

        Args:
            part: of one of these files.
            damaged: counts why the part could not be read to its end.

        Raises:
            InvalidInputError: the file cannot be opened.
        """
        if part.opened is not None and part.end is not None:
            yield RangeReader(part.opened, part.start, part.end, damaged)
            return
        with _opened(part, self.stdin) as raw:
            stored = Stored(raw, digest=self.digest)
            with unpacked(stored, damaged) as content:
                yield content
            stored.drain()
            part.file.read = Input(part.file.name, stored.size, stored.sha256())

    def ranges(self, stream: Stream) -> list[FileRange]:
        """Open a stream's files and return their ranges, in order. They must be released."""
        # The newest first: if not all can stay open, these must.
        found = [self._ranges_of(file) for file in reversed(stream.files)]
        return [part for parts in reversed(found) for part in parts]

    def release(self, parts: Iterable[FileRange]) -> None:
        """Close the files of these ranges."""
        for part in parts:
            if part.opened is not None and not part.opened.closed:
                part.opened.close()
                self._kept -= 1

    def _ranges_of(self, file: LogFile) -> list[FileRange]:
        # A file that cannot be opened or read is told, or counted, when its turn comes.
        with suppress(OSError), ExitStack() as closing:
            # To open a pipe would wait for its writer.
            if file.path is None or self._kept >= KEPT_OPEN_MAX or not file.path.is_file():
                return [FileRange(file)]
            raw = closing.enter_context(file.path.open("rb", buffering=0))
            cuts = line_ranges(raw)
            closing.pop_all()
            self._kept += 1
            if not cuts:
                return [FileRange(file, opened=raw)]
            size = cuts[-1][1]
            return [FileRange(file, start, end, end == size, raw) for start, end in cuts]
        return [FileRange(file)]

    def readers_of(self, stream: Stream) -> int:
        """Return how many processes should read a stream; 0: this one alone reads it."""
        each = max(1, self.processes // len(self.streams))
        paths = [file.path for file in stream.files]
        if self.processes < 2 or each * len(self.streams) > READERS_MAX:
            return 0
        if not all(path is not None and path.is_file() for path in paths):
            return 0
        with suppress(OSError):  # one was renamed just now
            total = sum(file.path.stat().st_size for file in self.files if file.path is not None)
            return each if total >= PARALLEL_BYTES else 0
        return 0

    def inputs(self) -> tuple[Input, ...]:
        """Return what was read, sorted by name. Files that were not read are read now."""
        for file in self.files:
            if file.read is None:
                with self.reading(FileRange(file), Counter()):
                    pass
        found = [file.read for file in self.files if file.read is not None]
        return tuple(sorted(found, key=lambda item: item.name))


def open_sources(
    patterns: Sequence[str], *, stdin: BinaryIO | None = None, digest: bool = True
) -> Sources:
    """Find the files that these patterns name.

    Args:
        patterns: paths, globs, ``NODE=PATH`` (or ``NODE=GLOB``), and ``-`` at most once.
            Compressed files (.gz, .zst) are detected by their content.
        stdin: what ``-`` reads.
        digest: False if the digests of ``inputs()`` are not needed; they cost about
            0.6 s per GB.

    Raises:
        UsageError: no pattern, ``-`` twice, a folder, or a pattern that matches nothing.
        InvalidInputError: a file is missing or cannot be read.
    """
    if not patterns:
        raise UsageError(
            "no audit log is named",
            why="this command reads the server's audit log files",
            fix="name files, for example 'audit.log*', NODE=PATH for each node, or - for stdin",
        )
    if sum(pattern == FROM_STDIN or pattern.endswith("=-") for pattern in patterns) > 1:
        raise UsageError(
            "- is given twice",
            why="standard input can be read only once",
            fix="give - once, and name the other logs as files",
        )
    files: dict[tuple[int, int] | str, LogFile] = {}
    for pattern in patterns:
        for file in _named(pattern):
            files.setdefault(_identity(file), file)
    return Sources(_streams(list(files.values())), digest=digest, stdin=stdin)


def _named(pattern: str) -> list[LogFile]:
    """Return the files of one pattern."""
    node, path = "", pattern
    if (match := _NODE.fullmatch(pattern)) and not os.path.lexists(pattern):
        node, path = match[1], match[2]
    if path == FROM_STDIN:
        return [LogFile("stdin", None, node or "stdin")]
    if os.path.lexists(path):
        return [_checked(path, node)]
    if glob.has_magic(path):
        # Path.glob takes no absolute pattern.
        found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        found = [each for each in found if not Path(each).is_dir()]
        if not found:
            raise UsageError(
                f"no file matches {path}",
                why="the pattern matches no file on this machine",
                fix="check the folder and the pattern, for example with ls",
            )
        return [_checked(each, node) for each in found]
    raise InvalidInputError(
        f"there is no file {path}",
        why="the path does not exist",
        fix="name the audit device's file, or quote a glob such as 'audit.log*'",
    )


def _checked(name: str, node: str) -> LogFile:
    """Return the file if it can be read."""
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(name, error) from None
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{name} is a folder",
            why="this command does not guess which of its files are audit logs",
            fix=f"name the files, for example '{Path(name) / 'audit.log*'}'",
        )
    if not os.access(path, os.R_OK):
        raise _unreadable(name, PermissionError("permission denied"))
    return LogFile(name, path, node)


def _unreadable(name: str, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"{name} cannot be read",
        why=(error.strerror or str(error)).lower(),
        fix="the server writes its log with mode 0600: run as its user, or copy the file",
    )


@contextmanager
def _opened(part: FileRange, stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    file = part.file
    if part.opened is not None:
        part.opened.seek(0)
        yield part.opened
        return
    if file.path is None:
        if stdin is None:
            raise UsageError(
                "there is no standard input", why="it is closed", fix="name a file instead of -"
            )
        yield stdin
        return
    try:
        raw = file.path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(file.name, error) from None
    with raw:
        yield raw


def _identity(file: LogFile) -> tuple[int, int] | str:
    """Return a file's identity, so that a file that two patterns or links name is read once."""
    if file.path is None:
        return FROM_STDIN
    found = file.path.stat()
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else file.name


def base_name(path: Path) -> str:
    """Return the name of a log without the suffixes of rotation and compression."""
    return _ROTATED.sub("", _PACKED.sub("", path.name))


def _streams(files: list[LogFile]) -> tuple[Stream, ...]:
    """Group the files into streams, each sorted oldest first."""
    groups: dict[tuple[str, str, str], list[LogFile]] = {}
    for file in files:
        folder = str(file.path.parent) if file.path else ""
        base = base_name(file.path) if file.path else FROM_STDIN
        groups.setdefault((file.node, folder, base), []).append(file)
    names = _node_names(list(groups))
    found = []
    for key, group in groups.items():
        for chain in _chains(group):
            for file in chain:
                file.node = names[key]
            found.append(Stream(names[key], tuple(chain)))
    return tuple(found)


def _node_names(keys: list[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """Name the streams without a node by the parts in which their paths differ."""
    folders = {folder for node, folder, _ in keys if not node}
    labels = _short_folders(folders) if len(folders) > 1 else {}
    return {(node, folder, base): node or labels.get(folder) or base for node, folder, base in keys}


def _short_folders(folders: set[str]) -> dict[str, str]:
    """Return the shortest unique path suffix of each folder."""
    paths = {folder: Path(folder).absolute().parts for folder in folders}
    for size in range(1, max(len(parts) for parts in paths.values()) + 1):
        labels = {folder: "/".join(parts[-size:]) for folder, parts in paths.items()}
        if len(set(labels.values())) == len(labels):
            return labels
    return {folder: folder for folder in folders}


def _chains(group: list[LogFile]) -> list[list[LogFile]]:
    """Join files that follow one another in time to chains.

    Files that overlap in time are not rotations of one log, whatever their names: they become
    separate streams.
    """
    if len(group) == 1:
        return [group]
    spans = sorted(
        ((span_of(file.path), file) for file in group), key=lambda item: (item[0], item[1].name)
    )
    chains: list[tuple[Span, list[LogFile]]] = []
    for span, file in spans:
        for at, (last, chain) in enumerate(chains):
            if last.end <= span.start:
                chain.append(file)
                chains[at] = (span, chain)
                break
        else:
            chains.append((span, [file]))
    return [chain for _, chain in chains]
