"""Why a request got no answer: sent or not, transient or lasting, and the fix.

No text of a library is quoted, because these can contain the URL with its ctx, or a proxy's
password.
"""

import errno
import http.client
import os
import re
import socket
import ssl

from skyflowctl.retry import is_gateway_failure
from skyflowctl.vault.connection import CLOSED, NOT_HTTP, NoResponseError, NotSentError

_SOCKET_WORDS = {
    errno.ENOENT: ("there is no such socket", "check the path in unix://, and that it runs"),
    errno.EACCES: (
        "permission denied on the socket",
        "run it as a user that may write to the socket, or change its mode",
    ),
    errno.ECONNREFUSED: ("no process listens on the socket", "check that the server runs"),
}


def connect_unix(path: str, seconds: float) -> socket.socket:
    """Return a connection to a unix socket.

    Raises:
        NotSentError: this user cannot use the socket; the text says why.
    """
    found = socket.socket(socket.AF_UNIX)
    try:
        found.settimeout(seconds)
        found.connect(path)
    except OSError as error:
        found.close()
        number = error.errno or 0
        unknown = (f"the socket cannot be used: {os.strerror(number)}", "")
        reason, fix = _SOCKET_WORDS.get(number, unknown)
        raise NotSentError(f"{reason}: {path}", lasting=True, fix=fix) from None
    return found


def connect_error(error: BaseException | None) -> NotSentError:
    """Return the error for a TCP connection that could not be opened."""
    if isinstance(error, TimeoutError):
        return NotSentError("no connection in time")
    if isinstance(error, socket.gaierror | UnicodeError):
        return NotSentError("its name cannot be resolved")
    refused = isinstance(error, ConnectionRefusedError)
    return NotSentError("connection refused" if refused else "no route to it")


def answer_error(error: BaseException | None) -> NotSentError | NoResponseError:
    """Return the error for a failure between the TCP connection and the body of the answer."""
    if isinstance(error, ssl.SSLError):
        return tls_error(error)
    if isinstance(error, TimeoutError):
        return NoResponseError("no answer in time")
    if not isinstance(error, http.client.HTTPException) or isinstance(error, ConnectionError):
        return NoResponseError(CLOSED)
    if isinstance(error, http.client.BadStatusLine):
        return NotSentError(
            NOT_HTTP,
            fix="use https:// if it is a TLS port; else check the address and its port",
            lasting=True,
            foreign=True,
        )
    return NoResponseError(
        "the header of the answer is too long, or is not an HTTP header", broken=True
    )


_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_CHECK_PROXY = "check BAO_PROXY_ADDR, or HTTPS_PROXY, from which NO_PROXY can except the host"


def proxy_error(error: Exception) -> NotSentError:
    """Return the error for a proxy that refused to connect; only its status is quoted."""
    if isinstance(error, ssl.SSLError):
        reason, fix = _tls_reason(str(error))
        return NotSentError(f"the proxy cannot be reached: {reason}", lasting=True, fix=fix)
    answer = _TUNNEL.search(str(error))
    if answer is None:
        return NotSentError("the proxy cannot be reached", lasting=True, fix=_CHECK_PROXY)
    status = int(answer[1])
    if status == 407:
        return NotSentError(
            "the proxy answered 407: it requires a login",
            lasting=True,
            fix="put the proxy's login into BAO_PROXY_ADDR or HTTPS_PROXY, whichever is set",
            foreign=True,
        )
    return NotSentError(
        f"the proxy answered {status} and did not connect",
        lasting=not is_gateway_failure(status),
        fix=_CHECK_PROXY,
        foreign=True,
    )


_NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "wrong version number", "RECORD_LAYER_FAILURE")
_NAME_THE_CA = "name the CA that signed it with --ca-cert or BAO_CACERT"


def tls_error(error: Exception) -> NotSentError:
    """Return the error for a TLS connection that failed."""
    reason, fix = _tls_reason(str(error))
    return NotSentError(reason, lasting=True, fix=fix)


def _tls_reason(text: str) -> tuple[str, str]:
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
