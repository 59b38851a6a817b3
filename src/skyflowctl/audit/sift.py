"""Searches blocks of a log for texts, without the state of earlier blocks.

What it yields can be passed between processes. A block that holds more than entries is passed on
as it is: envelopes, prefixes and damage need the lines before them.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from mmap import mmap
from typing import Any, NamedTuple

from skyflowctl.audit.ctx import HASH_PREFIX
from skyflowctl.audit.envelopes import HEAD_BYTES, bare_lines, has_entry
from skyflowctl.audit.lines import (
    TOO_LONG,
    LineBlock,
    Readable,
    blocks,
    finder,
    line_buffer,
    lines_with,
)
from skyflowctl.audit.ranges import RangeReader
from skyflowctl.audit.sources import FileRange, Sources
from skyflowctl.audit.unread import last_time_in, time_in
from skyflowctl.frozen import dataclass

_LOGIN_NEEDLE = b'"response":{"auth":{'
"""A text in every answer that issues a token: a server writes ``auth`` first."""
_APPROVAL_NEEDLE = b"sys/control-group/authorize"
_UNWRAP_NEEDLES = (b"wrapping/", b"cubbyhole/response")
_WRAP_NEEDLE = b'"wrap_info"'
_OF_WRAPPED = (*_UNWRAP_NEEDLES, _APPROVAL_NEEDLE)

_DIGEST_BYTES = 1 << 20
_GATHERED_BYTES = 256 << 10
"""How much is found before it is passed on."""
_TOKEN_TYPE = b'"token_type":"'
_HASHED_TOKEN = b'"access_token":"' + HASH_PREFIX.encode()
"""A text in every answer with a token. Answers of the server's own also have a ``token_type``."""


@dataclass(frozen=True, slots=True)
class SoughtTexts:
    """The texts of a search.

    Args:
        needles: lines that contain one of them are found; logins are found in any case.
        wrapped: also find every wrapped answer.
        notice: texts whose occurrence is reported.
        device_hashes: the hashes of ``Bearer`` by the devices that were asked; token answers
            with another hash are counted. Empty: not counted.
        hash_field: count only those with this text, the beginning of a hash. Empty: all.
    """

    needles: tuple[bytes, ...]
    wrapped: bool = False
    notice: tuple[bytes, ...] = ()
    device_hashes: tuple[bytes, ...] = ()
    hash_field: bytes = b""

    def all_needles(self, *, unwraps: bool) -> tuple[bytes, ...]:
        """Return the texts to look for; ``unwraps``: also in unwraps and approvals."""
        found = (*self.needles, _LOGIN_NEEDLE)
        found = (*found, _WRAP_NEEDLE) if self.wrapped else found
        return (*found, *_OF_WRAPPED) if unwraps else found


class Sifted(NamedTuple):
    """What a search found in a block.

    Args:
        found: the lines that contain a text.
        noticed: the texts of ``notice`` that occurred.
        foreign: token answers that no known device wrote.
        lines: the lines of the block; -1: ``found`` is the block itself, which holds more than
            entries.
        head: the beginning of the first block of entries.
        first: the first time in it; ``last`` the last one; empty: none.
        proved: whether the block has an entry that can be read.
    """

    found: tuple[bytes, ...]
    noticed: tuple[bytes, ...] = ()
    foreign: int = 0
    lines: int = 0
    head: bytes = b""
    first: str = ""
    last: str = ""
    proved: bool = False


class Ending(NamedTuple):
    """How a part of a file ended.

    Args:
        size: its stored bytes.
        sha256: their digest, for a whole file.
        too_long: its lines that are too long.
        damaged: why it could not be read to its end.
        unwraps: whether unwraps were found at its beginning, and at its end.
    """

    size: int
    sha256: str
    too_long: int
    damaged: dict[str, int]
    unwraps: tuple[bool, bool]


