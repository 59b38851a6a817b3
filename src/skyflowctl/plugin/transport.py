"""The gRPC server; the only module that extends grpclib's classes."""

import asyncio
import ssl
from asyncio import BaseTransport
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from h2.settings import SettingCodes

# With the library's 100, one mount's slow requests would block another's in a shared process.
_MAX_STREAMS = 10_000
# The server connects once, right after the process has started.
_HANDSHAKE_SECONDS = 5.0
_MAX_PENDING = 16

UnaryFunction = Callable[[Any, Mapping[str, str]], Awaitable[Any]]


class Service:
    """The methods of one gRPC service, by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._methods: dict[str, Handler] = {}

    def unary(self, method: str, function: UnaryFunction, request: Any, reply: Any) -> None:
        """Serve ``method``: ``function`` gets the message and the call's metadata."""

        async def serve(stream: Stream[Any, Any]) -> None:
            message = await stream.recv_message()
            metadata: Any = stream.metadata or {}
            await stream.send_message(await function(message, metadata))

        self.stream(method, serve, request, reply, Cardinality.UNARY_UNARY)

    def stream(
        self,
        method: str,
        function: Callable[[Stream[Any, Any]], Awaitable[None]],
        request: Any,
        reply: Any,
        cardinality: Cardinality,
    ) -> None:
        """Serve ``method`` with a function that reads and writes the stream itself."""
        path = f"/{self._name}/{method}"
        self._methods[path] = Handler(function, cardinality, request, reply)

    def __mapping__(self) -> Mapping[str, Handler]:
        return self._methods


class _Methods(dict[str, Handler]):
    """The served methods; a call of another one gets a correct "unimplemented".

    The library's own answer lacks the content type, so the server reports a broken connection
    ("malformed header"), not a missing method.
    """

    def get(self, path: str, default: Any = None) -> Any:
        return super().get(path, default) or Handler(
            _unimplemented, Cardinality.UNARY_UNARY, _Anything, _Anything
        )


class _Anything:
    """Represents the messages of a method that is not served."""


async def _unimplemented(_stream: Stream[Any, Any]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "the plugin has no such method")


class _HostConnection(H2Protocol):
    """The server's connection; calls back when it is made and when it is lost."""

    on_made: Callable[[], None]
    on_lost: Callable[[], None]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        settings: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: _MAX_STREAMS
        }
        self.connection._connection.update_settings(settings)  # noqa: SLF001
        self.connection.flush()
        self.on_made()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.on_lost()
        super().connection_lost(exc)


class HostServer(Server):
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
        super().__init__(services, codec=ProtoCodec())
        self._mapping = _Methods(self._mapping)
        self._on_made = on_made
        self._on_lost = on_lost
        self._pending: list[float] = []

    async def listen(self, path: str, context: ssl.SSLContext) -> None:
        """Listen on a unix socket; disconnect clients that do not finish the handshake."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            self._protocol_factory,
            path,
            ssl=context,
            backlog=_MAX_PENDING,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        self._server_closed_fut = loop.create_future()

    def _protocol_factory(self) -> H2Protocol:
        """Return the protocol of a new connection, before its handshake.

        Raises:
            ConnectionRefusedError: too many connections have not finished theirs; this one is
                closed.
        """
        now = asyncio.get_running_loop().time()
        self._pending = [begun for begun in self._pending if now - begun < _HANDSHAKE_SECONDS]
        if len(self._pending) >= _MAX_PENDING:
            raise ConnectionRefusedError("too many connections without a handshake")
        self._pending.append(now)
        plain = super()._protocol_factory()
        connection = _HostConnection(plain.handler, plain.config, plain.h2_config)
        connection.on_made = partial(self._made, now)
        connection.on_lost = self._on_lost
        return connection

    def _made(self, begun: float) -> None:
        if begun in self._pending:
            self._pending.remove(begun)
        self._on_made()
