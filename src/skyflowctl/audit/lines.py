"""Splits bytes into complete lines, in bounded memory for any file.

A log is read in blocks that end with a line, so that a search can cover a whole block before
it is split.
"""

import ctypes
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

BLOCK_BYTES = 64 << 10
"""The bytes of one read. From 128 KiB on, the C library gives the memory of a block back to the
system each time, which took twice as long; the processor's cache is the other reason."""
MAX_LINE_BYTES = 16 << 20
"""A longer line is damaged. The server accepts bodies of 32 MiB but logs their hashes; a real
entry has about 1.5 KB."""
POLL_SECONDS = 0.25
"""The interval between reads of a followed file."""

TOO_LONG = "line-too-long"


LineBlock = bytes | bytearray


class Readable(Protocol):
    """The method that a block reader needs of a file."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


def blocks(file: Readable, damaged: Counter[str]) -> Iterator[bytes]:
    """Yield blocks of whole lines; the last one may lack its newline.

    Args:
        file: read to its end.
        damaged: counts the lines that were skipped because they were too long.
    """
    tail: list[bytes] = []
    held = 0
    skipping = False
    while block := file.read(BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if not end:
            if not skipping:
                tail.append(block)
                held += len(block)
            if held > MAX_LINE_BYTES:
                damaged[TOO_LONG] += 1
                tail, held, skipping = [], 0, True
            continue
        if end == len(block) and not tail and not skipping:
            yield block
            continue
        start = block.find(b"\n") + 1 if skipping else 0
        skipping = False
        tail.append(block[start:end])
        if whole := b"".join(tail):
            yield whole
        rest = block[end:]
        tail, held = ([rest], len(rest)) if rest else ([], 0)
    if tail:
        yield b"".join(tail)


def line_buffer() -> bytearray:
    """Return a buffer for reading: larger than a block, because it is used again and again."""
    return bytearray(4 * BLOCK_BYTES)


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block of whole lines."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def lines_with(
    block: LineBlock,
    needles: tuple[bytes, ...],
    find: Callable[[bytes, int], int] | None = None,
    size: int | None = None,
) -> list[bytes]:
    """Return the lines that contain one of these texts, in order.

    Args:
        block: whole lines.
        needles: the texts.
        find: from ``finder``.
        size: how many bytes of the block are searched; None: all.
    """
    spans: dict[int, int] = {}
    size = len(block) if size is None else size
    find = find or finder(block, size)
    for needle in needles:
        at = find(needle, 0)
        while at >= 0:
            end = block.find(b"\n", at, size)
            end = size if end < 0 else end
            spans[block.rfind(b"\n", 0, at) + 1] = end
            at = find(needle, end)
    return [bytes(block[start : spans[start]]) for start in sorted(spans)]


def _c_search() -> Callable[[int, int, bytes, int], int | None] | None:
    """Return the C library's search for a text, four times as fast as ``bytes.find`` on a log."""
    try:
        found = ctypes.CDLL(None).memmem
    except (AttributeError, OSError, TypeError):
        return None
    found.restype = ctypes.c_void_p
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    return cast("Callable[[int, int, bytes, int], int | None]", found)


_memmem = _c_search()


def finder(block: LineBlock, size: int) -> Callable[[bytes, int], int]:
    """Return a function like ``find`` for the first bytes of a block, to be called while it is
    there and as large."""
    search = _memmem
    if isinstance(block, bytearray):
        base: int | None = ctypes.addressof(ctypes.c_char.from_buffer(block))
    else:
        base = ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p).value
    if search is None or base is None:
        return lambda text, start: block.find(text, start, size)

    def find(text: bytes, start: int) -> int:
        at = search(base + start, size - start, text, len(text))
        return -1 if at is None else at - base

    return find


class Followed:
    """A log that is still being written: ``tail -F``.

    Args:
        path: the file; it may be renamed and recreated (rotation), or truncated
            (copytruncate).
        wait: sleeps for so many seconds; if it returns False, following ends.
        from_start: also yield the existing lines.
        newest: of those, yield only the lines that begin in the last so many bytes; None: all.
    """

    def __init__(
        self,
        path: Path,
        wait: Callable[[float], bool],
        *,
        from_start: bool = False,
        newest: int | None = None,
    ) -> None:
        self._path = path
        self._newest = newest
        self._wait = wait
        self._file: BinaryIO | None = None
        self._from_start = from_start
        self._half: list[bytes] = []
        self._held = 0
        self._skipping = False
        self.damaged: Counter[str] = Counter()

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._open(from_start=self._from_start)
            self._skip_old()
            more = True
            while more:
                yield from self._read()
                if self._replaced():
                    # What was written between the last read and the rename.
                    yield from self._read()
                    yield from self.finish()
                    self._open(from_start=True)
                    continue
                more = self._wait(POLL_SECONDS)
            yield from self._read()
        finally:
            self._close()

    def _open(self, *, from_start: bool) -> None:
        self._close()
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return
        if not from_start:
            self._file.seek(0, os.SEEK_END)

    def _skip_old(self) -> None:
        """Seek to the newest lines; a line that is cut there is skipped."""
        if self._file is None or self._newest is None or not self._from_start:
            return
        start = self._file.seek(0, os.SEEK_END) - self._newest
        self._file.seek(max(0, start - 1))
        self._skipping = start > 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replaced(self) -> bool:
        """Return whether another file, or a shorter one, is at the path."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        same = (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
        return not same or there.st_size < self._file.tell()

    def _read(self) -> Iterator[bytes]:
        while self._file is not None and (block := self._file.read(BLOCK_BYTES)):
            *ends, rest = block.split(b"\n")
            for end in ends:
                self._hold(end)
                yield from self.finish()
            self._hold(rest)

    def _hold(self, part: bytes) -> None:
        """Keep a part of a line, unless the line is too long."""
        if self._skipping:
            return
        self._half.append(part)
        self._held += len(part)
        if self._held > MAX_LINE_BYTES:
            self.damaged[TOO_LONG] += 1
            self._half, self._held, self._skipping = [], 0, True

    def finish(self) -> Iterator[bytes]:
        """Yield the text after the last newline, once the file no longer grows."""
        line, skipping = b"".join(self._half), self._skipping
        self._half, self._held, self._skipping = [], 0, False
        if line and not skipping:
            yield line


def follow_lines(
    path: Path,
    wait: Callable[[float], bool],
    *,
    from_start: bool = False,
    newest: int | None = None,
) -> Followed:
    """Yield the lines of a log as they are completed; see ``Followed``."""
    return Followed(path, wait, from_start=from_start, newest=newest)
