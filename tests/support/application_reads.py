"""Threads that read tokens as an application does, and note every read that fails."""

from __future__ import annotations

import threading
import time
from typing import Self

from skyflowctl.client import TokenSource


class ApplicationReads:
    """Reads tokens of one role until the block ends.

    One read in ten is for a ctx that is new and must be read from the server; the others are kept.

    Args:
        source: gives the tokens.
        mount: the mount's path.
        role: the role, which accepts any ctx that begins with ``order:``.
        threads: how many ask at once.
    """

    def __init__(self, source: TokenSource, mount: str, role: str, threads: int = 8) -> None:
        self._source, self._mount, self._role = source, mount, role
        self.failed: list[BaseException] = []
        self.slowest = 0.0
        self._counts = [0] * threads
        self._new = [0] * threads
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(threads)]

    @property
    def reads(self) -> int:
        """How many have ended."""
        return sum(self._counts)

    @property
    def new(self) -> int:
        """How many of them the server had to answer."""
        return sum(self._new)

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join(90)
        assert not any(one.is_alive() for one in self._threads), "a read hangs"

    def _read(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            is_new = turn % 10 == 0
            ctx = f"order:{number}-{turn}" if is_new else f"order:{turn % 5}"
            began = time.monotonic()
            try:
                token = self._source.token(self._mount, self._role, ctx=ctx)
                assert token.seconds_left() > 0
            except BaseException as error:  # noqa: BLE001 - whatever it is, this read failed
                self.failed.append(error)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self._counts[number] += 1
            self._new[number] += is_new
            self._over.wait(0.02)

    def wait_for(self, more: int, *, new: int = 0) -> None:
        """Wait until so many more reads have ended, and so many of them were the server's."""
        goal, fresh, deadline = self.reads + more, self.new + new, time.monotonic() + 90
        while self.reads < goal or self.new < fresh:
            assert time.monotonic() < deadline, "the reads do not go on"
            time.sleep(0.05)
