"""Parses an HTTP answer, without interpreting it."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from skyflowctl.errors import UsageError
from skyflowctl.vault.foreign_answers import ServerAnswer
from skyflowctl.vault.target import check_address

if TYPE_CHECKING:
    from skyflowctl.vault.connection import Received

_MOST_SEEN = 4096
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def as_answer(method: str, path: str, raw: Received) -> ServerAnswer:
    """Return an HTTP answer as one value."""
    headers = {name.lower(): value for name, value in raw.headers.items()}
    return ServerAnswer(method, path, raw.status, _parsed(raw), headers, raw.content[:_MOST_SEEN])


def _parsed(answer: Received) -> dict[str, Any] | None:
    """Return an answer's JSON object, {} for a successful one without body, else None."""
    if not answer.content:
        return {} if answer.status < 300 else None
    try:
        body = json.loads(answer.content.decode(), parse_constant=_no_number, parse_float=_finite)
        if _SURROGATE.search(answer.content):
            body = _without_surrogates(body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _no_number(_: str) -> Any:
    raise ValueError("NaN and Infinity are no JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _without_surrogates(value: Any) -> Any:
    """Return JSON whose texts can all be encoded: a lone surrogate becomes U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _without_surrogates(name): _without_surrogates(item) for name, item in value.items()
        }
    return value


def origin(location: str, address: str) -> str:
    """Return the scheme, host and port that a Location header names."""
    parts = urlsplit(location)
    if not parts.netloc:
        return address
    host = parts.netloc.rpartition("@")[2]
    try:
        return check_address(f"{parts.scheme}://{host}")
    except UsageError:
        return f"{parts.scheme}://{host}"
