"""Checks the connection to each address of the server: encryption, the certificate and its end."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from skyflowctl.clock import Clock, rfc3339
from skyflowctl.doctor.model import Diagnosis, Grade, ok_finding
from skyflowctl.errors import os_reason
from skyflowctl.text import duration
from skyflowctl.vault.target import UNIX_SCHEME, Target, is_loopback
from skyflowctl.vault.tls import tls_context

TLS = "tls"
_SECONDS = 5.0
_SOON = timedelta(days=14)
# OpenSSL's codes of X509_verify_cert.
_NOT_YET, _EXPIRED, _OTHER_NAME = 9, 10, 62
_CA_FIX = "export BAO_CACERT=/path/of/ca.pem"
_NEW_CERTIFICATE = "install a new certificate on that node, then there: kill -HUP $(pidof bao)"


def check_tls(target: Target, clock: Clock) -> Iterator[Diagnosis]:
    """Yield the state of TLS at each named address; only a handshake is made.

    Raises:
        UsageError: a file or text that the user named contains no certificate or key.
    """
    if target.skip_verify:
        yield Diagnosis(
            TLS,
            Grade.WARNING,
            "the server's certificate is not verified",
            "any server that answers at the address gets the token",
            f"{_CA_FIX}; unset BAO_SKIP_VERIFY VAULT_SKIP_VERIFY",
        )
    for address in (target.address, *target.nodes):
        yield _address(address, target, clock)


def _address(address: str, target: Target, clock: Clock) -> Diagnosis:
    parts = urlsplit(address)
    if parts.scheme == UNIX_SCHEME:
        return ok_finding(TLS, f"{address} is a socket of this machine")
    if parts.scheme == "http":
        if is_loopback(parts.hostname or ""):
            return ok_finding(TLS, f"{address} is not encrypted, and stays on this machine")
        why = "the token, and every token of Skyflow, can be read in transit"
        fix = f"export BAO_ADDR={address.replace('http:', 'https:', 1)}"
        return Diagnosis(TLS, Grade.BAD, f"{address} is not encrypted", why, fix)
    if target.proxy is not None:
        why = "it is reached through a proxy, and this check makes no connection through one"
        what = f"the certificate of {address} was not read"
        return Diagnosis(TLS, Grade.UNKNOWN, what, why, f"bao status -address={address}")
    return _certificate(address, parts.hostname or "", parts.port or 443, target, clock)


def _certificate(address: str, host: str, port: int, target: Target, clock: Clock) -> Diagnosis:
    try:
        end = _certificate_end(host, port, target)
    except ssl.SSLCertVerificationError as error:
        return _not_verified(address, error, target)
    except (OSError, ValueError) as error:
        return _no_handshake(address, error)
    return _ending(address, end, clock)


def _certificate_end(host: str, port: int, target: Target) -> datetime | None:
    """Return when the certificate that the address shows ends; None: it is not verified."""
    context = tls_context(target)
    with (
        socket.create_connection((host, port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=target.tls_server_name or host) as secured,
    ):
        shown = secured.getpeercert() or {}
    end = shown.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(end)), UTC) if end else None


def _ending(address: str, end: datetime | None, clock: Clock) -> Diagnosis:
    if end is None:
        return ok_finding(TLS, f"{address} is encrypted")
    left = end - clock.now()
    if left < _SOON:
        ends = f"ends in {duration(left)}" if left > timedelta(0) else "has ended"
        return Diagnosis(
            TLS,
            Grade.WARNING if left > timedelta(0) else Grade.BAD,
            f"the certificate of {address} {ends}",
            f"then every client that verifies it is refused; it ends {rfc3339(end)}",
            _NEW_CERTIFICATE,
        )
    return ok_finding(TLS, f"{address}: its certificate is valid until {end.date()}")


def _not_verified(address: str, error: ssl.SSLCertVerificationError, target: Target) -> Diagnosis:
    why = error.verify_message
    if error.verify_code in {_EXPIRED, _NOT_YET}:
        what = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        fix = f"{_NEW_CERTIFICATE}; 'timedatectl' shows this machine's clock"
    elif error.verify_code == _OTHER_NAME:
        what = "is for another name"
        fix = "export BAO_TLS_SERVER_NAME=NAME, with a name in it; or use that name as the address"
    else:
        what = "is not signed by an authority that is trusted here"
        named = target.ca_cert or target.ca_path or ("BAO_CACERT_BYTES" if target.ca_bytes else "")
        why += f"; trusted is {named or 'what the system trusts'}"
        fix = _CA_FIX
    return Diagnosis(TLS, Grade.BAD, f"the certificate of {address} {what}", why, fix)


def _no_handshake(address: str, error: Exception) -> Diagnosis:
    reason = os_reason(error) if isinstance(error, OSError) else str(error)
    if isinstance(error, ssl.SSLError):
        reason = f"the handshake failed: {error.reason or error}"
    fix = f"check the address, and that the server runs: bao status -address={address}"
    return Diagnosis(TLS, Grade.BAD, f"no TLS connection to {address}", reason, fix)
