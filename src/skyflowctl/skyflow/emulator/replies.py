"""Replies as the emulator sends them: JSON with a request id and its own time."""

import json
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from skyflowctl.skyflow.emulator.http_server import HttpReply
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError

_JSON = "application/json"


def headers(now: datetime, request_id: str, content_type: str = _JSON) -> dict[str, str]:
    """Return the headers of every reply; the ``date`` is the emulator's own time."""
    return {
        "content-type": content_type,
        "date": format_datetime(now, usegmt=True),
        "server": "skyflow-emulator",
        "x-request-id": request_id,
    }


def json_reply(
    now: datetime, request_id: str, body: Mapping[str, Any], status: int = 200
) -> HttpReply:
    """Return a reply with a JSON object."""
    raw = json.dumps(body, separators=(",", ":")).encode()
    return HttpReply(status, raw, headers(now, request_id))


def refusal_reply(now: datetime, request_id: str, refusal: ExchangeRefusedError) -> HttpReply:
    """Return a refusal as the documented error object."""
    return json_reply(now, request_id, refusal.body(), refusal.status)
