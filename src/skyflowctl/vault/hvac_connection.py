"""Extends hvac's adapter with own TLS settings, unix sockets and distinct errors.

This module imports hvac and requests (150 ms), so it is imported only when the first write or
login is sent.
"""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)

from skyflowctl.vault.bounded import PIECE, BoundedResponse, answer_within, read_body
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
    tls_error,
)
from skyflowctl.vault.target import UNIX_SCHEME, Target
from skyflowctl.vault.tls import tls_context

_POOL = 64


class _BoundedConnection(HTTPConnection):
    response_class = BoundedResponse


class _BoundedTlsConnection(HTTPSConnection):
    response_class = BoundedResponse

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException) as error:
            raise ProxyError("no tunnel", error) from error


class _BoundedPool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _BoundedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTlsConnection


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _BoundedPool, "https": _BoundedTlsPool}


class _TlsAdapter(HTTPAdapter):
    """Keeps 64 connections, and can check a certificate against another name.

    Only the context decides which CAs are trusted; requests would add its own bundle.
    """

    def __init__(self, context: ssl.SSLContext | None, server_name: str) -> None:
        self._context = context
        self._server_name = server_name
        super().__init__(pool_connections=8, pool_maxsize=_POOL)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing, because the context verifies certificates."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **(kwargs | self._tls()))
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **(kwargs | self._tls()))
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def _tls(self) -> dict[str, Any]:
        found: dict[str, Any] = {"ssl_context": self._context} if self._context else {}
        return found | ({"server_hostname": self._server_name} if self._server_name else {})


class _UnixConnection(_BoundedConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> socket.socket:
        try:
            return connect_unix(self._path, CONNECT_SECONDS)
        except NotSentError as error:
            raise NewConnectionError(self, "no socket") from error


class _UnixPool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", maxsize=_POOL)
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path)


class _UnixAdapter(HTTPAdapter):
    """Sends every request through one unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _UnixPool(path)

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class HvacPool:
    """A pool of connections of hvac."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session = _session(target)
        self._adapters: dict[str, RawAdapter] = {}

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def send(self, address: str, request: OneRequest) -> Received:
        """Send one request once and return any answer; see :class:`LibraryPool`."""
        try:
            with answer_within(request.seconds):
                answer = self._adapter(address).request(
                    request.method,
                    request.path,
                    headers=dict(request.headers),
                    data=request.content,
                    timeout=(min(CONNECT_SECONDS, request.seconds), request.seconds),
                    stream=True,
                )
                headers = {name.lower(): value for name, value in answer.headers.items()}
                try:
                    content = read_body(_pieces(answer.raw), headers.get("content-encoding", ""))
                except NoResponseError:
                    answer.close()
                    raise
        except requests.exceptions.RequestException as error:
            raise _explained(error) from None
        except LocationValueError:
            raise connect_error(UnicodeError()) from None
        except (OSError, HTTPError, http.client.HTTPException) as error:
            raise NoResponseError(type(error).__name__) from None
        return Received(answer.status_code, headers, content)

    def _adapter(self, address: str) -> RawAdapter:
        found = self._adapters.get(address)
        if found is None:
            parts = urlsplit(address)
            proxy = proxy_url(self._target, address)
            found = RawAdapter(
                base_uri="http://localhost" if parts.scheme == UNIX_SCHEME else address,
                session=self._session,
                verify=self._session.verify,
                proxies={parts.scheme: proxy} if proxy else {},
                allow_redirects=False,
                ignore_exceptions=True,
            )
            self._adapters[address] = found
        return found


def _session(target: Target) -> requests.Session:
    """Return a session that reads nothing from the environment.

    requests would take CA bundles, proxies and passwords (netrc) from there, and
    drops ``verify`` given to hvac in favour of the session's.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = not target.skip_verify
    if target.skip_verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    addresses = (target.address, *target.nodes)
    if urlsplit(target.address).scheme == UNIX_SCHEME:
        session.mount("http://localhost", _UnixAdapter(urlsplit(target.address).path))
    elif any(address.startswith("https:") for address in addresses):
        session.mount("https://", _TlsAdapter(tls_context(target), target.tls_server_name))
    session.mount("http://", _TlsAdapter(None, ""))
    return session


def _pieces(raw: BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the body of an answer as it is received, with errors of the standard library."""
    try:
        yield from raw.stream(PIECE, decode_content=False)
    except ReadTimeoutError:
        raise TimeoutError from None
    except HTTPError:
        raise OSError from None


def _explained(error: requests.exceptions.RequestException) -> NotSentError | NoResponseError:
    """Return the error that says whether the request was sent."""
    for kind, explain in _BY_KIND:
        if isinstance(error, kind):
            return explain(error)
    if not isinstance(error, requests.exceptions.ConnectionError):
        return NoResponseError(type(error).__name__)
    cause = error.args[0] if error.args else None
    return _disconnected(getattr(cause, "reason", cause))


_BY_KIND: tuple[
    tuple[type[Exception], Callable[[Exception], NotSentError | NoResponseError]], ...
] = (
    (requests.exceptions.SSLError, tls_error),
    (requests.exceptions.ProxyError, proxy_error),
    (requests.exceptions.ConnectTimeout, lambda _: connect_error(TimeoutError())),
    (requests.exceptions.Timeout, lambda _: answer_error(TimeoutError())),
)


def _disconnected(cause: object) -> NotSentError | NoResponseError:
    if isinstance(cause, NameResolutionError):
        return connect_error(socket.gaierror())
    if isinstance(cause, NewConnectionError):
        failed = cause.__cause__
        return failed if isinstance(failed, NotSentError) else connect_error(failed)
    said = cause.args[-1] if isinstance(cause, ProtocolError) and cause.args else None
    return answer_error(said if isinstance(said, BaseException) else None)
