"""The RSA key of a service account: checked when it enters, then kept ready to sign.

The library's own check of a 2048-bit key proves that both factors are prime. That costs
36 ms and holds the interpreter's lock. What can go wrong with a key is damage, and damage
shows in the arithmetic of its parts and in one signature, for 1 ms (measured: see
docs/benchmarks.md). A key whose maker chose a factor that is not prime, and yet signs
rightly (a Carmichael number), passes; it is as weak as its maker made it.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Self, final

from skyflowctl.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

MINIMUM_BITS = 2048
# Skyflow issues 2048; checking a larger key than this stops the process for seconds.
MAXIMUM_BITS = 4096
_PROBE = b"skyflowctl: does this key sign?"
_PROVEN: set[bytes] = set()
"""SHA-256 of the texts of the keys that this process has checked."""


class InvalidKeyError(ValueError):
    """The key cannot sign for Skyflow. The text says why and holds nothing of the key.

    Args:
        code: a kebab-case code for programs.
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
        """Return the key after the check: its size, its parts' arithmetic, one signature.

        The same text is not checked twice: an apply reads each credential for the plan and again
        for the write.

        Raises:
            InvalidKeyError: it is no unencrypted RSA key of 2048 to 4096 bits, or broken.
        """
        key = _load(pem.reveal().encode())
        # The size comes first: arithmetic with a giant key takes long.
        _check_size(key.key_size)
        checked = cls(key)
        digest = sha256(pem.reveal().encode()).digest()
        if digest not in _PROVEN:
            if not (_parts_agree(key) and checked._signs()):
                raise InvalidKeyError(
                    "key-broken", "the private key is damaged: its parts do not agree"
                )
            _PROVEN.add(digest)
        return checked

    @classmethod
    def trusted(cls, pem: Secret) -> Self:
        """Return a key that went through :meth:`parse` before, without checking again.

        Raises:
            InvalidKeyError: it is not an unencrypted RSA key.
        """
        return cls(_load(pem.reveal().encode()))

    @property
    def bits(self) -> int:
        """The size of the modulus in bits."""
        return self._key.key_size

    def sign(self, data: bytes) -> bytes:
        """Return the RS256 signature (RSASSA-PKCS1-v1_5 with SHA-256) of the data."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(data, PKCS1v15(), SHA256())

    def _signs(self) -> bool:
        """Tell whether its public half accepts a signature of it."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            signature = self.sign(_PROBE)
            self._key.public_key().verify(signature, _PROBE, PKCS1v15(), SHA256())
        except (ValueError, InvalidSignature):
            return False
        return True

    def to_pem(self) -> Secret:
        """Return the one canonical text: PKCS#8, unencrypted, lines of 64 characters."""
        from cryptography.hazmat.primitives import serialization as form

        pem = self._key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
        return Secret(pem.decode())

    def public_pem(self) -> str:
        """Return the public key as PEM (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives import serialization as form

        public = self._key.public_key()
        return public.public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def public_der(self) -> bytes:
        """Return the public key as DER (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives import serialization as form

        public = self._key.public_key()
        return public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)

    def __repr__(self) -> str:
        return f"SigningKey(RSA, {self.bits} bits)"


def _load(pem: bytes) -> "RSAPrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        # This type, and only with password=None, means that the key is encrypted.
        raise InvalidKeyError(
            "key-encrypted", "the private key is protected by a password"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's own text is dropped: it may describe bytes of the key.
        raise InvalidKeyError("key-broken", "the private key is damaged or incomplete") from None
    if not isinstance(key, RSAPrivateKey):
        raise InvalidKeyError("key-not-rsa", "the private key is not an RSA key")
    return key


def _parts_agree(key: "RSAPrivateKey") -> bool:
    """Tell whether each part of the key follows from the others, as in a key that was made."""
    parts = key.private_numbers()
    n, e, p, q = parts.public_numbers.n, parts.public_numbers.e, parts.p, parts.q
    # Odd and above 1: nothing below may divide by zero, nor sign with an even modulus.
    if not all(number > 1 and number % 2 for number in (n, e, p, q)):
        return False
    return (
        p * q == n
        and p != q
        and e < n
        and 1 < parts.d < n
        and parts.dmp1 == parts.d % (p - 1)
        and parts.dmq1 == parts.d % (q - 1)
        and e * parts.dmp1 % (p - 1) == 1
        and e * parts.dmq1 % (q - 1) == 1
        and 0 < parts.iqmp < p
        and parts.iqmp * q % p == 1
    )


def _check_size(bits: int) -> None:
    if bits < MINIMUM_BITS:
        raise InvalidKeyError("key-too-small", f"the RSA key has fewer than {MINIMUM_BITS} bits")
    if bits > MAXIMUM_BITS:
        raise InvalidKeyError("key-too-large", f"the RSA key has more than {MAXIMUM_BITS} bits")
