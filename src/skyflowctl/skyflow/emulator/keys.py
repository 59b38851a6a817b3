"""RSA keys of the emulator: made, read once and kept, written as PEM."""

from functools import lru_cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from skyflowctl.secret import Secret

_PUBLIC_EXPONENT = 65_537
_KEY_BITS = 2048


def generate_key() -> rsa.RSAPrivateKey:
    """Return a new RSA-2048 key, the only kind that Skyflow issues (about 0.1 s)."""
    return rsa.generate_private_key(_PUBLIC_EXPONENT, _KEY_BITS)


def private_pem(key: rsa.RSAPrivateKey) -> Secret:
    """Return the key as PKCS#8 PEM without a passphrase."""
    raw = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Secret(raw.decode())


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """Return the key's public half as PEM."""
    raw = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw.decode()


def read_private_key(pem: Secret) -> rsa.RSAPrivateKey:
    """Return the private key that a PEM text holds.

    The consistency check of RSA keys (about 40 ms) is left out: a key whose halves do
    not belong together signs nothing that its public half accepts.

    Raises:
        ValueError: the text is no unencrypted RSA private key.
    """
    try:
        key = serialization.load_pem_private_key(
            pem.reveal().encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except TypeError as error:
        raise ValueError("the private key is encrypted") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the private key is not an RSA key")  # noqa: TRY004 - about a text
    return key


@lru_cache(maxsize=1024)
def read_public_key(pem: str) -> rsa.RSAPublicKey:
    """Return the public key that a PEM text holds; each text is parsed once.

    Raises:
        ValueError: the text is no RSA public key.
    """
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the public key is not an RSA key")  # noqa: TRY004 - about a text
    return key
