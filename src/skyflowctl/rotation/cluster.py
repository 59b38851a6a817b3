"""Every node of the cluster, asked itself: which credential is live there, and does it mint?

A write is not seen everywhere at once, and each node's engine has a memory of its own, so
what the leader says proves nothing for the others. A node that cannot be reached and that
the cluster no longer lists cannot mint either (a killed one is listed for another 11 to 15
seconds, measured on OpenBao 2.7.2); one that is listed, or takes connections and is silent,
may come back and mint with what it knew.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError
from skyflowctl.rotation import messages, node_checks
from skyflowctl.rotation.model import RotationJob
from skyflowctl.rotation.node_checks import Expectation, NodeClient, NodeState
from skyflowctl.rotation.node_poller import IN_A_ROW, NodePoller, PollResult
from skyflowctl.rotation.ports import Dependencies, names
from skyflowctl.rotation.revocation.model import NodeCut, RoleCut
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.responses import ClusterNode

NODE_TIMEOUT = timedelta(seconds=30)
"""How long a node may lag, a leader's election take, or a dead node still be listed."""
_OLD_ECHO = timedelta(seconds=15)


class NodeDisagreesError(SkyflowctlError):
    """A node does not prove what is to be live; one problem for each such node."""

    exit_code = ExitCode.PARTIAL
    default_code = "node-disagrees"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved.

    Args:
        nodes: those that proved it, each by its own answer.
        left_out: those that cannot be reached, and that the cluster does not list now.
        polled: a node cannot say how new its answers are, and was asked repeatedly.
        listed: how many nodes the cluster lists; 0: it is not told.
        unidentified: the nodes do not say which they are.
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
    """Open a way to every node, and see that each can be asked, before anything is written.

    Args:
        deps: the server, and how to reach one node of it.
        job: its options ``unverified_nodes`` and ``poll`` count here.
        timeout: for a node that does not answer as it should.

    Raises:
        RefusedError: nodes that were not named, that do not answer, or a list of nodes that this
            login may not read.
        VaultError: the server cannot be asked.
    """
    nodes = Cluster(deps, job, timeout)
    try:
        nodes.open()
        yield nodes
    finally:
        nodes.close()


