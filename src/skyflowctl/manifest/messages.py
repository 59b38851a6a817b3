"""Decides what a message may quote from a manifest, and has phrases that messages share."""

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
    r"^(https?://[^\s/?#@]+/?|unix://[^\s?#@]+|[0-9A-Za-z][0-9A-Za-z_-]*)$":
        "a cluster id, or an address such as https://bao.example.com:8200",
    "^0[0-7]{3}$":
        "a 0 and three digits from 0 to 7, in quotes",
    "^[a-z][a-z0-9-]{0,62}$":
        "a type of the server's, such as kv, ssh or transit",
    "^[a-z][a-z0-9_]{0,127}$":
        "1 to 128 of a-z, 0-9 and _, starting with a letter",
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
    "^[a-z0-9][a-z0-9_.-]{0,127}$":
        "1 to 128 of a-z, 0-9, -, _ and ., starting with a letter or digit",
    "^[0-9a-fA-F.:]{2,45}/[0-9]{1,3}$":
        "an address range in CIDR notation, such as 10.0.0.0/8",
    "^[!-)+-~]{1,253}$":
        "1 to 253 printable characters without spaces and *",
    "^[ -)+-~]{1,253}$":
        "1 to 253 printable characters without *",
    "^https://[!-~]+$":
        "an address that starts with https://",
    "^https?://[!-~]+$":
        "an address that starts with https:// or http://",
    "^[!-~]+$":
        "printable ASCII characters without spaces",
    r'^[^\x00-\x1f\x7f"\\]+$':
        "a path of a policy, such as secret/data/backend or secret/data/*",
}  # fmt: skip
"""A description of each pattern of the schema. It is not in the schema, because strict
validators such as Ajv reject unknown keywords."""

CREDENTIAL_KEYS = frozenset(
    {
        "privateKey", "private_key", "apiKey", "api_key", "apiKeyID",
        "clientID", "clientId", "client_id", "keyID", "keyId", "key_id",
        "tokenURI", "tokenUri", "token_uri", "credentials_json",
    }
)  # fmt: skip


def looks_like_credential(text: str) -> bool:
    """Return whether a text is or contains a key, a token or a credential file."""
    return len(text) >= 10 and _CREDENTIAL_SHAPES.search(text) is not None


def shown(text: str) -> str:
    """Return a text as a message may quote it: short, in one line, without anything like a key."""
    if not text.isprintable() or _KEY_BODY_RUN.search(text) or looks_like_credential(text):
        return VALUE_MASK
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "tags"?``, or an empty text if no known name is similar."""
    near = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return meant(near[0]) if near else ""


def meant(name: str) -> str:
    """Return the question that suggests this name."""
    return f'did you mean "{name}"?'


def joined_names(words: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    known = list(words)
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"


def how_to_quote(text: str, rule: Mapping[str, Any]) -> str:
    """Return the fix for a value that YAML readers do not read as text.

    Args:
        text: the value as written.
        rule: the schema's rule for it; empty if not known.
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
