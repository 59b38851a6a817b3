"""hvac's adapter with what it lacks: own TLS settings, unix sockets, failures told apart.

This module imports hvac and requests (150 ms), so it is imported when a server is first
asked, and by nothing else.
"""

import errno
import http.client
import os
import re
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
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from skyflowctl.skyflow.proxies import is_excepted
from skyflowctl.vault.bounded import (
    MOST_BYTES,
    TIMED_POOLS,
    AnswerTooLargeError,
    TimedConnection,
    answer_within,
    read_body,
)
from skyflowctl.vault.client_settings import checked_proxy
from skyflowctl.vault.target import UNIX_SCHEME, Target, is_loopback
from skyflowctl.vault.tls import speaks_tls, tls_context

_POOL = 64
_CONNECT_SECONDS = 10.0
_MAY_PASS = frozenset({502, 503, 504})


class NotSentError(Exception):
    """The request never left: no connection. ``lasting``: trying again won't help.

    ``fix`` is what helps where it is not the network; else it is empty. ``foreign``: what
    is there speaks another protocol.
    """

    def __init__(
        self, reason: str, *, lasting: bool = False, fix: str = "", foreign: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.fix = fix
        self.foreign = foreign


class NoResponseError(Exception):
    """The request was sent and no answer came back that can be read.

    ``broken``: something came, and it is no whole HTTP answer. ``lasting``: trying again
    won't help.
    """

    def __init__(self, reason: str, *, broken: bool = False, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.broken = broken
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class Received:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


class _TlsAdapter(HTTPAdapter):
    """Keeps 64 connections, and checks a certificate for another name when told to.

    Whom to trust is in the context alone; requests would add its own bundle.
    """

    def __init__(self, context: ssl.SSLContext | None, server_name: str) -> None:
        self._context = context
        self._server_name = server_name
        super().__init__(pool_connections=8, pool_maxsize=_POOL)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the certificates to the context."""

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


class _NoSocketError(NewConnectionError):
    """There is no unix socket that this user can use; ``reason`` says why."""

    def __init__(self, connection: HTTPConnection, path: str, number: int | None) -> None:
        super().__init__(connection, "no socket")
        self.reason, self.fix = _SOCKET_WORDS.get(
            number or 0, (f"the socket cannot be used: {os.strerror(number or 0)}", "")
        )
        self.reason = f"{self.reason}: {path}"


_SOCKET_WORDS = {
    errno.ENOENT: ("there is no such socket", "check the path in unix://, and that it runs"),
    errno.EACCES: (
        "permission denied on the socket",
        "run it as a user that may write to the socket, or have its mode changed",
    ),
    errno.ECONNREFUSED: ("nobody listens on the socket", "check that the server runs"),
}


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
            raise _NoSocketError(self, self._path, error.errno) from error
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
    """One pool of connections to the addresses of a target, with and without its token."""

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
        """Send one request once and return whatever answer comes, redirects included.

        Args:
            address: of the node, one that the target names.
            method: the HTTP method.
            path: below ``/v1/``, not yet quoted.
            headers: besides that of the login.
            params: query parameters.
            content: the JSON body.
            seconds: the longest time for the whole answer.
            with_token: False for questions that need no login.

        Raises:
            NotSentError: there was no connection.
            NoResponseError: there was one, and no answer.
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
            raise self._explained(_told_apart(error), address) from None
        except (OSError, HTTPError, http.client.HTTPException) as error:
            raise NoResponseError(type(error).__name__) from None
        self._tls_ports[address] = False
        return received

    def _explained(
        self, failed: NotSentError | NoResponseError, address: str
    ) -> NotSentError | NoResponseError:
        """Return why there is no HTTP answer, where the port speaks TLS and was asked without."""
        unread = failed.reason in {_CLOSED, _NOT_HTTP}
        if not (unread and address.startswith("http:") and self._speaks_tls(address)):
            return failed
        return NotSentError(
            f"{failed.reason}: that port speaks TLS",
            lasting=True,
            fix=f"use {address.replace('http:', 'https:', 1)} as the address",
            foreign=True,
        )

    def _speaks_tls(self, address: str) -> bool:
        """Tell whether an address without TLS has it; asked once, and never past a proxy."""
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
    """Return a session that reads nothing from the environment by itself.

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
    """Return the proxy for an address in the form of requests: the target's, else that of
    the environment, which the stock client never uses for this very machine.

    Raises:
        UsageError: the environment names no proxy that can be used.
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
    """Read an answer to its end.

    Raises:
        NoResponseError: it has none in time, is too large, or is malformed.
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


def _told_apart(error: requests.exceptions.RequestException) -> NotSentError | NoResponseError:
    """Return whether the request was sent. Texts of requests hold the URL with its ctx."""
    if isinstance(error, requests.exceptions.SSLError):
        reason, fix = _tls_reason(error)
        return NotSentError(reason, lasting=True, fix=fix)
    if isinstance(error, (requests.exceptions.ProxyError, requests.exceptions.InvalidSchema)):
        return _proxy_failed(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NotSentError("no connection in time")
    if isinstance(error, requests.exceptions.ConnectionError):
        told = error.args[0] if error.args else None
        return _connection_failed(getattr(told, "reason", told))
    timed_out = isinstance(error, requests.exceptions.Timeout)
    return NoResponseError("no answer in time" if timed_out else type(error).__name__)


_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_CHECK_PROXY = "check HTTPS_PROXY and BAO_PROXY_ADDR, or except the host in NO_PROXY"


def _proxy_failed(error: Exception) -> NotSentError:
    """Return what a proxy said instead of connecting; only its status is repeated."""
    told = _TUNNEL.search(str(error))
    if told is None:
        return NotSentError("the proxy cannot be reached", lasting=True, fix=_CHECK_PROXY)
    status = int(told[1])
    if status == 407:
        return NotSentError(
            "the proxy on the way answered 407: it wants a login",
            lasting=True,
            fix="put the proxy's login into HTTPS_PROXY, or except the host in NO_PROXY",
            foreign=True,
        )
    return NotSentError(
        f"the proxy on the way answered {status}, and did not connect",
        lasting=status not in _MAY_PASS,
        fix=_CHECK_PROXY,
        foreign=True,
    )


def _connection_failed(cause: object) -> NotSentError | NoResponseError:
    if isinstance(cause, NameResolutionError):
        return NotSentError("its name cannot be resolved")
    if isinstance(cause, _NoSocketError):
        return NotSentError(cause.reason, lasting=True, fix=cause.fix)
    if isinstance(cause, NewConnectionError):
        refused = "refused" in str(cause).lower()
        return NotSentError("connection refused" if refused else "no route to it")
    said = cause.args[-1] if isinstance(cause, ProtocolError) and cause.args else None
    if not isinstance(said, http.client.HTTPException) or isinstance(said, ConnectionError):
        return NoResponseError(_CLOSED)
    if isinstance(said, http.client.BadStatusLine):
        return NotSentError(
            _NOT_HTTP,
            fix="use https:// if it is a TLS port; else check the address and its port",
            lasting=True,
            foreign=True,
        )
    return NoResponseError("the header of the answer is too long, or no HTTP header", broken=True)


_CLOSED = "the connection was closed before the answer"
_NOT_HTTP = "what answers there does not speak HTTP"
_NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "wrong version number", "RECORD_LAYER_FAILURE")
_NAME_THE_CA = "name the CA that signed it with --ca-cert or BAO_CACERT"


def _tls_reason(error: Exception) -> tuple[str, str]:
    """Return why there is no TLS connection, and what to do about it."""
    text = str(error)
    if "has expired" in text:
        return "its certificate has expired", "renew the server's certificate; check the clock"
    for known in ("self-signed certificate", "unable to get local issuer"):
        if known in text:
            return f"its certificate cannot be verified: {known}", _NAME_THE_CA
    if "match" in text and "CERTIFICATE_VERIFY_FAILED" in text:
        fix = "use the address that it names, or give that name with --tls-server-name"
        return "its certificate is for another name", fix
    if any(known in text for known in _NO_TLS_THERE):
        fix = "check the port; only if the server runs without TLS there, use http://"
        return "that port does not speak TLS", fix
    reason = "no TLS connection: the certificate or the protocol does not fit"
    return reason, f"check that the server speaks TLS at this address; {_NAME_THE_CA}"
