"""Sends single requests to the server over kept connections of ``http.client``."""

import http.client
import io
import json
import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from .server import UNIX, ServerEndpoint, tls_settings
from .values import MaskedText

_MOST_BYTES = 4 * 1024 * 1024
_CONNECT_SECONDS = 5.0
_IDLE = 16
_NO_DATA = b"{}"


class ServerRequest(NamedTuple):
    """One request. Values that may be secret are masked: a traceback shows its locals.

    Args:
        method: GET or POST.
        path: below ``/v1/``, not quoted.
        params: the query.
        body: sent as JSON; None for no body.
        headers: sent as they are.
        token: the server's token; None: none is sent.
    """

    method: str
    path: str
    params: Mapping[str, MaskedText] = {}
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}
    token: MaskedText | None = None

    def __repr__(self) -> str:
        return f"ServerRequest({self.method} {self.path})"


class ServerReply(NamedTuple):
    """An answer with a whole body. Header names are in lower case; ``data`` may be secret."""

    status: int
    headers: Mapping[str, str]
    data: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"ServerReply({self.status})"


class NoReplyError(Exception):
    """There is no whole answer; the text says why."""


class ServerConnections:
    """Keeps connections to the addresses of an endpoint. Safe for threads.

    Args:
        endpoint: the server.

    Raises:
        ClientSettingsError: a certificate cannot be used.
    """

    def __init__(self, endpoint: ServerEndpoint) -> None:
        self._endpoint = endpoint
        secure = any(one.startswith("https:") for one in endpoint.addresses)
        self._context = tls_settings(endpoint) if secure else None
        self._idle: defaultdict[str, list[_Connection]] = defaultdict(list)
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Close every connection that is not in use; the others close after their answer."""
        with self._lock:
            self._closed = True
            for kept in self._idle.values():
                while kept:
                    kept.pop().close()

    def send(self, address: str, request: ServerRequest, seconds: float) -> ServerReply:
        """Send a request once, and return its answer.

        Args:
            address: one of the endpoint's.
            request: what to send.
            seconds: until the last byte of the answer.

        Raises:
            NoReplyError: the server cannot be reached, or does not answer whole and in time.
        """
        ends = time.monotonic() + seconds
        try:
            connection = self._usable(address) or self._opened(address, ends)
            try:
                reply = connection.exchange(request, self._endpoint.namespace, ends)
            except BaseException:
                connection.close()
                raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = _reason(error)
        else:
            self._keep(address, connection)
            return reply
        # Raised outside the except block: the other error's frames have the headers.
        raise NoReplyError(reason)

    def _usable(self, address: str) -> "_Connection | None":
        while True:
            with self._lock:
                kept = self._idle[address]
                connection = kept.pop() if kept else None
            if connection is None or connection.is_usable():
                return connection
            connection.close()

    def _opened(self, address: str, ends: float) -> "_Connection":
        connection = _Connection(address, self._context, self._endpoint.tls_server_name)
        connection.timeout = max(0.001, min(_CONNECT_SECONDS, ends - time.monotonic()))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _keep(self, address: str, connection: "_Connection") -> None:
        with self._lock:
            kept = self._idle[address]
            if not self._closed and connection.sock is not None and len(kept) < _IDLE:
                kept.append(connection)
                return
        connection.close()


class _Connection(http.client.HTTPConnection):
    """One connection: plain, with TLS, or to a unix socket."""

    def __init__(self, address: str, context: ssl.SSLContext | None, server_name: str) -> None:
        parts = urlsplit(address)
        self.default_port = 443 if parts.scheme == "https" else 80
        super().__init__(parts.hostname or "localhost", parts.port)
        self._unix = parts.path if parts.scheme == UNIX else ""
        self._context = context if parts.scheme == "https" else None
        self._server_name = server_name or parts.hostname
        self._ends = 0.0

    def connect(self) -> None:
        """Connect, and greet with TLS where the address says so."""
        if self._unix:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._unix)
            return
        super().connect()
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name)

    def is_usable(self) -> bool:
        """Whether the peer has neither closed the connection nor sent anything unasked."""
        if self.sock is None:
            return False
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        return not waiting.poll(0)

    def exchange(self, request: ServerRequest, namespace: str, ends: float) -> ServerReply:
        """Send a request and read its answer until ``ends`` of the monotonic clock."""
        assert self.sock is not None  # it was opened
        self.sock.settimeout(max(0.001, ends - time.monotonic()))
        headers = {"X-Vault-Request": "true", "Accept": "application/json", **request.headers}
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        if request.token is not None:
            headers["X-Vault-Token"] = request.token.reveal()
        query = urlencode({name: text.reveal() for name, text in request.params.items()})
        target = f"/v1/{quote(request.path, safe='/~')}" + (f"?{query}" if query else "")
        self._ends = ends
        self.request(request.method, target, _encoded(request.body), headers)
        with self.getresponse() as answer:
            content = answer.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES or answer.length:
                raise http.client.HTTPException("the answer is cut short or too large")
            names = {name.lower(): value for name, value in answer.getheaders()}
            return ServerReply(answer.status, names, _decoded(content))

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Return the reader of an answer, limited in time as a whole: a socket's own limit is for
        one read, and a server that drips never exceeds it."""
        answer = http.client.HTTPResponse(sock, *args, **kwargs)
        answer.fp = io.BufferedReader(_LimitedReader(sock, answer.fp.detach(), self._ends))
        return answer


class _LimitedReader(io.RawIOBase):
    """Reads a socket until a point in time."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, ends: float) -> None:
        self._sock, self._raw, self._ends = sock, raw, ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _encoded(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else json.dumps(body, default=_revealed).encode()


def _revealed(value: object) -> str:
    if isinstance(value, MaskedText):
        return value.reveal()
    raise TypeError(f"a {type(value).__name__} cannot be sent as JSON")


def _decoded(content: bytes) -> Mapping[str, Any]:
    """Return the object in an answer; empty if there is none, as in a proxy's error page."""
    try:
        found = json.loads(content or _NO_DATA)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    """Return why there is no answer. The texts of ``http.client`` may quote what was received."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, ConnectionRefusedError):
        return "it refused the connection"
    if isinstance(error, OSError):
        return error.strerror or "the connection was closed"
    return "its answer is not whole or not HTTP"
