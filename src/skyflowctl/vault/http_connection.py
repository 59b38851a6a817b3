"""Keeps connections to the addresses of a target; http.client reads the answers.

Against requests, which hvac would use, it saves 120 ms of CPU at the start of a command that only
reads, and a millisecond at each request.
"""

import http.client
import re
import select
import socket
import ssl
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from skyflowctl.skyflow.http.proxies import proxy_authorization
from skyflowctl.vault.bounded import PIECE, BoundedResponse, read_body
from skyflowctl.vault.connection import (
    CONNECT_SECONDS,
    NoResponseError,
    NotSentError,
    OneRequest,
    Received,
    proxy_url,
)
from skyflowctl.vault.connection_errors import (
    answer_error,
    connect_error,
    connect_unix,
    proxy_error,
)
from skyflowctl.vault.target import UNIX_SCHEME, Target
from skyflowctl.vault.tls import tls_context

_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_LINE_END = re.compile(r"[\r\n\0]")


class HttpPool:
    """A pool of kept connections. Each thread that sends at the same time uses one.

    Args:
        target: the server.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: defaultdict[str, list[_Connection]] = defaultdict(list)
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._closed = False
        # A transport that is dropped without close() leaves no open socket behind.
        weakref.finalize(self, _close_all, self._idle)

    def close(self) -> None:
        """Close every connection that is not in use; the others close after their answer."""
        with self._lock:
            self._closed = True
            _close_all(self._idle)

    def send(self, address: str, request: OneRequest) -> Received:
        """Send one request once and return any answer; see :meth:`TargetPool.send`."""
        ends = time.monotonic() + request.seconds
        connection = self._connection(address, ends)
        try:
            received = connection.exchange(request, ends)
        except BaseException:
            connection.close()
            raise
        self._keep(address, connection)
        return received

    def _connection(self, address: str, ends: float) -> "_Connection":
        """Return a connection that is open: a kept one, else a new one."""
        while True:
            with self._lock:
                kept = self._idle[address]
                connection = kept.pop() if kept else None
            if connection is None:
                break
            if connection.is_usable():
                return connection
            connection.close()
        made = self._new_connection(address)
        made.open(ends)
        return made

    def _new_connection(self, address: str) -> "_Connection":
        parts = urlsplit(address)
        if parts.scheme == UNIX_SCHEME:
            return _UnixConnection(parts.path)
        proxy = proxy_url(self._target, address)
        return _Connection(
            address,
            proxy=proxy,
            context=self._context_for(address),
            proxy_context=self._context_for(proxy),
            server_name=self._target.tls_server_name,
        )

    def _keep(self, address: str, connection: "_Connection") -> None:
        with self._lock:
            if not self._closed and connection.sock is not None:
                self._idle[address].append(connection)
                return
        connection.close()

    def _context_for(self, address: str) -> ssl.SSLContext | None:
        """Return the TLS context for a server or a proxy, if its URL wants TLS."""
        if not address.startswith("https:"):
            return None
        with self._lock:
            if self._context is None:
                self._context = tls_context(self._target)
            return self._context


def _close_all(idle: "Mapping[str, list[_Connection]]") -> None:
    for connections in idle.values():
        while connections:
            connections.pop().close()


class _Connection:
    """One connection, direct or through a proxy.

    Args:
        address: of the server.
        proxy: the URL of the proxy; empty for none.
        context: for a server with TLS.
        proxy_context: for a proxy with TLS.
        server_name: the name in every certificate, as in the stock client; empty for the host.
    """

    def __init__(
        self,
        address: str,
        *,
        proxy: str = "",
        context: ssl.SSLContext | None = None,
        proxy_context: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        server, via = urlsplit(address), urlsplit(proxy)
        usual_port = 443 if context else 80  # it is not in the Host header
        host = f"[{server.hostname}]" if ":" in (server.hostname or "") else server.hostname
        port = server.port or usual_port
        self._peer = f"{host}:{port}"
        self._host = f"{host}" if port == usual_port else self._peer
        near, near_context = (via, proxy_context) if proxy else (server, context)
        self._near = (near.hostname or "", near.port or (443 if near_context else 80))
        self._address = address
        self._context = context
        self._server_name = server_name or server.hostname or ""
        self._proxy_context = proxy_context
        self._proxy_name = server_name or via.hostname or ""
        self._proxied = bool(proxy)
        login = proxy_authorization(via)
        self._login = {"Proxy-Authorization": login.reveal()} if login else {}
        self.sock: socket.socket | None = None

    def close(self) -> None:
        """Close it."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def open(self, ends: float) -> None:
        """Connect within :data:`CONNECT_SECONDS`, and before a time of ``time.monotonic()``.

        Raises:
            NotSentError: there is no connection.
            NoResponseError: the peer did not finish the TLS handshake.
        """
        seconds = max(0.001, min(CONNECT_SECONDS, ends - time.monotonic()))
        explain: Callable[[Exception], NotSentError | NoResponseError]
        explain = proxy_error if self._proxied else connect_error
        try:
            self.sock = self._connected(seconds)
            if self._proxy_context:
                self._add_tls(self.sock, self._proxy_context, self._proxy_name)
            if self._proxied and self._context:
                self._open_tunnel(self.sock, ends)
                self.sock.settimeout(seconds)
            explain = answer_error
            if self._context:
                self._add_tls(self.sock, self._context, self._server_name)
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            self.close()
            raise explain(error) from None

    def _connected(self, seconds: float) -> socket.socket:
        found = socket.create_connection(self._near, seconds)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _notice_silence(found)
        return found

    def _add_tls(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        """Use TLS from here on, inside the TLS of the proxy if it has one."""
        if isinstance(sock, ssl.SSLSocket):
            from urllib3.util.ssltransport import SSLTransport

            inner: Any = SSLTransport(sock, context, name)
            self.sock = inner
        else:
            self.sock = context.wrap_socket(sock, server_hostname=name)

    def _open_tunnel(self, sock: socket.socket, ends: float) -> None:
        """Ask the proxy to connect to the server.

        Raises:
            OSError: it does not; the text has its status, if it answered.
        """
        sock.sendall(_head("CONNECT", self._peer, {"Host": self._peer} | self._login))
        with BoundedResponse(sock, "CONNECT", ends) as answer:
            answer.begin()
            if answer.status != http.client.OK:
                raise OSError(f"Tunnel connection failed: {answer.status}")

    def is_usable(self) -> bool:
        """Whether the peer has neither closed the connection nor sent anything unasked."""
        if self.sock is None:
            return False
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        return not waiting.poll(0)

    def exchange(self, request: OneRequest, ends: float) -> Received:
        """Send a request and return its answer, whose last byte arrives in time.

        Raises:
            NotSentError: the peer refused it.
            NoResponseError: there is no whole answer.
        """
        assert self.sock is not None  # it was opened
        target, headers = f"/{request.path}", {"Host": self._host, **request.headers}
        if self._proxied and not self._context:
            # The proxy forwards the request itself, and needs the whole address.
            target, headers = self._address + target, headers | self._login
        if request.content is not None or request.method in _METHODS_WITH_BODY:
            headers["Content-Length"] = str(len(request.content or b""))
        try:
            self.sock.settimeout(request.seconds)
            # In one piece: in two, the server would read twice.
            self.sock.sendall(_head(request.method, target, headers) + (request.content or b""))
        except OSError as error:
            raise answer_error(error) from None
        with BoundedResponse(self.sock, request.method, ends) as answer:
            try:
                answer.begin()
            except (OSError, http.client.HTTPException) as error:
                raise answer_error(error) from None
            joined: dict[str, str] = {}
            for name, value in answer.getheaders():
                before = joined.get(name.lower())
                joined[name.lower()] = value if before is None else f"{before}, {value}"
            content = read_body(_pieces(answer), joined.get("content-encoding", ""))
        if answer.will_close:
            self.close()
        return Received(answer.status, joined, content)


class _UnixConnection(_Connection):
    """A connection to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("http://localhost")
        self._path = path

    def _connected(self, seconds: float) -> socket.socket:
        return connect_unix(self._path, seconds)


def _notice_silence(sock: socket.socket) -> None:
    """End the connection if the peer's machine acknowledges nothing any more: after 10 to 15 s.

    Otherwise a request to a node that is cut off would wait for its whole time limit, and none
    would be left for the other nodes. A peer that only needs long to answer is not affected.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", 10_000),  # milliseconds
    ):
        if option := getattr(socket, name, 0):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request.

    Raises:
        ValueError: a part of it would end a line.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if _LINE_END.search("".join(lines)):
        raise ValueError("a header of the request contains the end of a line")
    return "\r\n".join([*lines, "", ""]).encode("iso-8859-1")


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read(PIECE):
        yield piece
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
