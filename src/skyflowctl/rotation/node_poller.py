"""Asking one node until it proves what it should, or timeout is over."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from skyflowctl.concurrency import Workers
from skyflowctl.retry import Backoff
from skyflowctl.rotation.node_checks import NodeClient, NodeFinding, NodeState
from skyflowctl.rotation.ports import Dependencies

IN_A_ROW = 5
"""So many right answers, half a second apart, stand for one of known age."""
_POLL_PAUSE = 0.5
_BACKOFF = Backoff(first=0.05, longest=1.0)
_NOES = 3


@dataclass(frozen=True, slots=True)
class PollResult:
    """How asking one node has ended.

    Args:
        client: the way to it.
        finding: its last answer.
        proved: it has proved what it should.
        absent: it is gone, so that it need not prove anything.
        polled: it cannot say how new its answers are, and was asked repeatedly.
        given_up: it was not asked to the end, because another one had failed.
    """

    client: NodeClient
    finding: NodeFinding
    proved: bool = False
    absent: bool = False
    polled: bool = False
    given_up: bool = False

    @property
    def well(self) -> bool:
        """True when this node stands in nobody's way."""
        return self.proved or self.absent


@dataclass(frozen=True, slots=True)
class NodePoller:
    """How nodes are asked.

    Args:
        deps: its clock and how it waits.
        timeout: for a node that does not answer as it should yet.
        poll: the same for one that cannot say how new its answers are.
        is_gone: whether the cluster has given a node up.
    """

    deps: Dependencies
    timeout: timedelta
    poll: timedelta
    is_gone: Callable[[NodeClient], bool]

    def everyone(
        self, clients: list[NodeClient], look: Callable[[NodeClient], NodeFinding]
    ) -> list[PollResult]:
        """Ask these nodes at once; when one has failed, the others are given up too."""
        failed = threading.Event()

        def one(client: NodeClient) -> PollResult:
            result = self.until_settled(client, look, failed)
            if not result.well and not result.given_up:
                failed.set()
            return result

        with Workers(len(clients)) as pool:
            return pool.map(one, clients)

    def until_settled(
        self,
        client: NodeClient,
        look: Callable[[NodeClient], NodeFinding],
        given_up: threading.Event | None = None,
    ) -> PollResult:
        """Ask one node until it is settled.

        Args:
            client: the way to it.
            look: one question.
            given_up: set by another thread: its next answer is its last.
        """
        streak = _Streak()
        started, waited = self.deps.clock.monotonic(), 0.0
        while True:
            found = look(client)
            streak.count(found)
            if found.state is NodeState.PROVED or streak.right >= IN_A_ROW:
                return PollResult(
                    client, found, proved=True, polled=found.state is NodeState.UNSURE
                )
            if found.state is NodeState.GONE and self.is_gone(client):
                return PollResult(client, found, absent=True)
            # A clock that a test holds still must not make this endless.
            spent = max(self.deps.clock.monotonic() - started, waited)
            # Right answers in a row come to an end by themselves.
            late = (
                found.state is not NodeState.UNSURE and spent >= self._limit(found).total_seconds()
            )
            if late or streak.noes >= _NOES:
                return PollResult(client, found)
            if given_up is not None and given_up.is_set():
                return PollResult(client, found, given_up=True)
            pause = streak.pause(found)
            self.deps.sleep(pause)
            waited += pause

    def _limit(self, found: NodeFinding) -> timedelta:
        """A node that answers without saying how new is polled for the time that was stated."""
        return self.poll if found.unaged else self.timeout


@dataclass(slots=True)
class _Streak:
    """What came in a row."""

    tries: int = 0
    right: int = 0
    noes: int = 0

    def count(self, found: NodeFinding) -> None:
        self.tries += 1
        self.right = self.right + 1 if found.state is NodeState.UNSURE else 0
        self.noes = self.noes + 1 if found.state is NodeState.NO else 0

    def pause(self, found: NodeFinding) -> float:
        """Seconds until the next question: growing ones, or steady ones for a poll."""
        if found.state is NodeState.UNSURE:
            return _POLL_PAUSE
        return _BACKOFF.pause(self.tries)
