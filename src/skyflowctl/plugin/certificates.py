"""Mutual TLS with the server: the plugin's own certificate and the two TLS contexts.

The server's certificate is ECDSA on P-521, which gRPC's usual TLS library refuses; the standard
library's ``ssl`` (OpenSSL) accepts it, in both directions.
"""

import base64
import logging
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from skyflowctl.frozen import dataclass
from skyflowctl.plugin.der import p256_private_key, p256_public_key, self_signed
from skyflowctl.plugin.protection import protect_process
from skyflowctl.secret import Secret

SERVER_NAME = "localhost"
# The server pins it for this process's life only, which may be years.
_LIFETIME = timedelta(days=30 * 365)
_CLOCK_SKEW = timedelta(minutes=5)
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


_LOG = logging.getLogger("skyflowctl.plugin")


class CertificateError(Exception):
    """The process has no certificate of its own; the log says why."""


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A self-signed certificate and its key, made by every process at its start."""

    der: bytes
    pem: Secret


def make_certificate() -> OwnCertificate:
    """Return a new P-256 certificate for ``localhost``; ``pem`` holds key and certificate."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.private_numbers()
    x, y = numbers.public_numbers.x, numbers.public_numbers.y
    point = b"\x04" + x.to_bytes(32) + y.to_bytes(32)
    now = datetime.now(UTC)
    der = self_signed(
        SERVER_NAME,
        p256_public_key(point),
        lambda content: key.sign(content, ec.ECDSA(hashes.SHA256())),
        serial=int.from_bytes(os.urandom(16)) + 1,
        valid=(now - _CLOCK_SKEW, now + _LIFETIME),
    )
    private = base64.encodebytes(p256_private_key(numbers.private_value, point)).decode()
    pem = f"-----BEGIN EC PRIVATE KEY-----\n{private}-----END EC PRIVATE KEY-----\n"
    return OwnCertificate(der, Secret(pem + ssl.DER_cert_to_PEM_cert(der)))


def begin_certificate() -> Callable[[], OwnCertificate]:
    """Begin to make a certificate in a child process; the result waits for it.

    The library for it keeps 2.8 MB, which a mount needs again only when it mints. The child loads
    it while this process loads the engine. To be called before there are threads.

    Raises:
        OSError: there can be no further process. The result raises CertificateError.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _make_in_child(writing)
    os.close(writing)

    def finish() -> OwnCertificate:
        with open(reading, encoding="ascii") as pipe:  # noqa: PTH123 - a descriptor
            pem = pipe.read()
        _, status = os.waitpid(child, 0)
        if status:
            raise CertificateError("its certificate could not be made")
        return OwnCertificate(ssl.PEM_cert_to_DER_cert(pem[pem.index(_CERTIFICATE) :]), Secret(pem))

    return finish


def _make_in_child(writing: int) -> NoReturn:
    status = 1
    try:
        protect_process()
        os.write(writing, make_certificate().pem.reveal().encode())
        status = 0
    except Exception as error:  # noqa: BLE001 - said in the form that a server's log shows
        _LOG.exception("no certificate: %s", type(error).__name__)
    finally:
        os._exit(status)


def server_context(own: OwnCertificate, host_certificate: str) -> ssl.SSLContext:
    """Return the context of the plugin's listener, which accepts only this server.

    Raises:
        ssl.SSLError: ``host_certificate`` is not a PEM certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _with_peer(context, own, host_certificate)


def client_context(own: OwnCertificate, host_certificate: str) -> ssl.SSLContext:
    """Return the context with which the plugin calls the server's storage."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _with_peer(context, own, host_certificate)


def _with_peer(
    context: ssl.SSLContext, own: OwnCertificate, host_certificate: str
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=host_certificate)
    context.set_alpn_protocols(["h2"])
    _load_own(context, own)
    return context


def _load_own(context: ssl.SSLContext, own: OwnCertificate) -> None:
    # ``load_cert_chain`` reads only files; this file is in memory, never on a disk.
    descriptor = os.memfd_create("plugin-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, own.pem.reveal().encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
