"""What a message may show of a manifest, and words that all messages share."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from skyflowctl.manifest.schema import matches

_LONGEST = 64
_KEY_BODY_RUN = re.compile(r"[A-Za-z0-9+/=]{24}")
VALUE_MASK = "***"

_CREDENTIAL_SHAPES = re.compile(
    r"-----\s*BEGIN|PRIVATE KEY|BEGIN CERTIFICATE"
    r"|\bsky-[A-Za-z0-9]{5}-[0-9a-fA-F]{32}\b"  # a Skyflow API key
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\."  # a JWT
    r"|\bhv[sbr]\.[A-Za-z0-9_-]{20,}|^[sbr]\.[A-Za-z0-9]{24}"  # server tokens
    r"|^MII[A-Za-z0-9+/=\s]{60,}"  # a PEM body without its frame
    r"|[\"']?(?:privateKey|private_key|apiKey|api_key)[\"']?\s*[:=]"
)

EXPECTED = {
    r"^/[^\x00-\x1f\x7f]+$":
        "an absolute path on the server, such as /etc/openbao/keys/skyflow/order/key.json",
    r"^v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})"
    r"(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$":
        "a semantic version with a leading v, such as v1.0.0 or v1.0.0-rc.1",
    "^[a-z0-9][a-z0-9_-]{0,62}$":
        "1 to 63 of a-z, 0-9, - and _, starting with a letter or digit",
    "^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$":
        ("segments of letters, digits, -, _ and . joined by single slashes, none"
         " at either end"),
    r"^[^\x00-\x1f\x7f]*$":
        "one line of text",
    "^[A-Za-z0-9][A-Za-z0-9_.:/@=+-]{0,127}$":
        "1 to 128 letters, digits and _ . : / @ = + -, starting with a letter or digit",
    "^([0-9]{1,6}d)?([0-9]{1,7}h)?([0-9]{1,9}m)?([0-9]{1,10}s)?$":
        "a duration such as 90d, 12h, 20m, 1h30m or 30s",
    "^[A-Za-z_][A-Za-z0-9_]{0,254}$":
        ("the name of an environment variable: letters, digits and _, not starti"
         "ng with a digit"),
    "^[A-Za-z0-9_-]{1,128}$":
        "1 to 128 letters, digits, - and _",
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$":
        "1 to 128 letters, digits, _ . and -, starting with a letter or digit",
}  # fmt: skip
"""What each pattern of the schema asks for. Kept here and not in the schema: strict
validators such as Ajv refuse keywords that they do not know."""

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
        return VALUE_MASK
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "tags"?``, or nothing when no known word is near."""
    near = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return meant(near[0]) if near else ""


def meant(name: str) -> str:
    """Return the question whether this name was meant."""
    return f'did you mean "{name}"?'


def joined_names(words: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    known = list(words)
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"


def how_to_quote(text: str, rule: Mapping[str, Any]) -> str:
    """Return what to do about a value that YAML readers take for no text.

    Args:
        text: the value as it stands there.
        rule: what the schema asks of it; empty where that is not known.
    """
    if rule.get("type") == "boolean":
        return "write true or false, without quotes"
    if "const" in rule:
        return f"write {rule['const']}"
    if "enum" in rule and text not in rule["enum"]:
        return f"use {' or '.join(map(str, rule['enum']))}"
    if "pattern" in rule and not matches(rule["pattern"], text):
        return f"use {EXPECTED.get(rule['pattern'], 'another form')}"
    quoted = f'quote it: "{shown(text)}"'
    if not rule and text.lower() in {"yes", "no", "on", "off"}:
        return f"write true or false for a switch; for text, {quoted}"
    return quoted