class Cluster:
    """The nodes of one server. Safe for threads once it is open."""

    def __init__(self, deps: Dependencies, job: RotationJob, timeout: timedelta) -> None:
        self._deps = deps
        self._lenient = job.options.unverified_nodes
        self._poller = NodePoller(deps, timeout, job.options.poll, self._is_gone)
        self._clients: list[NodeClient] = []
        self._listable = False
        self._elsewhere: set[str] = set()
        self._listed = 0
        self._shared_count = 0
        self._told: dict[Problem, None] = {}
        self._gaps: dict[Problem, None] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that are asked."""
        return tuple(client.name for client in self._clients)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was not proved and why, each once."""
        return tuple(self._told)

    @property
    def gaps(self) -> tuple[Problem, ...]:
        """Those of them for which some node may be unproved; empty: every one is asked."""
        return tuple(self._gaps)

    def close(self) -> None:
        """Close the ways to single nodes; the server's own gateway stays open."""
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
        self._identify({names([node])[0] for node in listed})
        if not self._clients or not self._listable:
            self._clients.append(self._whole(only=False))
        elif [node.active for node in listed] == [True] and len(self._clients) == 1:
            # Every write is this node's own, so that no answer of it is older than one.
            self._clients[0].only = True

    def _whole(self, *, only: bool) -> NodeClient:
        """The server's own address, for want of nodes."""
        return NodeClient("the server", self._deps.gateway, own=False, only=only)

    def _list(self) -> tuple[ClusterNode, ...]:
        """Return the nodes as the leader lists them; none where that is not told."""
        try:
            listed = self._deps.gateway.nodes()
        except ForbiddenError as error:
            self._refuse_or_warn([messages.unlisted(error)])
            return ()
        self._listable = True
        return listed

    def _shared(self, listed: Sequence[ClusterNode]) -> list[ClusterNode]:
        """Return the nodes that one cannot ask alone, for they have one address together."""
        counts = Counter(names(listed))
        shared = [node for node in listed if counts[names([node])[0]] > 1]
        self._listed, self._shared_count = len(listed), len(shared)
        return shared

    def _named_besides(self, listed: Sequence[ClusterNode]) -> tuple[ClusterNode, ...]:
        """Nodes that the user named and the leader does not list: cut off, perhaps, and alive."""
        known = {node.api_address for node in listed}
        named = self._deps.gateway.transport.server.addresses[1:]
        return tuple(ClusterNode("", at, False, "", "") for at in named if at not in known)

    def _admit(self, nodes: Iterable[ClusterNode]) -> tuple[ClusterNode, ...]:
        """Open the ways that are not open yet; return the nodes that nobody named."""
        unnamed = []
        for node in nodes:
            name = names([node])[0]
            if self._deps.connect is None or name in self.names or name in self._elsewhere:
                continue
            gateway = self._deps.connect(node)
            if gateway is None:
                unnamed.append(node)
            else:
                self._clients.append(NodeClient(name, gateway))
        return tuple(unnamed)

    def _identify(self, listed: Collection[str]) -> None:
        """Have every node say who it is; one that does not could not be proved later."""
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
        # A server names itself only where it is set to. Each of these was asked at its own
        # address, and may not pass a question on: that is proof enough to go on with.
        self._told |= dict.fromkeys(
            [messages.unidentified_nodes(unidentified)] if unidentified else []
        )

    def _unidentified(self) -> list[str]:
        """Return the nodes that do not say who they are, so that several may be one."""
        anonymous = [client.name for client in self._clients if client.own and not _id_of(client)]
        return anonymous if len(anonymous) > 1 else []

    def _foreign(self) -> list[NodeClient]:
        """Ways to a node that has another one already, or to another cluster."""
        cluster = self._deps.gateway.cluster_id()
        seen: set[str] = set()
        foreign = []
        for client in self._clients:
            who = client.identity
            if who is None:
                continue
            if who.cluster_id and who.cluster_id != cluster:
                self._told[messages.other_cluster(client.name)] = None
                foreign.append(client)
            elif who.node_id in seen:
                foreign.append(client)
            elif who.node_id:
                seen.add(who.node_id)
        return foreign

    def _is_gone(self, client: NodeClient) -> bool:
        """Whether the cluster has given a node up that cannot be reached.

        Asks the leader; while there is none, no node is given up.
        """
        if not client.own:
            return False
        if not self._listable:
            return self._lenient
        try:
            listed = self._deps.gateway.nodes()
        except VaultError:
            return False
        mine = [node for node in listed if names([node])[0] == client.name]
        return all(not node.active and _silent_for_long(node, listed) for node in mine)

    def _refuse_or_warn(self, problems: Sequence[Problem]) -> None:
        """Refuse, unless the user goes on without these nodes.

        Raises:
            RefusedError: with all of them.
        """
        if problems and not self._lenient:
            raise RefusedError.of(problems)
        self._told |= dict.fromkeys(problems)
        self._gaps |= dict.fromkeys(problems)

    def _tell_absent(self, results: Iterable[PollResult]) -> None:
        self._told |= dict.fromkeys(messages.left_out(one) for one in results if one.absent)

    # What they prove -------------------------------------------------------------

    def prove(
        self,
        path: str,
        key_id: str,
        *,
        roles_may_fail: Collection[str] = frozenset(),
        index: str = "",
    ) -> Proof:
        """Prove that on every node this key is live and mints for every role.

        May be called again and again, to watch.

        Args:
            path: of the mount.
            key_id: the key.
            roles_may_fail: roles that no credential could mint before.
            index: how new the answers must be; empty: as new as the newest answer that
                this command has had, which that to its own write is part of.

        Raises:
            NodeDisagreesError: a node answers otherwise, late, or not at all.
            VaultError: the nodes cannot be listed any more.
        """
        index = index or self._deps.gateway.transport.newest_index
        newest = cache(lambda: self._deps.gateway.read_config(path).version)
        expected = Expectation(path, key_id, frozenset(roles_may_fail), index, newest)
        results = self._everywhere(partial(node_checks.ask, expected=expected), path)
        bad = [one for one in results if not one.well and not one.given_up]
        if bad or all(one.absent for one in results):
            raise NodeDisagreesError.of(
                messages.disagrees(one.client.name, one.finding, path, key_id)
                for one in bad or results
            )
        self._tell_absent(results)
        return Proof(
            nodes=tuple(one.client.name for one in results if one.proved),
            left_out=tuple(one.client.name for one in results if one.absent),
            polled=any(one.polled for one in results),
            listed=self._listed,
            unidentified=bool(self._unidentified()),
        )

    def _everywhere(self, look: node_checks.NodeProbe, path: str) -> list[PollResult]:
        """Ask all nodes at once, and then those that the cluster lists by now besides."""
        results = self._poller.everyone(list(self._clients), look)
        while self._listable and all(one.well for one in results):
            newcomers = self._newcomers(path)
            if not newcomers:
                break
            results += self._poller.everyone(newcomers, look)
        return results

    def _newcomers(self, path: str) -> list[NodeClient]:
        """Return the ways to nodes that joined meanwhile.

        Raises:
            NodeDisagreesError: one of them was never named.
        """
        listed = self._deps.gateway.nodes()
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

    def prove_cut_off(
        self, path: str, roles: Mapping[str, str | Mapping[str, Any] | None], *, index: str = ""
    ) -> tuple[NodeCut, ...]:
        """Prove on every node that no role gives a token, because no credential is there.

        A login that may not read tokens gets a 403, which proves nothing: then it counts
        that the node's own ``config/verify`` finds nothing configured, and it is said.

        Args:
            path: of the mount.
            roles: with the ctx of each role's probe.
            index: see :meth:`prove`.
        """
        index = index or self._deps.gateway.transport.newest_index
        clients = list(self._clients)
        with Workers(len(clients)) as pool:
            return tuple(pool.map(lambda client: self._cut(client, path, roles, index), clients))

    def _cut(self, client: NodeClient, path: str, roles: Mapping[str, Any], index: str) -> NodeCut:
        """Ask one node: first what it holds, which gives no token, then role by role."""
        held = self._poller.until_settled(
            client, partial(node_checks.ask_cut, path=path, index=index)
        )
        if not held.proved:
            return NodeCut(client.name, problem=held.finding.why)
        cuts = []
        for role, ctx in roles.items():
            question = partial(node_checks.ask_creds, path=path, role=role, ctx=ctx, index=index)
            found = self._poller.until_settled(client, question)
            # Only a 403 is a NO here; what the node holds was results before.
            forbidden = found.finding.state is NodeState.NO
            answer = _FORBIDDEN if forbidden else found.finding.why
            cuts.append(RoleCut(role, found.proved or forbidden, answer))
        return NodeCut(client.name, tuple(cuts))


_FORBIDDEN = f"this login may not read it; config/verify says: {node_checks.NOT_CONFIGURED}"


def _id_of(client: NodeClient) -> str:
    return client.identity.node_id if client.identity else ""


def _silent_for_long(node: ClusterNode, listed: Sequence[ClusterNode]) -> bool:
    """Whether a node's last echo is much older than the newest one of all."""
    newest = max((_echo(one) for one in listed if one.last_echo), default=None)
    return newest is not None and bool(node.last_echo) and newest - _echo(node) > _OLD_ECHO


def _echo(node: ClusterNode) -> datetime:
    return parse_rfc3339(node.last_echo)
