"""Cuts a node of a cluster off from the others, while this machine still reaches all of them.

Root gives each node a network namespace of its own; the others' addresses are then blackholes.
Elsewhere the nodes find each other's raft through TCP proxies on loopback, which close what a
node that is cut off sends or gets.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Protocol

import psutil

from support.cluster import ServerCluster, ServerNode


class Network(Protocol):
    """Where the nodes of a cluster are."""

    name: str

    def place(self, node: ServerNode) -> None:
        """Give a node its host, before it starts."""

    def cut(self, cluster: ServerCluster, node: ServerNode) -> None:
        """Let nothing pass between this node and the others."""

    def heal(self, cluster: ServerCluster, node: ServerNode) -> None:
        """Let everything pass again."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


class NetworkNamespaces:
    """A namespace for each node, joined by a bridge that this machine is on, too."""

    name = "network namespaces"

    def __init__(self) -> None:
        self._mark = f"sf{secrets.token_hex(2)}"
        self._net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self._made: list[str] = []
        _ip("netns", "add", self._mark)  # whoever may do this may do the rest
        _ip("netns", "del", self._mark)
        _ip("link", "add", "name", self._mark, "type", "bridge")
        _ip("addr", "add", f"{self._net}.1/24", "dev", self._mark)
        _ip("link", "set", self._mark, "up")

    def place(self, node: ServerNode) -> None:
        """Make the node's namespace."""
        space = f"{self._mark}{node.name}"
        node.host = f"{self._net}.{10 + len(self._made)}"
        node.prefix = ("ip", "netns", "exec", space)
        _ip("netns", "add", space)
        self._made.append(space)
        _ip("link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", space, "master", self._mark, "up")
        for words in (
            ("addr", "add", f"{node.host}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", space, *words)

    def cut(self, cluster: ServerCluster, node: ServerNode) -> None:
        """Make blackholes of the others' addresses."""
        self._route("add", cluster, node)

    def heal(self, cluster: ServerCluster, node: ServerNode) -> None:
        """Remove the blackholes."""
        self._route("del", cluster, node)

    def _route(self, verb: str, cluster: ServerCluster, node: ServerNode) -> None:
        for other in cluster.nodes:
            if other is not node:
                _ip("-n", node.prefix[-1], "route", verb, "blackhole", f"{other.host}/32")

    def close(self) -> None:
        """Remove the namespaces and the bridge."""
        for space in self._made:
            # Sockets that still wait for an answer keep a namespace for minutes, but not its link.
            _ip("link", "del", space)
            _ip("netns", "del", space)
        _ip("link", "del", self._mark)


class LoopbackProxies:
    """A TCP proxy before each node's raft; it knows by its process which node a peer is."""

    name = "TCP proxies on loopback"

    def __init__(self) -> None:
        self._cut: set[int] = set()
        self._nodes: list[ServerNode] = []
        self._listeners: list[socket.socket] = []
        self._open: list[tuple[ServerNode, ServerNode | None, socket.socket, socket.socket]] = []
        self._lock = threading.Lock()

    def place(self, node: ServerNode) -> None:
        """Start the node's proxy."""
        listener = socket.create_server(("127.0.0.1", 0))
        host, port = listener.getsockname()
        node.advertised = f"{host}:{port}"
        self._nodes.append(node)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(node, listener), daemon=True).start()

    def cut(self, cluster: ServerCluster, node: ServerNode) -> None:
        """Close the node's connections with the others, and accept none."""
        with self._lock:
            self._cut.add(node.port)
            ended = [one for one in self._open if node in one[:2]]
        for *_, near, far in ended:
            _shut(near, far)

    def heal(self, cluster: ServerCluster, node: ServerNode) -> None:
        """Accept connections again."""
        with self._lock:
            self._cut.discard(node.port)

    def close(self) -> None:
        """Close every socket."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for *_, near, far in self._open:
            _shut(near, far)

    def _accept(self, node: ServerNode, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, peer = listener.accept()
                self._connect(node, near, peer[1])

    def _connect(self, node: ServerNode, near: socket.socket, port: int) -> None:
        sender = self._owner(port)
        with self._lock:
            is_cut = any(one and one.port in self._cut for one in (node, sender))
        try:
            if is_cut:
                raise ConnectionRefusedError
            far = socket.create_connection((node.host, node.port + 1), 5)
        except OSError:
            near.close()
            return
        with self._lock:
            self._open.append((node, sender, near, far))
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def _owner(self, port: int) -> ServerNode | None:
        """The node that connects from this port."""
        for node in self._nodes:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(node.process.pid) if node.process else None
                found = process.net_connections("tcp") if process else []
                if any(one.laddr and one.laddr.port == port for one in found):
                    return node
        return None


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.settimeout(None)
        while data := one.recv(65_536):
            other.sendall(data)
    _shut(one, other)


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextlib.contextmanager
def divisible_network() -> Iterator[Network]:
    """Network namespaces where they can be made, else proxies."""
    network: NetworkNamespaces | LoopbackProxies
    try:
        if os.geteuid() or not shutil.which("ip"):
            raise PermissionError
        network = NetworkNamespaces()
    except (OSError, subprocess.CalledProcessError):
        network = LoopbackProxies()
    try:
        yield network
    finally:
        network.close()
