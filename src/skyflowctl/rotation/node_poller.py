"""Asks one node until it shows the expected state, or the timeout ends."""

import threading
from collections.abc import Callable
from datetime import timedelta

from skyflowctl.concurrency import Workers
from skyflowctl.frozen import dataclass
from skyflowctl.retry import Backoff, retry
from skyflowctl.rotation.node_checks import NodeClient, NodeFinding, NodeState
from skyflowctl.rotation.ports import Dependencies

IN_A_ROW = 5
"""This many right answers, half a second apart, count as one answer of known age."""
_POLL_PAUSE = 0.5
_BACKOFF = Backoff(first=0.05, longest=1.0)
_NOES = 3


@dataclass(frozen=True, slots=True)
class PollResult:
    """The result of polling one node.

    Args:
        client: its connection.
        finding: its last answer.
        verified: it has shown the expected state.
        absent: it has left the cluster, so it need not prove anything.
        polled: its answers carry no index, so it was asked repeatedly.
        given_up: its poll was stopped because another node had failed.
        pending: it must be asked again.
    """

    client: NodeClient
    finding: NodeFinding
    verified: bool = False
    absent: bool = False
    polled: bool = False
    given_up: bool = False
    pending: bool = False

    @property
    def well(self) -> bool:
        """Whether this node needs no further action."""
        return self.verified or self.absent


@dataclass(frozen=True, slots=True)
class NodePoller:
    """Polls nodes until each one is settled.

    Args:
        deps: its clock and how it waits.
        timeout: for a node that does not give the expected answer yet.
        poll: the same for a node whose answers carry no index.
        is_gone: returns whether the cluster no longer lists a node.
    """

    deps: Dependencies
    timeout: timedelta
    poll: timedelta
    is_gone: Callable[[NodeClient], bool]

    def everyone(
        self, clients: list[NodeClient], look: Callable[[NodeClient], NodeFinding]
    ) -> list[PollResult]:
        """Ask these nodes in parallel; when one has failed, stop asking the others."""
        failed = threading.Event()

        def one(client: NodeClient) -> PollResult:
            result = self.poll_node(client, look, failed)
            if not result.well and not result.given_up:
                failed.set()
            return result

        with Workers(len(clients)) as pool:
            return pool.map(one, clients)

    def poll_node(
        self,
        client: NodeClient,
        look: Callable[[NodeClient], NodeFinding],
        given_up: threading.Event | None = None,
    ) -> PollResult:
        """Ask one node until it has shown the state, has failed, or is gone.

        Args:
            client: its connection.
            look: one question.
            given_up: set by another thread to stop after the next answer.
        """
        streak = _Streak()
        started, waited = self.deps.clock.monotonic(), 0.0

        def ask() -> PollResult:
            found = look(client)
            streak.count(found)
            if found.state is NodeState.VERIFIED or streak.right >= IN_A_ROW:
                return PollResult(
                    client, found, verified=True, polled=found.state is NodeState.UNSURE
                )
            if found.state is NodeState.GONE and self.is_gone(client):
                return PollResult(client, found, absent=True)
            # The waited time counts too, so that a frozen clock in a test does not loop forever.
            spent = max(self.deps.clock.monotonic() - started, waited)
            # A series of right answers ends by itself at IN_A_ROW.
            late = found.state is not NodeState.UNSURE and spent >= self._limit(found)
            if late or streak.noes >= _NOES:
                return PollResult(client, found)
            stopped = given_up is not None and given_up.is_set()
            return PollResult(client, found, given_up=stopped, pending=not stopped)

        def wait(result: PollResult, _tries: int) -> bool:
            nonlocal waited
            pause = streak.pause(result.finding)
            self.deps.sleep(pause)
            waited += pause
            return True

        return retry(ask, lambda result: not result.pending, wait)

    def _limit(self, found: NodeFinding) -> float:
        """Return the time limit in seconds; a node without an index is polled for ``poll``."""
        return (self.poll if found.unaged else self.timeout).total_seconds()


@dataclass(slots=True)
class _Streak:
    """Counts consecutive answers of one kind."""

    tries: int = 0
    right: int = 0
    noes: int = 0

    def count(self, found: NodeFinding) -> None:
        self.tries += 1
        self.right = self.right + 1 if found.state is NodeState.UNSURE else 0
        self.noes = self.noes + 1 if found.state is NodeState.NO else 0

    def pause(self, found: NodeFinding) -> float:
        """Return the seconds until the next request: growing, or constant for a poll."""
        if found.state is NodeState.UNSURE:
            return _POLL_PAUSE
        return _BACKOFF.pause(self.tries)
