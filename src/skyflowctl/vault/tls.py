"""The TLS settings of connections to a server, equal to those of the stock client.

Visible differences between OpenSSL and the client's TLS library are removed: a folder of
certificates needs no hash links, and a named certificate is trusted even if it is no root.
"""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skyflowctl.errors import UsageError
from skyflowctl.secret import Secret
from skyflowctl.vault.target import Target

_PIPE_BYTES = 65_536
_PROBE_SECONDS = 2.0
_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)


def tls_context(target: Target) -> ssl.SSLContext:
    """Return the context for connections to a target's addresses.

    Raises:
        UsageError: a file or text that the user named contains no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if target.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif target.ca_cert or target.ca_bytes or target.ca_path:
        _trust_named(context, target)
    else:
        _trust_system(context)
    _show_certificate(context, target)
    return context


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a port answers a TLS handshake; nothing else is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), _PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):
        return False


def _trust_named(context: ssl.SSLContext, target: Target) -> None:
    if target.ca_cert and not _trust_file(context, Path(target.ca_cert)):
        raise _no_certificate(target.ca_cert)
    if target.ca_bytes and not _trust_text(context, target.ca_bytes):
        raise _no_certificate("BAO_CACERT_BYTES")
    if target.ca_path:
        folder = Path(target.ca_path)
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        if not sum(_trust_file(context, file) for file in files if file.is_file()):
            raise _no_certificate(target.ca_path)


def _trust_system(context: ssl.SSLContext) -> None:
    """Trust what SSL_CERT_FILE and SSL_CERT_DIR name, else the system's roots, else certifi's."""
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_cafile
    folders = os.environ.get("SSL_CERT_DIR", "").split(":")
    trusted = _trust_bundle(context, bundle)
    for folder in folders:
        for file in sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else ():
            trusted = (file.is_file() and _trust_file(context, file)) or trusted
    if not trusted:
        import certifi

        _trust_bundle(context, certifi.where())


def _trust_bundle(context: ssl.SSLContext, file: str) -> bool:
    try:
        context.load_verify_locations(cafile=file)
    except (ssl.SSLError, OSError):
        return False
    return True


def _trust_file(context: ssl.SSLContext, file: Path) -> bool:
    """Trust the certificates in a file; False if it has none.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        text = file.read_text(encoding="latin-1")
    except OSError as error:
        raise UsageError.of_file(
            f"the CA certificates cannot be read: {file}",
            error,
            fix="name a file that you may read",
            code="bad-ca",
        ) from None
    return _trust_text(context, text)


def _trust_text(context: ssl.SSLContext, text: str) -> bool:
    """Trust the certificates in a text, one by one, so that a broken one does not affect others."""
    trusted = False
    for block in _CERTIFICATE.findall(text):
        try:
            context.load_verify_locations(cadata=block.replace("TRUSTED ", ""))
        except (ssl.SSLError, ValueError):
            continue
        trusted = True
    return trusted


def _no_certificate(name: str) -> UsageError:
    return UsageError(
        f"no CA certificate is in {name}",
        why="it contains no readable block BEGIN CERTIFICATE",
        fix="name a file with the server's CA as PEM",
        code="bad-ca",
    )


def _show_certificate(context: ssl.SSLContext, target: Target) -> None:
    """Load the client's certificate and key.

    Raises:
        UsageError: they cannot be used.
    """
    if not (target.client_cert or target.client_pem):
        return
    try:
        if target.client_cert:
            context.load_cert_chain(
                target.client_cert, target.client_key or None, password=_no_password
            )
        elif target.client_pem:
            _load_from_memory(context, target.client_pem)
    except (ssl.SSLError, OSError, ValueError):
        raise UsageError(
            "the client certificate cannot be used",
            why="it or its key is not PEM, they do not match, or the key has a passphrase",
            fix="name a certificate and its plain key in BAO_CLIENT_CERT and BAO_CLIENT_KEY",
            code="bad-client-certificate",
        ) from None


def _no_password() -> str:
    """Keep OpenSSL from asking at the terminal."""
    raise ValueError("the key has a passphrase")


def _load_from_memory(context: ssl.SSLContext, pem: Secret) -> None:
    """Load certificate and key from a text. OpenSSL needs files, and a pipe is a file that is not
    on any disk."""
    with _readable(pem) as certificate, _readable(pem) as key:
        context.load_cert_chain(certificate, key, password=_no_password)


@contextmanager
def _readable(text: Secret) -> Iterator[str]:
    """Yield the name of a pipe that holds a text.

    Raises:
        ValueError: it is too long for one.
    """
    raw = text.reveal().encode()
    if len(raw) > _PIPE_BYTES:
        raise ValueError("the text is too long")
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as filled:
            filled.write(raw)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
