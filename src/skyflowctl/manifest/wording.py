"""What a message may show of a manifest, and words that all messages share."""

import difflib
import re
from collections.abc import Iterable

_LONGEST = 64
_KEY_BODY_RUN = re.compile(r"[A-Za-z0-9+/=]{24}")
MASK = "***"

_CREDENTIAL_SHAPES = re.compile(
    r"-----\s*BEGIN|PRIVATE KEY|BEGIN CERTIFICATE"
    r"|\bsky-[A-Za-z0-9]{5}-[0-9a-fA-F]{32}\b"  # a Skyflow API key
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\."  # a JWT
    r"|\bhv[sbr]\.[A-Za-z0-9_-]{20,}|^[sbr]\.[A-Za-z0-9]{24}"  # server tokens
    r"|^MII[A-Za-z0-9+/=\s]{60,}"  # a PEM body without its frame
    r"|[\"']?(?:privateKey|private_key|apiKey|api_key)[\"']?\s*[:=]"
)

CREDENTIAL_KEYS = frozenset(
    {
        "privateKey", "private_key", "apiKey", "api_key", "apiKeyID",
        "clientID", "clientId", "client_id", "keyID", "keyId", "key_id",
        "tokenURI", "tokenUri", "token_uri", "credentials_json",
    }
)  # fmt: skip


def looks_like_credential(text: str) -> bool:
    """Tell whether a text is, or holds, a key, a token or a credential file."""
    return len(text) >= 10 and _CREDENTIAL_SHAPES.search(text) is not None


def shown(text: str) -> str:
    """Return what a message may quote: short, one line, nothing like a key's body."""
    if not text.isprintable() or _KEY_BODY_RUN.search(text) or looks_like_credential(text):
        return MASK
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "tags"?``, or nothing when no known word is near."""
    near = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


def listed(words: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    known = list(words)
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"
