"""The plugin process: handshake, mutual TLS, and one gRPC server while it is needed."""

# ruff: noqa: PTH101 - pathlib, with what it imports, keeps 0.6 MB in every plugin process
import asyncio
import os
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from functools import partial
from typing import NoReturn

from skyflowctl.plugin.backend import Backend, EngineFactory, MountStorage
from skyflowctl.plugin.broker import Broker, NoStorageError
from skyflowctl.plugin.certificates import OwnCertificate, client_context, server_context
from skyflowctl.plugin.control import control_services
from skyflowctl.plugin.handshake import Handshake, handshake_line, new_socket_path
from skyflowctl.plugin.life import Life, sweep_sockets
from skyflowctl.plugin.storage import BrokerStorage
from skyflowctl.plugin.transport import HostServer

# The size of the buffer that asyncio zeroes and keeps for each of its TLS connections, here those
# to token services. Its own is 256 KiB.
_TLS_BUFFER = 32 * 1024


def run(
    handshake: Handshake, own: OwnCertificate, make_engine: EngineFactory, *, shared: bool
) -> NoReturn:
    """Serve until the server is done; never returns.

    Args:
        handshake: the server's request.
        own: the certificate of this process.
        make_engine: makes the engine of one mount.
        shared: whether one process may serve several mounts.

    Raises:
        HandshakeError: the socket cannot be made.
    """
    SSLProtocol.max_size = _TLS_BUFFER
    socket_path = new_socket_path(handshake.socket_dir, os.getpid())
    sweep_sockets(handshake.socket_dir)
    asyncio.run(_serve(handshake, own, make_engine, socket_path, shared=shared))
    raise AssertionError("the plugin process ends by itself")


async def _serve(
    handshake: Handshake,
    own: OwnCertificate,
    make_engine: EngineFactory,
    socket_path: str,
    *,
    shared: bool,
) -> None:
    broker = Broker()
    context = client_context(own, handshake.host_certificate)
    backend = Backend(make_engine, partial(_connect, broker, context))
    life = Life(socket_path, lambda: backend.mounts)
    life.handle_signals()
    server = HostServer(
        [
            *backend.services(),
            *control_services(broker, shared=shared, on_shutdown=life.end),
        ],
        on_made=life.connected,
        on_lost=lambda: life.host_lost(broker.known_sockets),
    )
    await _listen(server, handshake, socket_path, server_context(own, handshake.host_certificate))
    _say(handshake_line(socket_path, own.der, with_multiplexing=handshake.tells_multiplexing))
    await life.watch()


async def _listen(
    server: HostServer, handshake: Handshake, socket_path: str, context: ssl.SSLContext
) -> None:
    previous = os.umask(0o177)
    try:
        await server.listen(socket_path, context)
    finally:
        os.umask(previous)
    if handshake.socket_group:
        os.chown(socket_path, -1, _group_id(handshake.socket_group))
        os.chmod(socket_path, 0o660)


def _group_id(group: str) -> int:
    if group.isdigit():
        return int(group)
    import grp

    return grp.getgrnam(group).gr_gid


def _say(line: str) -> None:
    """Print the handshake; later prints go to standard error."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)


async def _connect(broker: Broker, context: ssl.SSLContext, broker_id: int) -> MountStorage:
    storage = BrokerStorage(await broker.address(broker_id), context)
    try:
        await storage.connect()
    except OSError as error:
        raise NoStorageError(f"no connection to the server's storage: {error.strerror}") from error
    return storage
