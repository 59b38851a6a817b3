"""Why a request got no answer: sent or not, transient or lasting, and the fix.

This module imports requests (150 ms), as ``connection`` does.
"""

import errno
import http.client
import os
import re

import requests
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from skyflowctl.retry import is_gateway_failure


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


class NoSocketError(NewConnectionError):
    """This user cannot use the unix socket; ``reason`` says why."""

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
        "run it as a user that may write to the socket, or change its mode",
    ),
    errno.ECONNREFUSED: ("no process listens on the socket", "check that the server runs"),
}


def transport_error(error: requests.exceptions.RequestException) -> NotSentError | NoResponseError:
    """Return the error that says whether the request was sent. It quotes no text of requests,
    because these contain the URL with its ctx."""
    if isinstance(error, requests.exceptions.SSLError):
        reason, fix = _tls_reason(error)
        return NotSentError(reason, lasting=True, fix=fix)
    if isinstance(error, (requests.exceptions.ProxyError, requests.exceptions.InvalidSchema)):
        return _proxy_failed(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NotSentError("no connection in time")
    if isinstance(error, requests.exceptions.ConnectionError):
        cause = error.args[0] if error.args else None
        return _connection_failed(getattr(cause, "reason", cause))
    timed_out = isinstance(error, requests.exceptions.Timeout)
    return NoResponseError("no answer in time" if timed_out else type(error).__name__)


_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_CHECK_PROXY = "check HTTPS_PROXY and BAO_PROXY_ADDR, or except the host in NO_PROXY"


def _proxy_failed(error: Exception) -> NotSentError:
    """Return the error for a proxy that refused to connect; only its status is quoted."""
    answer = _TUNNEL.search(str(error))
    if answer is None:
        return NotSentError("the proxy cannot be reached", lasting=True, fix=_CHECK_PROXY)
    status = int(answer[1])
    if status == 407:
        return NotSentError(
            "the proxy answered 407: it requires a login",
            lasting=True,
            fix="put the proxy's login into HTTPS_PROXY, or except the host in NO_PROXY",
            foreign=True,
        )
    return NotSentError(
        f"the proxy answered {status} and did not connect",
        lasting=not is_gateway_failure(status),
        fix=_CHECK_PROXY,
        foreign=True,
    )


def _connection_failed(cause: object) -> NotSentError | NoResponseError:
    if isinstance(cause, NameResolutionError):
        return NotSentError("its name cannot be resolved")
    if isinstance(cause, NoSocketError):
        return NotSentError(cause.reason, lasting=True, fix=cause.fix)
    if isinstance(cause, NewConnectionError):
        refused = "refused" in str(cause).lower()
        return NotSentError("connection refused" if refused else "no route to it")
    said = cause.args[-1] if isinstance(cause, ProtocolError) and cause.args else None
    if not isinstance(said, http.client.HTTPException) or isinstance(said, ConnectionError):
        return NoResponseError(CLOSED)
    if isinstance(said, http.client.BadStatusLine):
        return NotSentError(
            NOT_HTTP,
            fix="use https:// if it is a TLS port; else check the address and its port",
            lasting=True,
            foreign=True,
        )
    return NoResponseError(
        "the header of the answer is too long, or is not an HTTP header", broken=True
    )


CLOSED = "the connection was closed before the answer"
NOT_HTTP = "the server there does not speak HTTP"
_NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "wrong version number", "RECORD_LAYER_FAILURE")
_NAME_THE_CA = "name the CA that signed it with --ca-cert or BAO_CACERT"


def _tls_reason(error: Exception) -> tuple[str, str]:
    """Return why the TLS connection failed, and the fix."""
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
    reason = "the TLS handshake failed: certificate or protocol mismatch"
    return reason, f"check that the server speaks TLS at this address; {_NAME_THE_CA}"
