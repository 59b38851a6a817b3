"""Converts what was read from the logs to JSON, with the same field names in every command."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from skyflowctl.audit.ctx import is_hash
from skyflowctl.audit.model import Counts, CredentialChange
from skyflowctl.audit.sources import Input
from skyflowctl.clock import rfc3339


def time_json(time: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC."""
    return None if time is None else rfc3339(time)


def inputs_json(inputs: Iterable[Input]) -> list[dict[str, Any]]:
    """Return the files that were read: names as given, sizes, digests."""
    return [
        {"name": one.name, "bytes": one.bytes} | ({"sha256": one.sha256} if one.sha256 else {})
        for one in inputs
    ]


def counts_json(counts: Counts) -> dict[str, Any]:
    """Return the counts of what was read, and of what could not be used."""
    return {
        "files": counts.files,
        "bytes": counts.bytes,
        "lines": counts.lines,
        "requests": counts.requests,
        "damaged": dict(counts.damaged),
        "duplicates": counts.duplicates,
        "forwards": counts.forwards,
        "unpaired": counts.unpaired,
        **unread_json(counts),
    }


def unread_json(counts: Counts) -> dict[str, Any]:
    """Return how many lines were unwrapped, and how many could not be read and from which time."""
    unread = counts.unread
    return {
        "unwrapped": dict(counts.unwrapped),
        "unread": {
            "lines": unread.lines,
            "first": time_json(unread.first),
            "last": time_json(unread.last),
        },
    }


def change_json(change: CredentialChange) -> dict[str, Any]:
    """Return one change of a mount's credential."""
    return {
        "time": rfc3339(change.time),
        "mount": change.mount or None,
        "kind": change.kind.value,
        "outcome": change.outcome.value,
        "key_id": change.key_id or None,
        "app": change.caller.app or None,
        "auth": change.caller.auth or None,
        "run_id": change.run_id or None,
        "request_id": change.request_id,
        "node": change.node,
        "name": change.name or None,
        "reason": change.reason or None,
        "reason_hashed": is_hash(change.reason),
        "error": change.error or None,
        "changes": [
            {"field": one.field, "before": one.before, "after": one.after} for one in change.fields
        ],
    }
