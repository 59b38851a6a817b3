"""Opening a TLS connection to a token service, directly or through a proxy.

Every failure becomes one sentence without own addresses, passwords or payload.
"""

import asyncio
import os
import socket
import ssl

from skyflowctl.skyflow.http.connection import HttpConnection
from skyflowctl.skyflow.http.proxies import Proxy

_MAXIMUM_PROXY_HEAD = 16 * 1024


class ConnectFailedError(Exception):
    """No connection; nothing was sent to the token service.

    Args:
        reason: why, in one line.
        transient: another try may succeed.
    """

    def __init__(self, reason: str, *, transient: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient


async def open_connection(
    host: str, port: int, context: ssl.SSLContext, proxy: Proxy | None
) -> HttpConnection:
    """Return a connection whose certificate was verified against ``host``.

    Raises:
        ConnectFailedError: with the reason, naming the host (or the proxy) and its port.
    """
    try:
        if proxy is None:
            return await _direct(host, port, context)
        return await _through(proxy, host, port, context)
    except UnicodeError:
        # Python refuses some names (labels over 63 characters) before any DNS request.
        raise ConnectFailedError(f"{host}:{port}: no valid host name", transient=False) from None
    except OSError as error:
        # A failure of TLS concerns the service, any other the next machine on the way.
        near = proxy if proxy and not isinstance(error, ssl.SSLError) else None
        name = f"proxy {near.host}:{near.port}" if near else f"{host}:{port}"
        reason, transient = _explain(error)
        raise ConnectFailedError(f"{name}: {reason}", transient=transient) from None


async def _direct(host: str, port: int, context: ssl.SSLContext) -> HttpConnection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        HttpConnection, host, port, ssl=context, server_hostname=host
    )
    return connection


async def _through(proxy: Proxy, host: str, port: int, context: ssl.SSLContext) -> HttpConnection:
    loop = asyncio.get_running_loop()
    raw, opening = await loop.create_connection(_ProxyReply, proxy.host, proxy.port)
    connection = HttpConnection()
    try:
        raw.write(_connect_request(proxy, host, port))
        status = await opening.status
        if status != b"200":
            answer = status.decode("ascii", "replace") or "nothing that is HTTP"
            name = f"proxy {proxy.host}:{proxy.port}"
            raise ConnectFailedError(f"{name} answered {answer} to CONNECT", transient=False)
        tls = await loop.start_tls(raw, connection, context, server_hostname=host)
    except BaseException:
        raw.abort()
        raise
    if tls is None:
        raise ConnectionResetError
    connection.connection_made(tls)
    return connection


def _connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
    return "\r\n".join([*lines, "", ""]).encode()


class _ProxyReply(asyncio.Protocol):
    """Waits for the head of a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.status: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if self.status.done() or (end < 0 and len(self._head) <= _MAXIMUM_PROXY_HEAD):
            return
        words = self._head[: max(end, 0)].split(b"\r\n", 1)[0].split()
        is_http = len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1].isdigit()
        self.status.set_result(words[1][:3] if is_http else b"")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if not self.status.done():
            self.status.set_exception(ConnectionResetError())


def _explain(error: OSError) -> tuple[str, bool]:
    """Return why a connection failed, and whether another try may succeed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}", False
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        refused = isinstance(error, ConnectionRefusedError)
        return "connection refused" if refused else "connection closed while connecting", True
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}", False
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved", True
    # The error's own text has the address that was tried, or a list of them.
    why = os.strerror(error.errno).lower() if error.errno else "no address answers"
    return f"cannot connect: {why}", True
