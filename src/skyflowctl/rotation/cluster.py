"""Checks on every node of the cluster which credential is live there and whether it mints.

A write does not reach all nodes at once, and each node's engine has a cache of its own, so the
leader's answer proves nothing about the others. A node that is unreachable and that the cluster no
longer lists cannot mint (a killed node stays listed for another 11 to 15 seconds, measured on
OpenBao 2.7.2). A node that is listed, or accepts connections without answering, may recover and
mint with the credential that it had.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, NotPermittedError, Problem, RefusedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.rotation import messages, node_checks
from skyflowctl.rotation.model import RotationJob
from skyflowctl.rotation.node_checks import Expectation, NodeClient, NodeState
from skyflowctl.rotation.node_poller import IN_A_ROW, NodePoller, PollResult
from skyflowctl.rotation.ports import Dependencies, names
from skyflowctl.rotation.revocation.model import NodeCut, RoleCut
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.responses import ClusterNode

NODE_TIMEOUT = timedelta(seconds=30)
"""How long a node may lag, an election may take, or a dead node may stay listed."""
_OLD_ECHO = timedelta(seconds=15)


class NodeDisagreesError(SkyflowctlError):
    """A node does not show the expected credential; holds one problem for each such node."""

    exit_code = ExitCode.PARTIAL
    default_code = "node-disagrees"


@dataclass(frozen=True, slots=True)
class NodesVerified:
    """The nodes on which a credential was verified.

    Args:
        nodes: those that showed it, each by its own answer.
        left_out: unreachable nodes that the cluster no longer lists.
        polled: a node cannot say how new its answers are, and was asked repeatedly.
        listed: how many nodes the cluster lists; 0: unknown.
        unidentified: the nodes report no identity.
    """

    nodes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    polled: bool = False
    listed: int = 0
    unidentified: bool = False

    def __str__(self) -> str:
        count = len(self.nodes)
        text = "by the server" if count == 1 else f"by {count} nodes, each for itself"
        if self.unidentified:
            text = f"at {count} addresses, each for itself"
        elif self.listed > count + len(self.left_out):
            text = f"by {count} of {self.listed} nodes"
        text += f", {IN_A_ROW} times in a row" if self.polled else ""
        return text + (f"; without {', '.join(self.left_out)}" if self.left_out else "")


@contextmanager
def open_nodes(
    deps: Dependencies, job: RotationJob, *, timeout: timedelta = NODE_TIMEOUT
) -> Iterator[Cluster]:
    """Connect to every node and check that each one answers, before anything is written.

    Args:
        deps: the server, and how to reach one node of it.
        job: its options ``unverified_nodes`` and ``poll`` count here.
        timeout: how long to wait for a node that does not give the expected answer.

    Raises:
        RefusedError: a node was not named or does not answer.
        NotPermittedError: this login may not list the nodes.
        VaultError: the server cannot be asked.
    """
    nodes = Cluster(deps, job, timeout)
    try:
        nodes.open()
        yield nodes
    finally:
        nodes.close()


class Cluster:
    """The nodes of one server. Thread-safe once it is open."""

    def __init__(self, deps: Dependencies, job: RotationJob, timeout: timedelta) -> None:
        self._deps = deps
        self._lenient = job.options.unverified_nodes
        self._poller = NodePoller(deps, timeout, job.options.poll, self._is_gone)
        self._clients: list[NodeClient] = []
        self._listable = False
        self._elsewhere: set[str] = set()
        self._listed = 0
        self._shared_count = 0
        self._warnings: dict[Problem, None] = {}
        self._gaps: dict[Problem, None] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that are asked."""
        return tuple(client.name for client in self._clients)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was not verified and why, each once."""
        return tuple(self._warnings)

    @property
    def gaps(self) -> tuple[Problem, ...]:
        """The warnings that leave a node unproved; empty: every node is asked."""
        return tuple(self._gaps)

    def close(self) -> None:
        """Close the connections to single nodes; the server's own gateway stays open."""
        for client in self._clients:
            if client.own:
                client.gateway.close()

    # Who is there ----------------------------------------------------------------

    def open(self) -> None:
        """Find the nodes; see :func:`open_nodes`."""
        if self._deps.connect is None:
            self._clients = [self._whole(only=True)]
            return
        listed = self._list()
        shared = self._shared(listed)
        alone = [node for node in listed if node not in shared]
        unnamed = self._admit((*alone, *self._named_besides(listed)))
        self._refuse_or_warn([messages.one_address(shared)] if shared else [])
        if self._listable and not self._clients and len(listed) < 2:
            self._clients = [self._whole(only=True)]
            return
        self._refuse_or_warn([messages.unnamed(unnamed)] if unnamed else [])
        self._identify({node.name for node in listed})
        if not self._clients or not self._listable:
            self._clients.append(self._whole(only=False))
        elif [node.active for node in listed] == [True] and len(self._clients) == 1:
            # This node does every write, so no answer from it is older than the last write.
            self._clients[0].only = True

    def _whole(self, *, only: bool) -> NodeClient:
        """Return the server's own address as the only node."""
        return NodeClient("the server", self._deps.gateway, own=False, only=only)

    def _list(self) -> tuple[ClusterNode, ...]:
        """Return the nodes that the leader lists; none if it does not list them."""
        try:
            listed = self._deps.gateway.sys.nodes()
        except ForbiddenError as error:
            self._refuse_or_warn([messages.unlisted(error)], NotPermittedError)
            return ()
        self._listable = True
        return listed

    def _shared(self, listed: Sequence[ClusterNode]) -> list[ClusterNode]:
        """Return the nodes that share one address, so that none can be asked separately."""
        counts = Counter(names(listed))
        shared = [node for node in listed if counts[node.name] > 1]
        self._listed, self._shared_count = len(listed), len(shared)
        return shared

    def _named_besides(self, listed: Sequence[ClusterNode]) -> tuple[ClusterNode, ...]:
        """Return nodes that the user named and the leader does not list; they may still run."""
        known = {node.api_address for node in listed}
        named = self._deps.gateway.transport.server.addresses[1:]
        return tuple(ClusterNode("", at, False, "", "") for at in named if at not in known)

    def _admit(self, nodes: Iterable[ClusterNode]) -> tuple[ClusterNode, ...]:
        """Connect to the nodes that have no connection yet; return those that were not named."""
        unnamed = []
        for node in nodes:
            name = node.name
            if self._deps.connect is None or name in self.names or name in self._elsewhere:
                continue
            gateway = self._deps.connect(node)
            if gateway is None:
                unnamed.append(node)
            else:
                self._clients.append(NodeClient(name, gateway))
        return tuple(unnamed)

    def _identify(self, listed: Collection[str]) -> None:
        """Ask every node for its identity; one that gives none could not be verified later."""
        results = self._poller.everyone(list(self._clients), node_checks.identify)
        silent = [one for one in results if not one.well]
        self._refuse_or_warn([messages.unheard(one) for one in silent])
        self._tell_absent(results)
        foreign = self._foreign()
        shared = [client.name for client in foreign if client.name in listed and _id_of(client)]
        self._refuse_or_warn([messages.one_process(shared)] if shared else [])
        self._elsewhere = {client.name for client in foreign}
        for client in [*(one.client for one in silent), *foreign]:
            self._clients.remove(client)
            client.gateway.close()
        unidentified = self._unidentified()
        # A server reports its name only if configured to. Each of these was asked at its own
        # address and may not forward a request: that is proof enough.
        self._warnings |= dict.fromkeys(
            [messages.unidentified_nodes(unidentified)] if unidentified else []
        )

    def _unidentified(self) -> list[str]:
        """Return the nodes without an identity; several of them may be the same node."""
        anonymous = [client.name for client in self._clients if client.own and not _id_of(client)]
        return anonymous if len(anonymous) > 1 else []

    def _foreign(self) -> list[NodeClient]:
        """Return connections to a node that has one already, or to another cluster."""
        cluster = self._deps.gateway.sys.cluster_id()
        seen: set[str] = set()
        foreign = []
        for client in self._clients:
            who = client.identity
            if who is None:
                continue
            if who.cluster_id and who.cluster_id != cluster:
                self._warnings[messages.other_cluster(client.name)] = None
                foreign.append(client)
            elif who.node_id in seen:
                foreign.append(client)
            elif who.node_id:
                seen.add(who.node_id)
        return foreign

    def _is_gone(self, client: NodeClient) -> bool:
        """Whether a node is unreachable and the cluster no longer lists it.

        Asks the leader; while there is no leader, no node counts as gone.
        """
        if not client.own:
            return False
        if not self._listable:
            return self._lenient
        try:
            listed = self._deps.gateway.sys.nodes()
        except VaultError:
            return False
        mine = [node for node in listed if node.name == client.name]
        return all(not node.active and _silent_for_long(node, listed) for node in mine)

    def _refuse_or_warn(
        self, problems: Sequence[Problem], kind: type[SkyflowctlError] = RefusedError
    ) -> None:
        """Refuse with an error of this kind, unless the user allows unverified nodes."""
        if problems and not self._lenient:
            raise kind.of(problems)
        self._warnings |= dict.fromkeys(problems)
        self._gaps |= dict.fromkeys(problems)

    def _tell_absent(self, results: Iterable[PollResult]) -> None:
        self._warnings |= dict.fromkeys(messages.left_out(one) for one in results if one.absent)

    # Verification -------------------------------------------------------------

    def verify(
        self,
        path: str,
        key_id: str,
        *,
        roles_may_fail: Collection[str] = frozenset(),
        index: str = "",
    ) -> NodesVerified:
        """Prove that this key is live on every node and mints for every role.

        May be called repeatedly, to watch.

        Args:
            path: of the mount.
            key_id: the key.
            roles_may_fail: roles that no credential could mint before.
            index: how new the answers must be; empty: as new as the newest answer of this command
                so far, which includes the answer to its own write.

        Raises:
            NodeDisagreesError: a node gives another answer, answers late, or does not answer.
            VaultError: the nodes can no longer be listed.
        """
        index = index or self._deps.gateway.transport.newest_index
        newest = cache(lambda: self._deps.gateway.engine(path).config().version)
        expected = Expectation(path, key_id, frozenset(roles_may_fail), index, newest)
        results = self._everywhere(partial(node_checks.ask, expected=expected), path)
        bad = [one for one in results if not one.well and not one.given_up]
        if bad or all(one.absent for one in results):
            raise NodeDisagreesError.of(
                messages.disagrees(one.client.name, one.finding, path, key_id)
                for one in bad or results
            )
        self._tell_absent(results)
        return NodesVerified(
            nodes=tuple(one.client.name for one in results if one.verified),
            left_out=tuple(one.client.name for one in results if one.absent),
            polled=any(one.polled for one in results),
            listed=self._listed,
            unidentified=bool(self._unidentified()),
        )

    def _everywhere(self, look: node_checks.NodeProbe, path: str) -> list[PollResult]:
        """Ask all nodes at once, then those that joined meanwhile."""
        results = self._poller.everyone(list(self._clients), look)
        while self._listable and all(one.well for one in results):
            newcomers = self._newcomers(path)
            if not newcomers:
                break
            results += self._poller.everyone(newcomers, look)
        return results

    def _newcomers(self, path: str) -> list[NodeClient]:
        """Return connections to nodes that joined meanwhile.

        Raises:
            NodeDisagreesError: one of them was never named.
        """
        listed = self._deps.gateway.sys.nodes()
        if any(client.only for client in self._clients) and len(listed) < 2:
            return []
        with self._lock:
            before, known = len(self._clients), self._shared_count
            shared = self._shared(listed)
            unnamed = self._admit([node for node in listed if node not in shared])
            unnamed += tuple(shared) if len(shared) > known else ()
            newcomers = self._clients[before:]
        if unnamed and not self._lenient:
            raise NodeDisagreesError.of([messages.joined(unnamed, path)])
        return newcomers

    def verify_cut_off(
        self, path: str, roles: Mapping[str, str | Mapping[str, Any] | None], *, index: str = ""
    ) -> tuple[NodeCut, ...]:
        """Prove on every node that no role gives a token, because there is no credential.

        A login that may not read tokens gets a 403, which proves nothing. Then the node's own
        ``config/verify`` must find nothing configured, and a warning says so.

        Args:
            path: of the mount.
            roles: with the ctx of each role's probe.
            index: see :meth:`verify`.
        """
        index = index or self._deps.gateway.transport.newest_index
        clients = list(self._clients)
        with Workers(len(clients)) as pool:
            return tuple(pool.map(lambda client: self._cut(client, path, roles, index), clients))

    def _cut(self, client: NodeClient, path: str, roles: Mapping[str, Any], index: str) -> NodeCut:
        """Ask one node: first ``config/verify``, which gives no token, then each role."""
        held = self._poller.poll_node(client, partial(node_checks.ask_cut, path=path, index=index))
        if not held.verified:
            return NodeCut(client.name, problem=held.finding.why)
        cuts = []
        for role, ctx in roles.items():
            question = partial(node_checks.ask_creds, path=path, role=role, ctx=ctx, index=index)
            found = self._poller.poll_node(client, question)
            # Only a 403 is a NO here; the other answers are results already.
            forbidden = found.finding.state is NodeState.NO
            answer = _FORBIDDEN if forbidden else found.finding.why
            cuts.append(RoleCut(role, found.verified or forbidden, answer))
        return NodeCut(client.name, tuple(cuts))


_FORBIDDEN = f"this login may not read it; config/verify says: {node_checks.NOT_CONFIGURED}"


def _id_of(client: NodeClient) -> str:
    return client.identity.node_id if client.identity else ""


def _silent_for_long(node: ClusterNode, listed: Sequence[ClusterNode]) -> bool:
    """Whether a node's last echo is much older than the newest echo of all nodes."""
    newest = max((_echo(one) for one in listed if one.last_echo), default=None)
    return newest is not None and bool(node.last_echo) and newest - _echo(node) > _OLD_ECHO


def _echo(node: ClusterNode) -> datetime:
    return parse_rfc3339(node.last_echo)
