"""TLS between a socket and a connection, over the standard library's ``ssl``.

asyncio's own TLS keeps a buffer for every connection and spends about as much on a small message
as all of HTTP/2. Here one buffer serves all connections, and a write goes to the socket at once.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any

HANDSHAKE_SECONDS = 5.0
_READ = 64 * 1024
# Filled and emptied within one call of the event loop, so it is shared.
_BUFFER = memoryview(bytearray(_READ))


class TlsLink(asyncio.BufferedProtocol, asyncio.Transport):
    """The protocol of a socket, and the transport of the connection on top of it.

    Args:
        context: the TLS settings.
        above: gets ``connection_made`` when the handshake is done, and decrypted data.
        server_name: the name in the server's certificate; None on the server's side.
        on_shaken: called with None when the handshake is done, or with the reason if it fails.
            It has 5 seconds.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        above: asyncio.Protocol,
        server_name: str | None = None,
        on_shaken: Callable[[OSError | None], None] = lambda _error: None,
    ) -> None:
        super().__init__()
        self._above = above
        self._on_shaken = on_shaken
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._below: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._shaken = False
        self._closing = False

    # The socket's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._below = transport
        late = ConnectionAbortedError("the TLS handshake took too long")
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._give_up, late)
        self._shake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - as asyncio calls it
        """Return the memory that the next data is read into."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt what was read."""
        self._incoming.write(_BUFFER[:nbytes])
        if self._shaken or self._shake():
            self._read()

    def eof_received(self) -> None:
        """Let the socket be closed."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the connection, or who waits for the handshake."""
        self._closing = True
        if self._shaken:
            self._above.connection_lost(exc if isinstance(exc, Exception) else None)
        else:
            self._give_up(ConnectionResetError("the connection was closed in the handshake"))

    def pause_writing(self) -> None:
        """Pass it on."""
        if self._shaken:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._shaken:
            self._above.resume_writing()

    # TLS

    def _shake(self) -> bool:
        """Go on with the handshake; True when it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except OSError as error:
            self._send()  # the alert
            self._give_up(error)
            return False
        self._send()
        self._finish_handshake(None)
        self._shaken = True
        self._above.connection_made(self)
        return True

    def _finish_handshake(self, error: OSError | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._on_shaken(error)

    def _give_up(self, error: OSError) -> None:
        self._finish_handshake(error)
        self.close()

    def _read(self) -> None:
        parts = []
        ended = False
        try:
            while True:
                part = self._tls.read(_READ)
                ended = not part
                parts.append(part)
                if ended or not (self._incoming.pending or self._tls.pending()):
                    break
        except ssl.SSLWantReadError:
            pass
        except OSError:  # a farewell, or what is no TLS
            ended = True
        if self._outgoing.pending:
            self._send()
        if parts:
            self._above.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if ended:
            self.close()

    def _send(self) -> None:
        if self._outgoing.pending and self._below is not None:
            self._below.write(self._outgoing.read())

    # The connection's calls

    def write(self, data: Any) -> None:
        """Encrypt and write; nothing after the end."""
        if not self._closing:
            self._tls.write(data)
            self._send()

    def close(self) -> None:
        """Say farewell, and close when all is written."""
        if self._closing or self._below is None:
            return
        self._closing = True
        if self._shaken:
            with contextlib.suppress(OSError):  # the peer's own farewell is not waited for
                self._tls.unwrap()
            self._send()
        self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._below is not None:
            self._below.abort()

    def is_closing(self) -> bool:
        """Return whether it is closed or soon will be."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the operating system has not taken yet."""
        return self._below.get_write_buffer_size() if self._below is not None else 0


async def connect_tls(
    path: str, context: ssl.SSLContext, server_name: str, above: asyncio.Protocol
) -> None:
    """Connect to a unix socket; ``above`` is in use when this returns.

    Raises:
        OSError: there is no server, or the handshake failed.
    """
    loop = asyncio.get_running_loop()
    shaken: asyncio.Future[OSError | None] = loop.create_future()

    def tell(error: OSError | None) -> None:
        if not shaken.done():
            shaken.set_result(error)

    transport, _ = await loop.create_unix_connection(
        lambda: TlsLink(context, above, server_name, tell), path
    )
    try:
        error = await shaken
    except asyncio.CancelledError:
        transport.abort()
        raise
    if error is not None:
        raise error
