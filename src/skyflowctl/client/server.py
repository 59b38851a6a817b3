"""Where the server is, and how it is recognised: address, namespace and CA from one source.

Explicit values come first, then ``BAO_*``, then ``VAULT_*``. The CA of the environment is no secret
and serves any address; its namespace, token and client certificate serve only its own address.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from .errors import ClientSettingsError

UNIX = "unix"
_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)


class ServerEndpoint(NamedTuple):
    """A server, or an agent in front of it.

    Args:
        address: ``https://host:port``, ``http://host:port`` or ``unix:///path``.
        namespace: empty for the root.
        nodes: further addresses of the same cluster. They are asked when the first does not
            answer, and redirects lead only to them.
        ca_cert: a PEM file with the CA; empty: what the environment names, else the system's.
        ca_path: a folder with PEM files.
        ca_bytes: CA certificates as PEM text.
        tls_server_name: the name in the certificate, if it is not the host.
        client_cert: a PEM file with a client certificate.
        client_key: the file with its key; empty: it is in the same file.
    """

    address: str
    namespace: str = ""
    nodes: tuple[str, ...] = ()
    ca_cert: str = ""
    ca_path: str = ""
    ca_bytes: str = ""
    tls_server_name: str = ""
    client_cert: str = ""
    client_key: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses that may see the token, the first to ask first."""
        return tuple(dict.fromkeys((self.address, *self.nodes)))


def environment_value(environ: Mapping[str, str], name: str) -> str:
    """Return ``BAO_<name>``, else ``VAULT_<name>``. An empty ``BAO_<name>`` counts as set."""
    for prefix in ("BAO_", "VAULT_"):
        if prefix + name in environ:
            return environ[prefix + name]
    return ""


def resolve_endpoint(
    given: ServerEndpoint | str | None, environ: Mapping[str, str]
) -> ServerEndpoint:
    """Return the server that is given, else the environment's, with checked addresses.

    Raises:
        ClientSettingsError: neither names a server, or an address is malformed.
    """
    endpoint = ServerEndpoint(given) if isinstance(given, str) else given
    endpoint = endpoint or _environment_endpoint(environ)
    if not (endpoint.ca_cert or endpoint.ca_path or endpoint.ca_bytes):
        endpoint = endpoint._replace(
            ca_cert=environment_value(environ, "CACERT"),
            ca_path=environment_value(environ, "CAPATH"),
            ca_bytes=environment_value(environ, "CACERT_BYTES"),
        )
    return endpoint._replace(
        address=checked_address(endpoint.address),
        namespace=_checked_namespace(endpoint.namespace),
        nodes=tuple(checked_address(node) for node in endpoint.nodes),
    )


def _environment_endpoint(environ: Mapping[str, str]) -> ServerEndpoint:
    def value(name: str) -> str:
        return environment_value(environ, name)

    address = value("AGENT_ADDR") or value("ADDR")
    if not address:
        raise ClientSettingsError("no server is named: set BAO_ADDR, or give TokenSource a server")
    nodes = environ.get("SKYFLOWCTL_NODES", "").split(",")
    return ServerEndpoint(
        address,
        namespace=value("NAMESPACE"),
        nodes=tuple(node.strip() for node in nodes if node.strip()),
        tls_server_name=value("TLS_SERVER_NAME"),
        client_cert=value("CLIENT_CERT"),
        client_key=value("CLIENT_KEY"),
    )


def checked_address(address: str) -> str:
    """Return an address as ``scheme://host:port``, with its port, or as ``unix:///path``.

    Raises:
        ClientSettingsError: it is none of the three, or has a path or a user name.
    """
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        raise ClientSettingsError("the server's address is malformed") from None
    if not address.isprintable() or "@" in parts.netloc or parts.query or parts.fragment:
        raise ClientSettingsError("the server's address has a user name, a query or invalid text")
    if parts.scheme == UNIX and parts.path and not parts.netloc:
        return f"unix://{parts.path}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise ClientSettingsError(
            "the server's address is not a URL such as https://bao.example.com:8200"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"


def _checked_namespace(namespace: str) -> str:
    if not namespace.isprintable() or not namespace.isascii():
        raise ClientSettingsError("the namespace has characters that no header may have")
    return namespace.strip("/")


def tls_settings(endpoint: ServerEndpoint) -> ssl.SSLContext:
    """Return the context for connections to the endpoint.

    A folder needs no hash links, and a named certificate is trusted even if it is no root, as in
    the stock client.

    Raises:
        ClientSettingsError: a named file cannot be read or has no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    texts = dict(_named_authorities(endpoint))
    for name, text in texts.items():
        if not sum(_trust(context, block) for block in _CERTIFICATE.findall(text)):
            raise ClientSettingsError(f"no CA certificate is in {name}")
    if not texts:
        context.load_default_certs()
    if endpoint.client_cert:
        try:
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key or None)
        except (ssl.SSLError, OSError):
            raise ClientSettingsError("the client certificate cannot be used") from None
    return context


def _named_authorities(endpoint: ServerEndpoint) -> list[tuple[str, str]]:
    found = [("ca_bytes", endpoint.ca_bytes)] if endpoint.ca_bytes else []
    try:
        if endpoint.ca_cert:
            found.append((endpoint.ca_cert, Path(endpoint.ca_cert).read_text("latin-1")))
        if endpoint.ca_path:
            files = sorted(one for one in Path(endpoint.ca_path).rglob("*") if one.is_file())
            found.append((endpoint.ca_path, "".join(one.read_text("latin-1") for one in files)))
    except OSError as error:
        raise ClientSettingsError(
            f"the CA certificates cannot be read: {error.filename}: {error.strerror}"
        ) from None
    return found


def _trust(context: ssl.SSLContext, block: str) -> bool:
    try:
        context.load_verify_locations(cadata=block.replace("TRUSTED ", ""))
    except (ssl.SSLError, ValueError):
        return False
    return True
