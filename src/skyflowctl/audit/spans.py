"""Finds when a log file starts and ends, from its first and last entry, to order files."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from skyflowctl.audit.digesting import Stored, unpacked

_HEAD_BYTES = 64 << 10
_TIME = re.compile(rb'"time":\s*"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*)Z"')


class Span(NamedTuple):
    """The first and last time in a file, as text that sorts; empty if it has none.

    For a compressed file ``end`` equals ``start``, because finding the end would mean
    decompressing all of it.
    """

    start: str
    end: str


def span_of(path: Path | None) -> Span:
    """Return a file's span. A file that cannot be read twice (a pipe) has none."""
    if path is None or not path.is_file():
        return Span("", "")
    times = _TIME.findall(_head(path))
    if not times:
        return Span("", "")
    start = times[0].decode()
    return Span(start, max(start, _last(path)))


def _head(path: Path) -> bytes:
    with path.open("rb") as raw, unpacked(Stored(raw, digest=False), Counter()) as content:
        return b"".join(_upto(content.read, _HEAD_BYTES))


def _upto(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (block := read(size)):
        size -= len(block)
        yield block


def _last(path: Path) -> str:
    """Return the last time of a plain file; empty for a compressed one."""
    with path.open("rb") as raw:
        raw.seek(max(0, raw.seek(0, os.SEEK_END) - _HEAD_BYTES))
        times = _TIME.findall(raw.read())
    return times[-1].decode() if times else ""
