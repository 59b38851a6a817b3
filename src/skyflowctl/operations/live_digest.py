"""Digests of the live state that a plan was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.operations.plan import PlanResult
from skyflowctl.vault.approvals import body_digest

_VOLATILE = frozenset({"raw", "process"})
"""Fields of the live state that may differ although nobody changed anything."""
_PLACES = {
    "mounts": ("sys/mounts/", ""),
    "engines": ("sys/mounts/", ""),
    "audited_headers": ("sys/config/auditing/request-headers/",),
    "policies": ("sys/policies/acl/",),
    "secrets": ("",),
}
"""The parts of the live state, and where the objects of each are written."""


def live_digest(planned: PlanResult) -> str:
    """Return the SHA-256 of the live state on which a plan depends.

    That is: its mounts with their configs and roles, the policies, the secrets' versions, and
    the audited headers; without what the server counts or measures.
    """
    return body_digest(_as_json(_parts(planned)))


def untouched_digest(planned: PlanResult, actions: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the same without the mounts and other objects that actions change.

    Args:
        planned: the plan that read the live state.
        actions: as ``plan -o json`` has them.
    """
    touched = [f"{one['path']}/".lower() for one in actions]
    names = {one["mount"] for one in actions}
    paths = {mount.path for mount in planned.mounts if mount.name in names}

    def is_left(part: str, key: str) -> bool:
        places = tuple(f"{place}{key}/".lower() for place in _PLACES[part])
        return key not in paths and not any(one.startswith(places) for one in touched)

    left = {
        part: {key: one for key, one in (found or {}).items() if is_left(part, key)}
        for part, found in _parts(planned).items()
    }
    return body_digest(_as_json(left))


def _parts(planned: PlanResult) -> Mapping[str, Mapping[str, Any] | None]:
    live = planned.live
    paths = {mount.path for mount in planned.mounts} | set(live.engines)
    return {
        "mounts": {path: one for path, one in live.mounts.items() if path in paths},
        "engines": live.engines,
        "audited_headers": live.audited_headers,
        "policies": live.access.policies,
        "secrets": live.access.secrets,
    }


def _as_json(value: Any) -> Any:
    """Return a part of the live state as data for a digest."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            one.name: _as_json(getattr(value, one.name))
            for one in fields(value)
            if one.name not in _VOLATILE
        }
    if isinstance(value, Mapping):
        return {str(key): _as_json(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(str(one) for one in value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_as_json(one) for one in value]
    return rfc3339(value) if isinstance(value, datetime) else value
