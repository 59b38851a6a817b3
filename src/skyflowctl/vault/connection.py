"""Sends single requests to the addresses of a target, over connections of http.client.

What is no read goes through hvac, which is imported when the first such request needs it: it costs
120 ms more than http.client.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.http.proxies import is_excepted
from skyflowctl.vault.client_settings import checked_proxy
from skyflowctl.vault.target import UNIX_SCHEME, Target, is_loopback
from skyflowctl.vault.transport import READS

if TYPE_CHECKING:
    from skyflowctl.secret import Secret
    from skyflowctl.vault.http_connection import HttpPool
    from skyflowctl.vault.hvac_connection import HvacSender, Send

CONNECT_SECONDS = 10.0
"""The time limit for a TCP connection with its TLS handshake."""

CLOSED = "the connection was closed before the answer"
NOT_HTTP = "the server there does not speak HTTP"
_RUN_HEADER = "X-Skyflowctl-Run"
_SOURCE_HEADER = "Application-Source"
_HEALTH_QUERY = {"standbyok": "true", "perfstandbyok": "true", "sealedcode": "200"}
_SENT_ALWAYS = {"X-Vault-Request": "true", "Accept-Encoding": "gzip"}


class NotSentError(Exception):
    """The request was not sent: no connection. ``lasting``: a retry won't help.

    ``fix`` is the remedy if the network is not the cause, else empty. ``foreign``: the peer
    speaks another protocol.
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
    """The request was sent, but no valid answer arrived.

    ``broken``: the received data is no complete HTTP answer. ``lasting``: a retry won't help.
    """

    def __init__(self, reason: str, *, broken: bool = False, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.broken = broken
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class OneRequest:
    """One HTTP request, complete.

    Args:
        method: the HTTP method.
        path: quoted, with the query, and without a leading slash.
        headers: all headers, the token included.
        content: the body.
        seconds: the time limit until the last byte of the answer.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class Received:
    """One complete HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


def request_marks(run_id: str, source: str = "skyflowctl") -> dict[str, str]:
    """Return the headers by which the server's audit log names a run, and who it says it is."""
    return {_RUN_HEADER: run_id, _SOURCE_HEADER: source}


class TargetPool:
    """A pool of connections to the addresses of a target, with and without its token.

    Args:
        target: the server and the login.
        marks: headers of every request; see :func:`request_marks`.
    """

    def __init__(self, target: Target, marks: Mapping[str, str] | None = None) -> None:
        self._target = target
        self._always = {**_SENT_ALWAYS, **(marks or {})}
        self._pool: HttpPool | None = None
        self._hvac: HvacSender | None = None
        self._opening = threading.Lock()
        self._tls_ports: dict[str, bool] = {}
        self._probing = threading.Lock()

    def close(self) -> None:
        """Close every connection."""
        with self._opening:  # another thread may just send its first request
            pool = self._pool
        if pool is not None:
            pool.close()

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
        sent = {**self._always, **headers}
        try:
            if with_token and (token := self._token(address, seconds)):
                sent["X-Vault-Token"] = token.reveal()
            request = OneRequest(method, _quoted(path, params), sent, content, seconds)
            received = self._sender(method)(address, request)
        except (NotSentError, NoResponseError) as failed:
            raise self._explained(failed, address) from None
        self._tls_ports[address] = False
        return received

    def _token(self, address: str, seconds: float) -> Secret | None:
        """Return the token for an address; None if there is none, or a login's cluster is unknown.

        Raises:
            ClusterChangedError: the login was made at another cluster.
        """
        login = self._target.login
        if login is None:
            return self._target.token
        return (
            login.token()
            if login.belongs_to(address, lambda: self._cluster(address, seconds))
            else None
        )

    def _cluster(self, address: str, seconds: float) -> str:
        """Return the id of the cluster at an address, asked without a token; empty: not told."""
        path = _quoted("sys/health", _HEALTH_QUERY)
        request = OneRequest("GET", path, self._always, None, seconds)
        try:
            body = json.loads(self._sender("GET")(address, request).content)
        except ValueError:
            return ""
        return str(body.get("cluster_id") or "") if isinstance(body, dict) else ""

    def _sender(self, method: str) -> Send:
        """Return the function that sends requests of a method."""
        with self._opening:
            if self._pool is None:
                from skyflowctl.vault.http_connection import HttpPool

                self._pool = HttpPool(self._target)
            if method in READS:
                return self._pool.send
            if self._hvac is None:
                from skyflowctl.vault.hvac_connection import HvacSender

                self._hvac = HvacSender(self._pool.send)
            return self._hvac.send

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
        from skyflowctl.vault.tls import speaks_tls

        with self._probing:
            if address not in self._tls_ports:
                parts = urlsplit(address)
                direct = not proxy_url(self._target, address)
                self._tls_ports[address] = direct and speaks_tls(
                    parts.hostname or "", parts.port or 80
                )
            return self._tls_ports[address]


def _quoted(path: str, params: Mapping[str, str] | None) -> str:
    """Return the path of a request with its query. Like the stock client's, it has no empty
    parts."""
    parts = [quote(part, safe="") for part in path.split("/") if part]
    query = "&".join(f"{_value(name)}={_value(value)}" for name, value in (params or {}).items())
    return "/".join(["v1", *parts]) + ("?" + query if query else "")


def _value(text: str) -> str:
    return quote(text, safe="").replace("%20", "+")


def proxy_url(target: Target, address: str) -> str:
    """Return the URL of the proxy for an address; empty for none.

    It is the target's, else that of the environment, which the stock client never uses for this
    machine itself. The URL may contain a password.

    Raises:
        UsageError: the proxy of the environment is not usable.
    """
    parts = urlsplit(address)
    if parts.scheme == UNIX_SCHEME:
        return ""
    if target.proxy is not None:
        return target.proxy.reveal()
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    name = f"{parts.scheme.upper()}_PROXY"
    named = os.environ.get(name) or os.environ.get(name.lower()) or ""
    exceptions = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    if not named or is_loopback(host) or is_excepted(host, port, exceptions):
        return ""
    return checked_proxy(named, name).reveal()
