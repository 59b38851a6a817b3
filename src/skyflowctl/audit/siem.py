"""Rows of ``audit tail`` as events of three formats that SIEMs read, one on each line.

OCSF 1.3.0, class API Activity (https://schema.ocsf.io/1.3.0/classes/api_activity); Elastic Common
Schema 8.11; ArcSight Common Event Format 0. Every value may come from a caller and is escaped as
its format demands. A hashed ctx stays a hash.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from skyflowctl.audit.escape import visible
from skyflowctl.clock import parse_rfc3339
from skyflowctl.version import __version__

OCSF_VERSION = "1.3.0"
ECS_VERSION = "8.11.0"
_PRODUCT = "skyflowctl"
_API_ACTIVITY = 6003
_READ, _OTHER = 2, 99
_SUCCESS, _FAILURE, _UNKNOWN = 1, 2, 0
_CAPTIONS = {_SUCCESS: "Success", _FAILURE: "Failure", _UNKNOWN: "Unknown"}
_STATUS = {"granted": _SUCCESS, "unknown": _UNKNOWN, "pending": _OTHER}
_NOT_ALLOWED = {"denied", "refused"}
_INFORMATIONAL, _MEDIUM = 1, 3
_ACTIONS = {"creds": "token-requested", "sign": "data-tokens-signed"}
_NAMES = {"creds": "Skyflow token requested", "sign": "Skyflow data tokens signed"}
_CEF_SEVERITY = {"granted": 2, "denied": 6}

Row = Mapping[str, Any]


def ocsf_line(row: Row) -> str:
    """Return a row as an OCSF event of the class API Activity."""
    activity = _READ if row["kind"] == "creds" else _OTHER
    status = _STATUS.get(row["outcome"], _FAILURE)
    address = _address(row)
    event = {
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": _API_ACTIVITY,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": "Read" if activity == _READ else "Sign",
        "type_uid": _API_ACTIVITY * 100 + activity,
        "time": _milliseconds(row),
        "severity_id": _MEDIUM if row["outcome"] == "denied" else _INFORMATIONAL,
        "status_id": status,
        # The schema's word for the number; only Other has one of the source's own.
        "status": _CAPTIONS.get(status, row["outcome"]),
        "status_detail": row["error"],
        "metadata": {
            "version": OCSF_VERSION,
            "uid": row["request_id"],
            "product": {"name": _PRODUCT, "vendor_name": _PRODUCT, "version": __version__},
        },
        "actor": {"user": {"name": row["app"] or "unknown", **_user_type(row)}},
        "api": {
            "operation": _ACTIONS[row["kind"]],
            "service": {"name": row["mount"]},
            "request": {"uid": row["request_id"]},
        },
        "src_endpoint": {"ip": address} if address else {"name": "unknown"},
        "resources": [{"name": _path(row), "type": "skyflow role"}],
        "unmapped": {**_extras(row), "outcome": row["outcome"]},
    }
    return _json(event)


def ecs_line(row: Row) -> str:
    """Return a row as an event of the Elastic Common Schema."""
    status = _STATUS.get(row["outcome"], _FAILURE)
    address = _address(row)
    outcome = {_SUCCESS: "success", _FAILURE: "failure"}.get(status, "unknown")
    allowed = ["allowed"] if status == _SUCCESS else []
    # A token service that was not reached is a failure, and denied nothing.
    denied = ["denied"] if row["outcome"] in _NOT_ALLOWED else []
    event = {
        "@timestamp": row["time"],
        "ecs": {"version": ECS_VERSION},
        "event": {
            "kind": "event",
            "category": ["api"],
            "type": ["access", *allowed, *denied],
            "action": _ACTIONS[row["kind"]],
            "outcome": outcome,
            "id": row["request_id"],
            "module": _PRODUCT,
            "dataset": f"{_PRODUCT}.audit",
            "reason": row["error"],
        },
        "user": {"name": row["app"]},
        "source": {"ip": address} if address else {},
        "observer": {"name": row["node"], "product": _PRODUCT, "version": __version__},
        "url": {"path": f"/v1/{_path(row)}"},
        # Labels are keywords: every value is a text.
        "labels": {name: _text(value) for name, value in _extras(row).items()},
    }
    return _json(event)


def cef_line(row: Row) -> str:
    """Return a row as a CEF event."""
    severity = _CEF_SEVERITY.get(row["outcome"], 4)
    head = (_PRODUCT, _PRODUCT, __version__, row["kind"], _NAMES[row["kind"]], str(severity))
    extras = _extras(row)
    named = ("ctx", "claimed_app", "key_id", "run_id", "auth", "role")
    fields: list[tuple[str, Any]] = [
        ("rt", str(_milliseconds(row))),
        ("suser", row["app"]),
        ("src", _address(row)),
        ("dvchost", row["node"]),
        ("request", f"/v1/{_path(row)}"),
        ("act", _ACTIONS[row["kind"]]),
        ("outcome", row["outcome"]),
        ("reason", row["error"]),
        ("externalId", row["request_id"]),
    ]
    for number, name in enumerate(named, 1):
        if value := extras.get(name):
            fields += [(f"cs{number}Label", name), (f"cs{number}", value)]
    extension = " ".join(f"{name}={_extension(_text(value))}" for name, value in fields if value)
    return f"CEF:0|{'|'.join(map(_header, head))}|{extension}"


LINES: Mapping[str, Callable[[Row], str]] = {
    "ocsf": ocsf_line,
    "ecs": ecs_line,
    "cef": cef_line,
}


def _extras(row: Row) -> dict[str, Any]:
    """Return what a row has and no format has a field for."""
    names = ("auth", "claimed_app", "ctx", "ctx_hashed", "key_id", "node", "role", "run_id")
    more = ("approved_by", "execution", "unwrapped_by", "wrapped")
    return {name: row[name] for name in (*names, *more) if row[name] not in (None, [], "")}


def _user_type(row: Row) -> dict[str, Any]:
    """Return the type of OCSF's user: the login method, which the schema has no number for."""
    if not row["auth"]:
        return {"type": _CAPTIONS[_UNKNOWN], "type_id": _UNKNOWN}
    return {"type": row["auth"], "type_id": _OTHER}


def _path(row: Row) -> str:
    return f"{row['mount']}/{row['kind']}/{row['role']}"


def _address(row: Row) -> str | None:
    """Return the peer's address, if it is one; both schemas take nothing else there."""
    try:
        return str(ip_address(row["remote_address"] or ""))
    except ValueError:
        return None


def _milliseconds(row: Row) -> int:
    moment: datetime = parse_rfc3339(row["time"])
    return round(moment.timestamp() * 1000)


def _json(event: Mapping[str, Any]) -> str:
    """Return compact JSON in ASCII, which has no line end; absent values are left out."""
    return json.dumps(_present(event), separators=(",", ":"), allow_nan=False)


def _present(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    kept = {name: _present(one) for name, one in value.items()}
    return {name: one for name, one in kept.items() if one is not None and one != {}}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _header(text: str) -> str:
    """Escape a field of the header, which takes no line end."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|")


def _extension(text: str) -> str:
    """Escape a value of the extension; other control characters are written out."""
    return "".join(_LINE_ENDS.get(each) or _escaped(visible(each)) for each in text)


_LINE_ENDS = {"\n": "\\n", "\r": "\\r"}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("=", "\\=")