class Sifter:
    """Searches parts of files; see ``SoughtTexts``.

    Unwraps and approvals are found from the first answer on that is found wrapped: a search for
    their texts takes longer than all the rest.

    Args:
        texts: what to look for.
        unwraps: find unwraps from the start.
    """

    def __init__(self, texts: SoughtTexts, *, unwraps: bool) -> None:
        self._texts = texts
        self._not_noticed = texts.notice
        # Shared with the processes that are forked later.
        self._unwraps = mmap(-1, 1)
        if unwraps:
            self.find_unwraps()

    @property
    def finds_unwraps(self) -> bool:
        """Whether parts that are read from now on are searched for unwraps."""
        return self._unwraps[0] != 0

    def find_unwraps(self) -> None:
        """Search all later parts for unwraps, in every process."""
        self._unwraps[0] = 1

    def sift_part(self, sources: Sources, part: FileRange) -> Iterator[tuple[Any, ...]]:
        """Search a part; yield each ``Sifted``, then the ``Ending``, as plain tuples."""
        cut, damaged = Counter[str](), Counter[str]()
        # A file that is read as a whole cannot be read again.
        first = unwraps = self.finds_unwraps or part.end is None
        gathered = Gathered()
        with sources.reading(part, damaged) as content:
            for block, size in line_blocks(content, cut):
                lines = bare_lines(block, size)
                if lines < 0:
                    yield gathered.take()
                    yield tuple(Sifted((bytes(block[:size]),), lines=-1))
                    unwraps = True
                    continue
                found = self.sift(block, size, unwraps=unwraps)
                if not unwraps and any(_WRAP_NEEDLE in line for line in found.found):
                    unwraps = True
                    found = self.sift(block, size, unwraps=True)
                gathered.add(block, size, lines, found)
                if gathered.size > _GATHERED_BYTES:
                    yield gathered.take()
        yield gathered.take()
        yield tuple(ending_of(part, cut, damaged, (first, unwraps)))

    def sift(self, block: LineBlock, size: int, *, unwraps: bool = True) -> Sifted:
        """Search the lines of a block of entries; nothing about the block itself is returned.

        Args:
            block: whole lines.
            size: how many bytes of the block are searched.
            unwraps: find unwraps as well.
        """
        texts = self._texts
        find = finder(block, size)
        foreign = self._count_foreign(block, size, find) if texts.device_hashes else 0
        noticed = tuple(text for text in self._not_noticed if find(text, 0) >= 0)
        if noticed:
            # One occurrence in all the parts that this process reads is enough.
            self._not_noticed = tuple(set(self._not_noticed) - set(noticed))
        found = lines_with(block, texts.all_needles(unwraps=unwraps), find, size)
        return Sifted(tuple(found), noticed, foreign)

    def _count_foreign(self, block: LineBlock, size: int, find: Callable[[bytes, int], int]) -> int:
        """Count the token answers that were not searched, because another device hashed them."""
        ours = [_TOKEN_TYPE + one for one in self._texts.device_hashes]
        if not self._texts.hash_field:
            known = sum(block.count(one, 0, size) for one in ours)
            return max(0, block.count(_HASHED_TOKEN, 0, size) - known)
        lines = lines_with(block, (self._texts.hash_field,), find, size)
        return sum(_HASHED_TOKEN in line and not any(one in line for one in ours) for line in lines)


def line_blocks(content: Readable, cut: Counter[str]) -> Iterator[tuple[LineBlock, int]]:
    """Yield blocks of whole lines, each with its size; a block is valid until the next one."""
    if isinstance(content, RangeReader):
        buffer = line_buffer()
        while size := content.read_lines(buffer):
            yield buffer, size
    for block in blocks(content, cut):
        yield block, len(block)


class Gathered:
    """Sums up what was found in blocks of entries."""

    def __init__(self) -> None:
        self._proved = False
        self._clear()

    def _clear(self) -> None:
        self._found: list[bytes] = []
        self._noticed: set[bytes] = set()
        self._foreign = self._lines = self.size = 0
        self._first, self._last = b"", ""

    def add(self, block: LineBlock, size: int, lines: int, result: Sifted) -> None:
        """Add a block of so many bytes and lines, and what was found in it."""
        self._proved = self._proved or has_entry(block, size)
        self._found += result.found
        self._noticed.update(result.noticed)
        self._foreign += result.foreign
        self._lines += lines
        self.size += sum(map(len, result.found))
        self._first = self._first or bytes(block[: min(size, HEAD_BYTES)])
        last = bytes(block[block.rfind(b"\n", 0, size - 1) + 1 : size])
        self._last = time_in(last) or last_time_in(bytes(block[:size]))

    def take(self) -> tuple[Any, ...]:
        """Return the sum as a plain ``Sifted``, and begin anew."""
        first, last = time_in(self._first), self._last
        noticed = tuple(sorted(self._noticed))
        found = tuple(self._found)
        result = (found, noticed, self._foreign, self._lines, self._first, first, last)
        self._clear()
        return (*result, self._proved)


def yield_digest(part: FileRange | None) -> Iterator[str]:
    """Yield the digest of a file up to the end of its last range; nothing without a part."""
    if part is None or part.opened is None:
        return
    found, at, end = sha256(), 0, part.end or 0
    while block := os.pread(part.opened.fileno(), min(end - at, _DIGEST_BYTES), at):
        found.update(block)
        at += len(block)
    yield found.hexdigest()


def ending_of(
    part: FileRange, cut: Counter[str], damaged: Counter[str], unwraps: tuple[bool, bool]
) -> Ending:
    """Return how a part ended that was read."""
    read = part.file.read
    if part.end is None and read is not None:
        return Ending(read.bytes, read.sha256, cut[TOO_LONG], dict(damaged), unwraps)
    return Ending((part.end or 0) - part.start, "", cut[TOO_LONG], dict(damaged), unwraps)
