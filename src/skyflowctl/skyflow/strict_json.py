"""Strict JSON of a credential: one flat object, small, unambiguous.

Python's parser accepts more than others (NaN, duplicate keys, huge numbers). What it accepts
here, another parser would refuse or read differently.
"""

import json
import re
from typing import Any, NoReturn

from skyflowctl.skyflow.lint import Findings

MAXIMUM_CHARACTERS = 64 * 1024

_API_KEY = re.compile(r"sky-[A-Za-z0-9]{5}-[0-9a-fA-F]{32}")
_DOWNLOAD = "use the credentials.json as Skyflow Studio downloads it"


class _RejectedError(ValueError):
    """The reader met something that JSON, or we, do not take; the text holds no value."""


def read_object(text: str, findings: Findings) -> dict[str, Any]:
    """Return the object that the text holds.

    Args:
        text: the whole credential.
        findings: takes a warning when raw line ends inside strings were accepted.

    Raises:
        InvalidCredentialError: the text is no JSON object; the one finding says why, and
            where, and repeats nothing of the text.
    """
    _check_text(text, findings)
    findings.raise_errors()
    value = _read(text, findings)
    findings.raise_errors()
    if not isinstance(value, dict):
        findings.error(*_not_an_object(value))
    findings.raise_errors()
    return dict(value)


def _check_text(text: str, findings: Findings) -> None:
    """Find what would make any reading pointless; at most one finding."""
    bare = text.strip()
    if len(text) > MAXIMUM_CHARACTERS:
        findings.error("too-large", "the credential is larger than 64 KiB", _DOWNLOAD)
    elif not bare:
        findings.error("empty", "the credential is empty", _DOWNLOAD)
    elif bare.startswith("\ufeff"):
        fix = "save the file as UTF-8 without a byte-order mark"
        findings.error("byte-order-mark", "the credential starts with a byte-order mark", fix)
    elif "\0" in text or "\ufffd" in text or not _is_unicode(text):
        message = "the credential is not UTF-8 text (NUL bytes or undecodable characters)"
        findings.error("wrong-encoding", message, "save the file as UTF-8 (not UTF-16)")
    elif _API_KEY.fullmatch(bare):
        findings.error(*API_KEY_FINDING)


API_KEY_FINDING = (
    "api-key",
    "this is a Skyflow API key, not a service-account key: it cannot mint tokens",
    "create a service account with a key pair (not API-key based) and use its credentials.json",
)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(text: str, findings: Findings) -> Any:
    try:
        return _decode(text, strict=True)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            return _read_with_raw_line_ends(text, findings)
        reason = f"line {error.lineno}, column {error.colno}"
    except _RejectedError as error:
        reason = str(error)
    except (RecursionError, ValueError):
        reason = "nested too deep, or a giant number"
    findings.error("not-json", f"the credential is not valid JSON ({reason})", _DOWNLOAD)
    return None


def _read_with_raw_line_ends(text: str, findings: Findings) -> Any:
    """Read once more, taking real line ends inside strings: what ``echo -e`` leaves."""
    try:
        value = _decode(text, strict=False)
    except (ValueError, RecursionError):
        findings.error("not-json", "the credential is not valid JSON", _DOWNLOAD)
        return None
    findings.warning(
        "raw-line-ends",
        "the JSON has unescaped line ends or tabs inside a string; they were accepted",
        _DOWNLOAD,
    )
    return value


def _decode(text: str, *, strict: bool) -> Any:
    return json.loads(
        text,
        strict=strict,
        object_pairs_hook=_unique,
        parse_constant=_no_constant,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RejectedError("a key appears twice in one object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise _RejectedError("NaN and Infinity are not JSON numbers")


def _not_an_object(value: Any) -> tuple[str, str, str]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return (
            "quoted-twice",
            "the credential is a JSON string that contains JSON: it was quoted twice",
            "remove the outer quotes and the backslashes",
        )
    if isinstance(value, str) and _API_KEY.fullmatch(value.strip()):
        return API_KEY_FINDING
    kind = "an array" if isinstance(value, list) else "a single value"
    return ("not-an-object", f"the credential is {kind}, not a JSON object", _DOWNLOAD)
