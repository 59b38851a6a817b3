"""Reads a stored log and hashes its bytes, as stored, while they are read."""

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast

from skyflowctl.audit.lines import Readable

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BROKEN_COMPRESSION = "broken-compression"
UNREADABLE_FILE = "unreadable"

_READ_BYTES = 1 << 20
_ZSTD_WINDOW = 128 << 20
"""Frames that need more memory than the zstd command line allows by default are refused."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Stored:
    """The bytes of one file as stored.

    Args:
        file: open for reading, at its start.
        digest: compute the digest as well.
    """

    def __init__(self, file: BinaryIO, *, digest: bool) -> None:
        self._file = file
        self._sha256: _Digest | None = hashlib.sha256() if digest else None
        self._ahead = b""
        self.size = 0

    def peek(self, size: int) -> bytes:
        """Return the first bytes without consuming them."""
        while len(self._ahead) < size and (more := self._file.read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        if self._ahead:
            most = len(self._ahead) if size < 0 else size
            data, self._ahead = self._ahead[:most], self._ahead[most:]
        else:
            data = self._file.read(size if size >= 0 else _READ_BYTES)
        self.size += len(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        return data

    def drain(self) -> None:
        """Read the rest of the file, so that the digest covers all of it."""
        while self.read(_READ_BYTES):
            pass

    def sha256(self) -> str:
        """Return the digest of what was read, in hex; empty if no digest was requested."""
        return "" if self._sha256 is None else self._sha256.hexdigest()


_ZSTD_READ_BYTES = 1 << 10
"""A block of a frame may take 4 bytes and unpack to 128 KiB, so one read yields at most 32 MiB."""


@contextmanager
def unpacked(stored: Stored, damaged: Counter[str]) -> Iterator[Readable]:
    """Return a reader of the content: plain, .gz or .zst, detected by the first bytes."""
    magic = stored.peek(4)
    if magic.startswith(GZIP_MAGIC):
        yield _Tolerant(_Gzip(stored), damaged)
    elif magic == ZSTD_MAGIC:
        yield _Tolerant(_Zstd(stored), damaged)
    else:
        yield _Tolerant(stored, damaged)


class _Gzip:
    """Unpacks gzip members. ``gzip``'s own ``read`` loses data in front of the point where a file
    is truncated."""

    def __init__(self, stored: Stored) -> None:
        self._file = gzip.GzipFile(fileobj=cast("BinaryIO", stored), mode="rb")

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        return self._file.read1(size)


class _Zstd:
    """Unpacks zstd frames. The library is imported only when such a file is read.

    The library's own stream reader cannot distinguish a truncated file from a complete one.
    """

    def __init__(self, stored: Stored) -> None:
        import zstandard

        self._stored = stored
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._error = zstandard.ZstdError
        self._frame = self._unpacker.decompressobj()
        self._begun = False
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end.

        Raises:
            EOFError: the file is truncated or damaged.
        """
        while not self._ready and (packed := self._stored.read(_ZSTD_READ_BYTES)):
            try:
                self._ready = self._unpacked(packed)
            except self._error as error:
                raise EOFError(str(error)) from None
        if not self._ready and self._begun:
            raise EOFError("the last frame has no end")
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _unpacked(self, packed: bytes) -> bytes:
        found = b""
        while packed:
            found += self._frame.decompress(packed)
            self._begun = not self._frame.eof
            packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = self._unpacker.decompressobj()
        return found


class _Tolerant:
    """Ends where the content can no longer be read, and counts the reason."""

    def __init__(self, inner: Readable, damaged: Counter[str]) -> None:
        self._inner = inner
        self._damaged = damaged
        self._over = False

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end, or where the file is truncated."""
        if self._over:
            return b""
        try:
            return self._inner.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self._damaged[BROKEN_COMPRESSION] += 1
        except OSError:
            self._damaged[UNREADABLE_FILE] += 1
        self._over = True
        return b""
