"""The claims of a bearer token; nothing here verifies its signature."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret


@dataclass(frozen=True, slots=True)
class BearerFacts:
    """A token's own claims; None or empty: absent."""

    expires_at: datetime | None = None
    client_id: str = ""
    key_id: str = ""


def read_bearer(token: Secret) -> BearerFacts:
    """Return the claims of a token; empty if it is not a JWT."""
    try:
        claims = _claims(token)
    except (ValueError, TypeError, RecursionError):
        return BearerFacts()
    return BearerFacts(_expiry(claims), _text(claims.get("sub")), _text(claims.get("key")))


def expiry_of(token: Secret) -> datetime:
    """Return the time that a token's own ``exp`` names.

    Raises:
        ValueError: it is not a JWT, or has no usable ``exp``; the text contains no part of it.
    """
    expires_at = read_bearer(token).expires_at
    if expires_at is None:
        raise ValueError("the token has no readable exp")
    return expires_at


def _claims(token: Secret) -> Mapping[str, Any]:
    _, payload, _ = token.reveal().split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if not isinstance(claims, dict):
        raise TypeError
    return claims


def _expiry(claims: Mapping[str, Any]) -> datetime | None:
    exp = claims.get("exp")
    if isinstance(exp, bool) or not isinstance(exp, int | float):
        return None
    try:
        return datetime.fromtimestamp(exp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
