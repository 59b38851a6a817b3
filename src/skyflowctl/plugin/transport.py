"""The services of the plugin, by method, and the listener on which the host process calls them."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from skyflowctl.plugin.http2.server import (
    ListenMethod,
    Methods,
    ServerConnection,
    UnaryMethod,
)
from skyflowctl.plugin.http2.tls import HANDSHAKE_SECONDS, TlsLink

# The server connects once, right after the process has started.
_MAX_PENDING = 16

UnaryFunction = Callable[[Any, Mapping[str, str]], Awaitable[Any]]


class Service:
    """The methods of one gRPC service, by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.methods: dict[bytes, UnaryMethod | ListenMethod] = {}

    def unary(
        self,
        method: str,
        function: UnaryFunction,
        request: Any,
        *,
        quick: Callable[[Any], Any] | None = None,
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        """Serve ``method``: ``function`` gets the message and the call's metadata.

        Args:
            method: the method's name.
            function: returns the reply's message.
            request: the type of the call's message.
            quick: returns the reply if nothing has to be waited for, else None.
            afterwards: called when the reply is written.
        """
        self._add(method, UnaryMethod(request.FromString, function, quick, afterwards))

    def listen(
        self, method: str, function: Callable[[Any], None], request: Any, *, stays: bool
    ) -> None:
        """Serve ``method``, which sends nothing: ``function`` gets every message of a call.

        Args:
            method: the method's name.
            function: gets a message.
            request: the type of the messages.
            stays: the call goes on when the caller has sent its last message.
        """
        self._add(method, ListenMethod(request.FromString, function, stays))

    def _add(self, method: str, served: UnaryMethod | ListenMethod) -> None:
        self.methods[f"/{self._name}/{method}".encode()] = served


class HostServer:
    """A gRPC server for one client, the host process.

    Args:
        services: the services.
        on_made: called when the host has connected.
        on_lost: called when that connection is lost, before its calls are cancelled.
    """

    def __init__(
        self,
        services: list[Service],
        *,
        on_made: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._methods: Methods = {
            path: method for service in services for path, method in service.methods.items()
        }
        self._on_made, self._on_lost = on_made, on_lost
        self._pending: list[float] = []
        self._server: asyncio.Server | None = None

    async def listen(self, path: str, context: ssl.SSLContext) -> None:
        """Listen on a unix socket; disconnect clients that do not finish the handshake."""
        self._server = await asyncio.get_running_loop().create_unix_server(
            partial(self._accept, context), path, backlog=_MAX_PENDING
        )

    def _accept(self, context: ssl.SSLContext) -> TlsLink:
        """Return the protocol of a new connection, before its handshake.

        Raises:
            ConnectionRefusedError: too many connections have not finished theirs; this one is
                closed.
        """
        now = asyncio.get_running_loop().time()
        self._pending = [begun for begun in self._pending if now - begun < HANDSHAKE_SECONDS]
        if len(self._pending) >= _MAX_PENDING:
            raise ConnectionRefusedError("too many connections without a handshake")
        self._pending.append(now)
        connection = ServerConnection(self._methods, self._on_made, self._on_lost)
        return TlsLink(context, connection, on_shaken=partial(self._shaken, now))

    def _shaken(self, begun: float, error: OSError | None) -> None:
        if error is None and begun in self._pending:
            self._pending.remove(begun)
