"""Extends hvac's adapter with own TLS settings, unix sockets and distinct errors.

This module imports hvac and requests (150 ms), so it is imported only when the first request is
sent.
"""

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import urllib3
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    ReadTimeoutError,
)

from skyflowctl.skyflow.http.proxies import is_excepted
from skyflowctl.vault.bounded import (
    MOST_BYTES,
    TIMED_POOLS,
    AnswerTooLargeError,
    TimedConnection,
    answer_within,
    read_body,
)
from skyflowctl.vault.client_settings import checked_proxy
from skyflowctl.vault.connection_errors import (
    CLOSED,
    NOT_HTTP,
    NoResponseError,
    NoSocketError,
    NotSentError,
    transport_error,
)
from skyflowctl.vault.target import UNIX_SCHEME, Target, is_loopback
from skyflowctl.vault.tls import speaks_tls, tls_context

_POOL = 64
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """One complete HTTP answer."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


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
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        if self._server_name:
            kwargs |= {"server_hostname": self._server_name, "assert_hostname": self._server_name}
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = TIMED_POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = TIMED_POOLS
        return manager


class _UnixConnection(TimedConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        try:
            found.settimeout(_CONNECT_SECONDS)
            found.connect(self._path)
        except OSError as error:
            found.close()
            raise NoSocketError(self, self._path, error.errno) from error
        return found


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


class Connection:
    """A pool of connections to the addresses of a target, with and without its token."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session = _session(target)
        self._adapters: dict[tuple[str, bool], RawAdapter] = {}
        self._tls_ports: dict[str, bool] = {}
        self._probing = threading.Lock()

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def send(
        self,
        address: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float,
        with_token: bool = True,
    ) -> Received:
        """Send one request once and return any answer, redirects included.

        Args:
            address: the address of the node, one of the target's.
            method: the HTTP method.
            path: below ``/v1/``, not yet quoted.
            headers: further headers besides the token.
            params: query parameters.
            content: the JSON body.
            seconds: the time limit for the whole answer.
            with_token: False for requests that need no login.

        Raises:
            NotSentError: no connection could be opened.
            NoResponseError: the request was sent, but no valid answer arrived.
        """
        adapter = self._adapter(address, with_token)
        try:
            with answer_within(seconds):
                answer = adapter.request(
                    method,
                    "v1/" + quote(path, safe="/"),
                    headers=dict(headers),
                    params=params,
                    data=content,
                    timeout=(min(_CONNECT_SECONDS, seconds), seconds),
                    stream=True,
                )
                received = _received(answer)
        except requests.exceptions.RequestException as error:
            raise self._explained(transport_error(error), address) from None
        except (OSError, HTTPError, http.client.HTTPException) as error:
            raise NoResponseError(type(error).__name__) from None
        self._tls_ports[address] = False
        return received

    def _explained(
        self, failed: NotSentError | NoResponseError, address: str
    ) -> NotSentError | NoResponseError:
        """Return the error for a plain HTTP request to a port that speaks TLS."""
        unread = failed.reason in {CLOSED, NOT_HTTP}
        if not (unread and address.startswith("http:") and self._speaks_tls(address)):
            return failed
        return NotSentError(
            f"{failed.reason}: that port speaks TLS",
            lasting=True,
            fix=f"use {address.replace('http:', 'https:', 1)} as the address",
            foreign=True,
        )

    def _speaks_tls(self, address: str) -> bool:
        """Return whether an ``http`` address speaks TLS; tested once, and never with a proxy."""
        with self._probing:
            if address not in self._tls_ports:
                parts = urlsplit(address)
                direct = not _proxies(self._target, address)
                self._tls_ports[address] = direct and speaks_tls(
                    parts.hostname or "", parts.port or 80
                )
            return self._tls_ports[address]

    def _adapter(self, address: str, with_token: bool) -> RawAdapter:
        found = self._adapters.get((address, with_token))
        if found is None:
            token = self._target.token if with_token else None
            found = RawAdapter(
                base_uri=_base(address),
                token=token.reveal() if token else None,
                session=self._session,
                verify=self._session.verify,
                proxies=_proxies(self._target, address),
                allow_redirects=False,
                ignore_exceptions=True,
            )
            self._adapters[address, with_token] = found
        return found


def _base(address: str) -> str:
    return "http://localhost" if urlsplit(address).scheme == UNIX_SCHEME else address


def _session(target: Target) -> requests.Session:
    """Return a session that reads nothing from the environment.

    requests would take CA bundles, proxies and passwords (netrc) from there, and
    drops ``verify`` given to hvac in favour of the session's.
    """
    session = requests.Session()
    session.trust_env = False
    session.headers["Accept-Encoding"] = "gzip, deflate"
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


def _proxies(target: Target, address: str) -> dict[str, str]:
    """Return the proxy for an address in the format of requests: the target's, else that of
    the environment, which the stock client never uses for this machine itself.

    Raises:
        UsageError: the proxy of the environment is not usable.
    """
    parts = urlsplit(address)
    if parts.scheme == UNIX_SCHEME:
        return {}
    if target.proxy is not None:
        return {parts.scheme: target.proxy.reveal()}
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    name = f"{parts.scheme.upper()}_PROXY"
    named = os.environ.get(name) or os.environ.get(name.lower()) or ""
    exceptions = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    if not named or is_loopback(host) or is_excepted(host, port, exceptions):
        return {}
    return {parts.scheme: checked_proxy(named, name).reveal()}


def _received(answer: requests.Response) -> Received:
    """Read an answer completely.

    Raises:
        NoResponseError: the answer is late, too large, or malformed.
    """
    try:
        content = read_body(answer.raw)
    except AnswerTooLargeError:
        answer.close()
        reason = f"the answer is larger than {MOST_BYTES >> 20} MiB"
        raise NoResponseError(reason, broken=True, lasting=True) from None
    except (HTTPError, OSError, http.client.HTTPException) as error:
        answer.close()
        if isinstance(error, (ReadTimeoutError, TimeoutError)):
            raise NoResponseError("the answer did not end in time") from None
        packed = isinstance(error, DecodeError)
        reason = "its content cannot be decompressed" if packed else "the answer is cut short"
        raise NoResponseError(reason, broken=True) from None
    return Received(answer.status_code, answer.headers, content)
