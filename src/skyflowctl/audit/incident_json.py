"""Converts an incident to JSON, and to tables for CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.audit.as_json import change_json, time_json
from skyflowctl.audit.evidence import Table
from skyflowctl.audit.incident import Incident, MountIncident, TokenFigures
from skyflowctl.audit.incident_gaps import Gap
from skyflowctl.audit.model import TokenRequest
from skyflowctl.audit.query import full_mount
from skyflowctl.clock import rfc3339

TOKEN_COLUMNS = (
    *("time", "app", "claimed_app", "auth", "mount", "kind", "role", "ctx", "ctx_hashed"),
    *("outcome", "alive_until", "alive_until_from", "key_id", "key_inferred", "reused"),
    *("wrapped", "unwrapped_by", "approved_by", "execution", "remote_address", "run_id"),
    *("request_id", "node"),
)
_GROUP_COLUMNS = (
    *("mount", "kind", "role", "app", "auth", "tokens", "distinct_ctx", "more_ctx", "first"),
    *("last", "alive_until", "end_unknown"),
)
_ACTION_COLUMNS = (
    *("time", "mount", "kind", "outcome", "key_id", "app", "auth", "run_id", "request_id"),
    *("node", "name", "reason", "error"),
)


def token_json(one: TokenRequest, *, inferred: bool = False) -> dict[str, Any]:
    """Return a token as JSON; ``inferred``: its key follows from its time alone."""
    return {
        "time": rfc3339(one.time),
        "app": one.caller.app or None,
        "claimed_app": one.claimed_app or None,
        "auth": one.caller.auth or None,
        "mount": full_mount(one),
        "kind": one.path,
        "role": one.role,
        "ctx": one.ctx or None,
        "ctx_hashed": one.ctx_hashed,
        "outcome": one.outcome.value,
        "alive_until": time_json(one.expires_at),
        "alive_until_from": one.expiry_from or None,
        "key_id": one.key_id or None,
        "key_inferred": inferred,
        "reused": one.reused,
        "wrapped": one.wrapped,
        "unwrapped_by": one.unwrapped_by or None,
        "approved_by": list(one.approved_by),
        "execution": one.execution or None,
        "remote_address": one.remote_address or None,
        "run_id": one.run_id or None,
        "request_id": one.request_id,
        "node": one.node,
    }


def incident_json(incident: Incident, unknown: Sequence[Gap]) -> dict[str, Any]:
    """Return all that was found, and what is not known."""
    total = incident.total
    return {
        "subject": {"kind": incident.subject.kind.value, "value": incident.subject.value},
        "summary": {
            **_figures(total),
            "signatures": total.signatures,
            "reused": total.reused,
            "apps": len({(key[3], key[4]) for key, _ in incident.groups}),
            "mounts": len(incident.mounts),
            "listed": len(incident.tokens),
        },
        "mounts": [_mount(one) for one in incident.mounts],
        "groups": [
            {
                **dict(zip(("mount", "kind", "role"), key[:3], strict=True)),
                "app": key[3] or None,
                "auth": key[4] or None,
                **_figures(figures),
                "distinct_ctx": len(figures.ctxs),
                "more_ctx": figures.more_ctx,
            }
            for key, figures in incident.groups
        ],
        "tokens": [
            token_json(one, inferred=one.request_id in incident.inferred) for one in incident.tokens
        ],
        "attempts": [
            {
                "outcome": one.outcome.value,
                "count": one.count,
                "first": rfc3339(one.first),
                "last": rfc3339(one.last),
            }
            for one in incident.attempts
        ],
        "actions": [change_json(one) for one in incident.actions],
        "unknown": [{"code": code, "text": text} for code, text in unknown],
    }


def _figures(one: TokenFigures) -> dict[str, Any]:
    return {
        "tokens": one.tokens,
        "first": time_json(one.first),
        "last": time_json(one.last),
        "alive_until": time_json(one.alive_until),
        "end_unknown": one.end_unknown,
    }


def _mount(one: MountIncident) -> dict[str, Any]:
    return {
        "mount": one.mount,
        **_figures(one.figures),
        "ended_by": change_json(one.ended) if one.ended else None,
        "after_end": one.after_end,
    }


def incident_tables(data: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the result of :func:`incident_json` as tables, except the tokens."""
    return (
        _table("groups", data["groups"], _GROUP_COLUMNS),
        _table("actions", data["actions"], _ACTION_COLUMNS),
    )


def _table(name: str, rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...]) -> Table:
    return Table(name, columns, [[row[column] for column in columns] for row in rows])
