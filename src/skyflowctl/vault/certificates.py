"""When the certificate of an address ends. Nothing is sent there but the handshake."""

import socket
import ssl
from datetime import datetime
from urllib.parse import urlsplit

_SECONDS = 5.0


def certificate_end(address: str, server_name: str = "") -> datetime | None:
    """Return when the certificate at an https address ends; None for another address.

    It is not checked against any CA: who cares for that has asked for it already.

    Args:
        address: ``https://host:port``.
        server_name: to ask for, if not the host.

    Raises:
        OSError: there is no connection, or no handshake.
    """
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        return None
    from cryptography.x509 import load_der_x509_certificate

    where = parts.hostname, parts.port or 443
    with (
        socket.create_connection(where, timeout=_SECONDS) as plain,
        _context().wrap_socket(plain, server_hostname=server_name or parts.hostname) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    if not shown:
        raise ConnectionError("no certificate was shown")
    return load_der_x509_certificate(shown).not_valid_after_utc


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
