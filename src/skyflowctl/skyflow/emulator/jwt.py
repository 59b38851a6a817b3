"""JSON Web Tokens signed with RS256: written, taken apart strictly, verified.

Independent of ``skyflow.minting`` on purpose: a verifier that shared code with the
signer would share its mistakes.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from skyflowctl.frozen import dataclass

ALGORITHM = "RS256"
MAX_LENGTH = 16_384


class MalformedTokenError(ValueError):
    """The text is not a JSON Web Token in compact form."""


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """A token taken apart; nothing in it is verified yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes


def sign_claims(claims: Mapping[str, Any], key: RSAPrivateKey) -> str:
    """Return the claims as a token signed with RS256."""
    header = _b64(_json({"alg": ALGORITHM, "typ": "JWT"}))
    signing_input = f"{header}.{_b64(_json(claims))}".encode()
    signature = key.sign(signing_input, padding.PKCS1v15(), hashes.SHA256())
    return f"{signing_input.decode()}.{_b64(signature)}"


def split_token(text: str) -> ParsedToken:
    """Take a token apart.

    Raises:
        MalformedTokenError: not three parts of canonical base64url, or header or claims
            are no JSON object, name a key twice or hold a number that JSON has not.
    """
    if len(text) > MAX_LENGTH:
        raise MalformedTokenError("the token is too long")
    parts = text.split(".")
    if len(parts) != 3:
        raise MalformedTokenError("a token has three parts")
    header, claims, signature = (_unb64(part) for part in parts)
    return ParsedToken(
        header=_json_object(header),
        claims=_json_object(claims),
        signing_input=text.rpartition(".")[0].encode("ascii"),
        signature=signature,
    )


def is_signed_by(token: ParsedToken, key: RSAPublicKey) -> bool:
    """Say whether the token says RS256 and the key's owner signed it.

    Every other algorithm is false, ``none`` and ``HS256`` with the public key as
    its secret included.
    """
    if token.header.get("alg") != ALGORITHM or "crit" in token.header:
        return False
    try:
        key.verify(token.signature, token.signing_input, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(part: str) -> bytes:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedTokenError("a part is no base64url") from error
    # The last character has spare bits: without this, one signature has several spellings.
    if _b64(raw) != part:
        raise MalformedTokenError("a part is no canonical base64url")
    return raw


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant
        )
    except MalformedTokenError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedTokenError("a part is no JSON") from error
    if not isinstance(value, dict):
        raise MalformedTokenError("a part is no JSON object")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedTokenError("a key appears twice")
    return found


def _no_constant(name: str) -> Any:
    raise MalformedTokenError(f"{name} is no JSON number")
