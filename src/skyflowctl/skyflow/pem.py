"""A private key's text: undo what shells, editors and JSON encoders did to its lines.

The vendor's SDKs differ in what they forgive (spaces for newlines work in Python and
fail in Node; PKCS#1 fails in Go), so what we store is always one canonical form.
"""

import re

from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.signing_key import InvalidKeyError, SigningKey

_BLOCK = re.compile(
    r"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----"
    r"(?P<body>(?:(?!-----).)*)-----END (?P=label)-----",
    re.DOTALL,
)
# Bounded, as all patterns here: the text is a stranger's, and time grows with its square.
_ESCAPED_LINE_END = re.compile(r"(?:\\{1,4}r)?\\{1,4}n|\\{1,4}r")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_PKCS8 = "PRIVATE KEY"
_PKCS1 = "RSA PRIVATE KEY"
_OTHER_LABELS = {
    "ENCRYPTED PRIVATE KEY": ("key-encrypted", "the private key is protected by a password"),
    "EC PRIVATE KEY": ("key-not-rsa", "the private key is not an RSA key"),
    "DSA PRIVATE KEY": ("key-not-rsa", "the private key is not an RSA key"),
    "PUBLIC KEY": ("key-public", "privateKey contains a public key"),
    "RSA PUBLIC KEY": ("key-public", "privateKey contains a public key"),
    "CERTIFICATE": ("key-public", "privateKey contains a certificate"),
}


@dataclass(frozen=True, slots=True)
class NormalKey:
    """A checked key in canonical form, and what had to be changed to get there.

    Args:
        pem: PKCS#8 PEM with lines of 64 characters and a final newline.
        was_pkcs1: the text was ``RSA PRIVATE KEY``.
        was_reflowed: line ends or line lengths were others.
    """

    pem: Secret
    was_pkcs1: bool
    was_reflowed: bool


def normalise(text: Secret) -> NormalKey:
    """Check a private key in full and return its canonical form.

    Raises:
        InvalidKeyError: no unencrypted RSA key of an accepted size can be read from it.
    """
    label, body = _key_block(text.reveal())
    pem = f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
    key = SigningKey.parse(Secret(pem))
    return NormalKey(
        pem=key.to_pem(),
        was_pkcs1=label == _PKCS1,
        was_reflowed=pem.rstrip("\n") not in text.reveal(),
    )


def _key_block(text: str) -> tuple[str, str]:
    """Return label and content of the only private key; certificates may surround it."""
    found = list(_BLOCK.finditer(_ESCAPED_LINE_END.sub("\n", text)))
    if not found:
        raise InvalidKeyError("key-not-pem", "privateKey contains no complete PEM block")
    blocks = [block for block in found if block["label"].endswith(_PKCS8)] or found[:1]
    if len(blocks) > 1:
        raise InvalidKeyError("key-several", "privateKey contains several private keys")
    label = blocks[0]["label"]
    if label not in (_PKCS8, _PKCS1):
        unknown = ("key-format", "privateKey contains another type of PEM block")
        raise InvalidKeyError(*_OTHER_LABELS.get(label, unknown))
    return label, _body(blocks[0]["body"])


def _body(text: str) -> str:
    if "Proc-Type:" in text:
        raise InvalidKeyError(*_OTHER_LABELS["ENCRYPTED PRIVATE KEY"])
    base64 = "".join(text.split())
    if not _BASE64.fullmatch(base64):
        raise InvalidKeyError("key-broken", "the private key holds characters that are not base64")
    return "\n".join(base64[start : start + 64] for start in range(0, len(base64), 64))
