"""Reads certificates: when that of an address expires (a TLS handshake only), and PEM texts."""

import socket
import ssl
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SECONDS = 5.0


def certificate_end(address: str, server_name: str = "") -> datetime | None:
    """Return when the certificate at an https address expires; None for any other address.

    It is not verified against a CA, because other requests do that already.

    Args:
        address: ``https://host:port``.
        server_name: the name in the handshake, if not the host.

    Raises:
        OSError: the connection or the handshake failed.
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


def public_key_text(certificate: bytes) -> str:
    """Return the public key of a certificate, both in PEM form."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().strip()


def pem_summary(text: str) -> str:
    """Return what certificates or a public key in PEM form are, in words; empty: neither."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    try:
        if "-----BEGIN CERTIFICATE-----" in text:
            found = x509.load_pem_x509_certificates(text.encode())
            return "; ".join(_certificate_summary(one) for one in found)
        key = load_pem_public_key(text.encode())
        form = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return f"public key sha256 {sha256(form).hexdigest()}"


def _certificate_summary(one: "Certificate") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    name = one.subject.rfc4514_string() or "without a subject"
    digest = sha256(one.public_bytes(Encoding.DER)).hexdigest()
    return f"certificate {name}, until {one.not_valid_after_utc.date()}, sha256 {digest}"


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority's certificate: names as RFC 4514 texts, and for how long it was made."""

    subject: str
    issuer: str
    common_name: str
    organization: str
    seconds: int
    key_type: str
    key_bits: int


_HOUR = 3600
_BACKDATED = 30
"""The seconds by which the server makes a certificate valid before it exists."""
_LATE = 10
"""The server takes the beginning later than the end: a second may pass in between."""


def authority(text: str) -> Authority | None:
    """Return what the first certificate of a PEM text says; None if it says too little.

    Its span is in whole hours, if it is longer than one.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import NameOID

    try:
        found = x509.load_pem_x509_certificates(text.encode())[0]
        key = found.public_key()
    except (ValueError, TypeError):
        return None
    common, organizations = (
        found.subject.get_attributes_for_oid(oid)
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    )
    if not common:
        return None
    is_curve = isinstance(key, ec.EllipticCurvePublicKey)
    kind = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec" if is_curve else "ed25519"
    valid = found.not_valid_after_utc - found.not_valid_before_utc
    seconds = int(valid.total_seconds()) - _BACKDATED
    return Authority(
        found.subject.rfc4514_string(),
        found.issuer.rfc4514_string(),
        str(common[0].value),
        str(organizations[0].value) if organizations else "",
        (seconds + _LATE) // _HOUR * _HOUR if seconds > _HOUR else seconds,
        kind,
        key.key_size if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else 0,
    )
