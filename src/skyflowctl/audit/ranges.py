"""Splits a large log file into ranges of whole lines, which can be read independently."""

import os
from collections import Counter
from typing import BinaryIO

from skyflowctl.audit.digesting import GZIP_MAGIC, UNREADABLE_FILE, ZSTD_MAGIC

RANGE_BYTES = 8 << 20
"""The size of a range. It is the same for any number of processes, and so are the results."""
_LINE_BYTES = 1 << 20
"""A range ends after the next newline within so many bytes, else it goes on to the next end."""


def line_ranges(raw: BinaryIO) -> list[tuple[int, int]]:
    """Return the ranges (start, end) of an open file, to its present end.

    None for a small file, and for a compressed one, which can only be read from its start.
    """
    size = os.fstat(raw.fileno()).st_size
    if size < 2 * RANGE_BYTES:
        return []
    magic = raw.read(len(ZSTD_MAGIC))
    if magic.startswith(GZIP_MAGIC) or magic == ZSTD_MAGIC:
        return []
    ends = [_after_newline(raw, at) for at in range(RANGE_BYTES, size, RANGE_BYTES)]
    cuts = sorted({end for end in ends if 0 < end < size})
    return list(zip([0, *cuts], [*cuts, size], strict=True))


def _after_newline(raw: BinaryIO, start: int) -> int:
    """Return the position after the next newline; 0 if there is none near."""
    raw.seek(start)
    done = 0
    while done < _LINE_BYTES and (block := raw.read(4096)):
        at = block.find(b"\n")
        if at >= 0:
            return start + done + at + 1
        done += len(block)
    return 0


class RangeReader:
    """Reads a range of a file. If the file ends or cannot be read before its end, that is counted.

    Args:
        raw: the file, open for reading.
        start: of the range, in bytes.
        end: of the range.
        damaged: counts a range that could not be read to its end.
    """

    def __init__(self, raw: BinaryIO, start: int, end: int, damaged: Counter[str]) -> None:
        self._file = raw.fileno()
        self._at = start
        self._end = end
        self._damaged = damaged

    def read_lines(self, buffer: bytearray) -> int:
        """Read whole lines into a buffer; return their bytes.

        0: the range has ended, or its next line is longer than the buffer.
        """
        size = min(len(buffer), self._end - self._at)
        try:
            done = os.preadv(self._file, [memoryview(buffer)[:size]], self._at) if size else 0
        except OSError:
            return 0  # ``read`` counts it
        whole = done if done == self._end - self._at else buffer.rfind(b"\n", 0, done) + 1
        self._at += whole
        return whole

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, up to a line's end if there is one; none at the end."""
        size = min(size, self._end - self._at)
        try:
            data = os.pread(self._file, size, self._at)
        except OSError:
            data = b""
        if size and not data:
            self._end = self._at
            self._damaged[UNREADABLE_FILE] += 1
        # What follows is read again: cheaper than joining it to the next block.
        whole = data.rfind(b"\n") + 1
        if whole and len(data) < self._end - self._at:
            data = data[:whole]
        self._at += len(data)
        return data
