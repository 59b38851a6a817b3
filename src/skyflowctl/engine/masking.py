"""Masks a ctx, and anything that looks like a token, in the token service's messages.

The service's message goes into errors that are logged, and a ctx may name a person. A
message that repeats the ctx, in whatever usual spelling, is masked.
"""

import json
import re
from collections.abc import Iterator, Mapping

from skyflowctl.engine.ctx import Ctx

MASK = "***"
WITHHELD = "(its message repeats the ctx and is withheld)"
_JWT = re.compile(r"eyJ[\w-]{4,}(?:\.[\w-]*){0,2}")
# A shorter ctx is found by chance in any text; a message with it is not worth saving.
_SHORT = 4


def mask_ctx(message: str, ctx: Ctx | None, *, own_words: bool = False) -> str:
    """Return the message without any spelling of the ctx or of a token.

    Args:
        message: the token service's message, or this engine's about a missing answer.
        ctx: what was sent.
        own_words: the message is this engine's own, so a short ctx in it is chance (``0`` in a port
            number) and no reason to withhold why the service was not reached.
    """
    message = _JWT.sub(MASK, message)
    if ctx is None:
        return message
    # Longest first, so that no spelling is broken by a shorter one inside it.
    for text in sorted(set(_spellings(ctx)), key=len, reverse=True):
        found = _loosely(text)
        if len(text) < _SHORT:
            if not own_words and found.search(message):
                return WITHHELD
            continue
        message = _without_cut_end(found.sub(MASK, message), text)
    return message


def _loosely(text: str) -> re.Pattern[str]:
    """Match the text in any case and with any blanks between its words."""
    return re.compile(r"\s+".join(map(re.escape, text.split())), re.IGNORECASE)


def _without_cut_end(message: str, text: str) -> str:
    """Mask the start of the text at the end of a truncated message."""
    lower, bare = message.rstrip(".\u2026 ").lower(), text.lower()
    for length in range(min(len(bare), len(lower)), _SHORT - 1, -1):
        if lower.endswith(bare[:length]):
            return message[: len(lower) - length] + MASK
    return message


def _spellings(ctx: Ctx) -> Iterator[str]:
    # Only for a failure: these take memory, html for a table of some thousand entities.
    from html import escape
    from urllib.parse import quote, quote_plus

    for text in _texts(ctx):
        yield from (text, quote(text), quote(text, safe=""), quote_plus(text))
        yield from (escape(text), repr(text)[1:-1])
        yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])


def _texts(ctx: Ctx) -> Iterator[str]:
    if isinstance(ctx, str):
        yield ctx
        return
    yield from _whole(ctx)
    for value in ctx.values():
        yield value if isinstance(value, str) else json.dumps(value)


def _whole(ctx: Mapping[str, str | int | float | bool]) -> Iterator[str]:
    yield json.dumps(dict(ctx))
    yield json.dumps(dict(ctx), separators=(",", ":"))
