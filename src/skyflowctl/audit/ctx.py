"""The ctx of a request as one text, and whether it is a hash."""

from typing import Any

import msgspec

HASH_PREFIX = "hmac-sha256:"
_encode = msgspec.json.Encoder(order="sorted").encode


def is_hash(text: str) -> bool:
    """Return whether this is a hash that an audit device writes instead of a text."""
    return text.startswith(HASH_PREFIX) and len(text) == len(HASH_PREFIX) + 64


def ctx_text(ctx: Any) -> tuple[str, bool]:
    """Return a ctx as text (objects as compact JSON with sorted keys), and whether it is hashed."""
    if ctx is None:
        return "", False
    if isinstance(ctx, str):
        return ctx, is_hash(ctx)
    try:
        text = _encode(ctx).decode()
    except RecursionError:
        return "(nested too deep)", False
    values = ctx.values() if isinstance(ctx, dict) else ctx if isinstance(ctx, list) else ()
    return text, any(isinstance(value, str) and is_hash(value) for value in values)
