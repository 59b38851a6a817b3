"""What a token service's HTTP answer means: a token, a refusal, or a wrong address."""

import json
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.connection import MAXIMUM_BODY, HttpAnswer
from skyflowctl.skyflow.token_service import (
    NO_TOKEN,
    Exchange,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)

# Each alternative stops at the next tag or takes the rest: linear on any page.
_TAG = re.compile(
    r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE
)
_BEARER = re.compile(r"[\x21-\x7e]+")
_MAXIMUM_MESSAGE = 500
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")


def read_answer(answer: HttpAnswer, token_uri: str) -> Exchange:
    """Return the token that an answer holds.

    Args:
        answer: the reply to the exchange.
        token_uri: what was asked, for naming where a redirect leads.

    Raises:
        TokenServiceRefusedError: a status of 400 or more, or no token.
        TokenServiceUnreachableError: a redirect.
    """
    request_id = request_id_of(answer)
    if 300 <= answer.status < 400:
        location = answer.header(b"location")
        raise TokenServiceUnreachableError(redirect_reason(answer.status, location, token_uri))
    if answer.truncated:
        size = f"answer is larger than {MAXIMUM_BODY // 1024} KiB"
        raise TokenServiceRefusedError(answer.status, size, request_id)
    body = json_object(answer.body)
    if answer.status != 200:
        message = NO_TOKEN if answer.status < 300 else _message(answer, body)
        raise TokenServiceRefusedError(answer.status, message, request_id)
    return _token(body, request_id)


def _token(body: dict[str, Any], request_id: str) -> Exchange:
    # The vendor's SDK takes both spellings, so a service may send either.
    token = body.get("accessToken", body.get("access_token"))
    kind = body.get("tokenType", body.get("token_type")) or "Bearer"
    if not isinstance(token, str) or not _BEARER.fullmatch(token) or not isinstance(kind, str):
        raise TokenServiceRefusedError(200, NO_TOKEN, request_id)
    return Exchange(Secret(token), one_line(kind), request_id)


def request_id_of(answer: HttpAnswer) -> str:
    """Return the service's ``x-request-id``, fit to be shown; empty when it sent none."""
    return one_line(answer.header(b"x-request-id"))[:128]


def service_words(answer: HttpAnswer) -> str:
    """Return in one line what an answer says: its own message, else its status."""
    return _message(answer, json_object(answer.body))


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is; an empty one when it is anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _message(answer: HttpAnswer, body: dict[str, Any]) -> str:
    error = body.get("error")
    nested = error.get("message") if isinstance(error, dict) else error
    for candidate in (nested, body.get("message")):
        if isinstance(candidate, str) and one_line(candidate):
            return one_line(candidate)
    return ("" if body else _first_words(answer)) or _standard_words(answer.status)


def _first_words(answer: HttpAnswer) -> str:
    """Return the first line of a page or text from a proxy."""
    if not answer.header(b"content-type").lower().startswith("text/"):
        return ""
    text = _TAG.sub("\n", answer.body.decode("utf-8", "replace"))
    return next((one_line(line) for line in text.splitlines() if one_line(line)), "")


def _standard_words(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def one_line(text: str) -> str:
    """Return the text as one printable line of at most 500 characters, without tokens."""
    shown = "".join(char if char.isprintable() else " " for char in _JWT.sub("***", text))
    return " ".join(shown.split())[:_MAXIMUM_MESSAGE].rstrip()


def redirect_reason(status: int, location: str, token_uri: str) -> str:
    """Return why a redirect is an error: it is never followed. The text names its host.

    A host that receives the assertion can mint for an hour.

    Args:
        status: the HTTP status, 300 to 399.
        location: the header's value; empty when there was none.
        token_uri: what was asked, for a relative location.
    """
    try:
        target = urlsplit(urljoin(token_uri, location)).netloc if location else ""
    except ValueError:
        target = ""
    # Without a user name: a redirect could carry a password.
    host = one_line(target.rpartition("@")[2])[:255] or "nowhere"
    return f"HTTP {status} redirects to {host}; redirects are refused"
