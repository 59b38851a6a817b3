"""The RSA key of a service account: checked once in full, then kept ready to sign.

The full check of a 2048-bit key costs 38 ms and holds the interpreter's lock; loading a
key that was checked before costs 0.6 ms (measured). So a credential is checked in full
when it enters, and only there.
"""

from typing import TYPE_CHECKING, Self, final

from skyflowctl.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

MINIMUM_BITS = 2048
# Skyflow issues 2048; checking a larger key than this stops the process for seconds.
MAXIMUM_BITS = 4096


class InvalidKey(ValueError):
    """The key cannot sign for Skyflow. The text says why and holds nothing of the key.

    Args:
        code: kebab-case word for programs.
        reason: what is wrong, in one line.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@final
class SigningKey:
    """An RSA private key in memory; it shows nothing of itself as text."""

    __slots__ = ("_key",)

    def __init__(self, key: "RSAPrivateKey") -> None:
        self._key = key

    @classmethod
    def parse(cls, pem: Secret) -> Self:
        """Return the key after the full check: size, and that its parts belong together.

        Raises:
            InvalidKey: it is no unencrypted RSA key of 2048 to 4096 bits, or broken.
        """
        data = pem.reveal().encode()
        # The size comes first: checking a giant key would take minutes.
        _check_size(_load(data, check=False).key_size)
        return cls(_load(data, check=True))

    @classmethod
    def trusted(cls, pem: Secret) -> Self:
        """Return a key that went through :meth:`parse` before, without checking again.

        Raises:
            InvalidKey: it is no unencrypted RSA key at all.
        """
        return cls(_load(pem.reveal().encode(), check=False))

    @property
    def bits(self) -> int:
        """The size of the modulus in bits."""
        return self._key.key_size

    def sign(self, data: bytes) -> bytes:
        """Return the RS256 signature (RSASSA-PKCS1-v1_5 with SHA-256) of the data."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(data, PKCS1v15(), SHA256())

    def to_pem(self) -> Secret:
        """Return the one canonical text: PKCS#8, unencrypted, lines of 64 characters."""
        from cryptography.hazmat.primitives import serialization as form

        pem = self._key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
        return Secret(pem.decode())

    def public_pem(self) -> str:
        """Return the public half as PEM (SubjectPublicKeyInfo), for whoever verifies."""
        from cryptography.hazmat.primitives import serialization as form

        public = self._key.public_key()
        return public.public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def __repr__(self) -> str:
        return f"SigningKey(RSA, {self.bits} bits)"


def _load(pem: bytes, *, check: bool) -> "RSAPrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=not check)
    except TypeError:
        # This type, and only with password=None, means that the key is encrypted.
        raise InvalidKey("key-encrypted", "the private key is protected by a password") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's own text is dropped: it may describe bytes of the key.
        raise InvalidKey("key-broken", "the private key is damaged or incomplete") from None
    if not isinstance(key, RSAPrivateKey):
        raise InvalidKey("key-not-rsa", "the private key is not an RSA key")
    return key


def _check_size(bits: int) -> None:
    if bits < MINIMUM_BITS:
        raise InvalidKey("key-too-small", f"the RSA key has fewer than {MINIMUM_BITS} bits")
    if bits > MAXIMUM_BITS:
        raise InvalidKey("key-too-large", f"the RSA key has more than {MAXIMUM_BITS} bits")
