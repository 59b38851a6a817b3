"""The fields of a credential: their names in every spelling, their types, their texts."""

import re
from collections.abc import Mapping
from typing import Any

from skyflowctl.skyflow.lint import Findings
from skyflowctl.skyflow.strict_json import API_KEY_FINDING

REQUIRED = ("clientID", "keyID", "tokenURI", "privateKey")
OPTIONAL = ("clientName", "keyValidAfterTime", "keyValidBeforeTime")

_MAXIMUM_TEXT = 512
_DOWNLOAD = "use the credentials.json downloaded from Skyflow Studio"
_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")
# A whole value that a reader of the documentation was meant to replace.
_PLACEHOLDER = re.compile(
    r"<[^<>]{1,80}>|your[ _-][\w -]{1,80}|\$\{[^{}]{1,80}\}|\{\{[^{}]{1,80}\}\}|change[ _-]?me",
    re.IGNORECASE,
)
_PEM_FRAME = re.compile(r"-----(?:BEGIN|END)[A-Z0-9 ]{1,40}-----")


def _plain(name: str) -> str:
    return re.sub(r"[_-]", "", name).lower()


_KNOWN = {_plain(name): name for name in (*REQUIRED, *OPTIONAL)}


def read_fields(raw: Mapping[str, Any], findings: Findings) -> dict[str, str]:
    """Return the known fields that are usable, under their camelCase names.

    Args:
        raw: the credential's JSON object.
        findings: takes what is missing, of a wrong type, misspelt, empty or a
            placeholder; such an error's field is left out of the result.
    """
    named = _known_names(raw, findings)
    if "privateKey" not in named and any(raw[key] for key in raw if _is_api_key(key)):
        findings.error(*API_KEY_FINDING)
        return {}
    texts = {name: _text(name, value, findings) for name, value in named.items()}
    for name in REQUIRED:
        if name not in texts:
            findings.error("field-missing", f"{name} is missing", _DOWNLOAD)
    for name in ("clientID", "keyID"):
        text = texts.get(name)
        if text and not _HEX_ID.fullmatch(text):
            message = f"{name} is not 32 hexadecimal digits, as every known one is"
            findings.warning("id-form", message, "compare it with the downloaded file")
    return {name: text for name, text in texts.items() if text is not None}


def _is_api_key(name: str) -> bool:
    return _plain(name) in ("apikey", "apikeyid")


def _known_names(raw: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for spelling, value in raw.items():
        name = _KNOWN.get(_plain(spelling))
        if name is None or (name in OPTIONAL and value is None):
            continue
        if name in named:
            message = f"{name} appears twice, in two spellings"
            findings.error("field-twice", message, f"keep {name} and remove the other")
        elif spelling != name:
            message = f"{name} is spelt differently; it was read as {name}"
            findings.warning(
                "field-spelling", message, f"write {name}: other clients require this spelling"
            )
        named[name] = value
    return named


def _text(name: str, value: Any, findings: Findings) -> str | None:
    """Return the field's text without outer blanks, or None after an error."""
    if not isinstance(value, str):
        findings.error("field-type", f"{name} is not a string", _DOWNLOAD)
        return None
    text = value.strip()
    if not text and name in REQUIRED:
        findings.error("field-empty", f"{name} is empty", _DOWNLOAD)
    elif _is_placeholder(name, text):
        findings.error("placeholder", f"{name} still holds a placeholder", _DOWNLOAD)
    elif name != "privateKey" and not (text.isprintable() and len(text) <= _MAXIMUM_TEXT):
        message = f"{name} holds control characters or more than {_MAXIMUM_TEXT} characters"
        findings.error("field-text", message, _DOWNLOAD)
    else:
        if text != value and name != "privateKey":
            message = f"{name} had surrounding spaces; they were removed"
            findings.warning("field-blanks", message, _DOWNLOAD)
        return text
    return None


def _is_placeholder(name: str, text: str) -> bool:
    """Tell whether the whole value is one; of a key, what is in its frame. Names are free."""
    if name == "clientName":
        return False
    inner = _PEM_FRAME.sub("", text).strip() if name == "privateKey" else text
    return _PLACEHOLDER.fullmatch(inner) is not None
