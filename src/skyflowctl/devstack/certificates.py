"""TLS for the dev stack: a CA that signs one certificate, and whose key is not kept."""

from pathlib import Path

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.private_files import write_private


def ensure_certificates(layout: DevLayout) -> None:
    """Create CA, server certificate and CA bundle, unless they exist.

    The CA's key is never written, so no other certificate can be signed later.
    """
    if not layout.bundle.exists():
        _issue(layout)


def _issue(layout: DevLayout) -> None:
    import trustme

    authority = trustme.CA(organization_name="skyflowctl dev stack")
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    write_private(layout.private_key, issued.private_key_pem.bytes().decode())
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    write_private(layout.certificate, chain)
    root = authority.cert_pem.bytes().decode()
    write_private(layout.ca, root)
    write_private(layout.bundle, _public_roots() + "\n" + root)


def _public_roots() -> str:
    import certifi

    return Path(certifi.where()).read_text()
