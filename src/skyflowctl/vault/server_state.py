"""The state of a node by ``sys/health``: each documented status is a separate state.

The state is in the HTTP status, unless the request asked for other codes, and also in the fields
of the body. 429, 472, 473, 474 and 530 are Vault Enterprise's too; OpenBao 2.7.2 knows 200, 429,
501 and 503.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from skyflowctl.vault.errors import (
    DrSecondaryError,
    RemovedFromClusterError,
    SealedError,
    StandbyWithoutLeaderError,
    UninitializedError,
    VaultError,
)


class ServerState(StrEnum):
    """The state of a node; the first three serve requests."""

    ACTIVE = "active"
    STANDBY = "standby"
    PERFORMANCE_STANDBY = "performance_standby"
    DR_SECONDARY = "dr_secondary"
    STANDBY_WITHOUT_LEADER = "standby_without_leader"
    UNINITIALIZED = "uninitialized"
    SEALED = "sealed"
    REMOVED = "removed"


_STATUSES = {
    429: ServerState.STANDBY,
    472: ServerState.DR_SECONDARY,
    473: ServerState.PERFORMANCE_STANDBY,
    474: ServerState.STANDBY_WITHOUT_LEADER,
    501: ServerState.UNINITIALIZED,
    503: ServerState.SEALED,
    530: ServerState.REMOVED,
}
_FIELDS = (
    ("removed_from_cluster", True, ServerState.REMOVED),
    ("initialized", False, ServerState.UNINITIALIZED),
    ("sealed", True, ServerState.SEALED),
    ("replication_dr_mode", "secondary", ServerState.DR_SECONDARY),
    ("ha_connection_healthy", False, ServerState.STANDBY_WITHOUT_LEADER),
    ("performance_standby", True, ServerState.PERFORMANCE_STANDBY),
    ("standby", True, ServerState.STANDBY),
)
_ALWAYS = frozenset({"initialized", "sealed"})
_REFUSALS: Mapping[ServerState, tuple[type[VaultError], str, str]] = {
    ServerState.UNINITIALIZED: (
        UninitializedError,
        "the server is not initialised",
        "initialise it with 'bao operator init'; for the dev stack: 'skyflowctl dev up'",
    ),
    ServerState.SEALED: (
        SealedError,
        "the server is sealed",
        "unseal it, then run the command again; for the dev stack: 'skyflowctl dev up'",
    ),
    ServerState.DR_SECONDARY: (
        DrSecondaryError,
        "the server is a disaster recovery secondary",
        "name a node of the primary cluster; a secondary serves no requests until it is promoted",
    ),
    ServerState.STANDBY_WITHOUT_LEADER: (
        StandbyWithoutLeaderError,
        "the node is a standby that cannot reach its active node",
        "name another node, or restore the connection between the nodes",
    ),
    ServerState.REMOVED: (
        RemovedFromClusterError,
        "the node was removed from its cluster",
        "name a node that is still a member, or add this one to the cluster again",
    ),
}


def is_health(body: Mapping[str, Any] | None) -> bool:
    """Return whether a body is that of ``sys/health``, for any status."""
    fields = [value for name, value in (body or {}).items() if name in _ALWAYS]
    return bool(fields) and all(isinstance(value, bool) for value in fields)


def server_state(status: int, body: Mapping[str, Any]) -> ServerState:
    """Return a node's state from the status and the body of its ``sys/health``."""
    if status in _STATUSES:
        return _STATUSES[status]
    fields = {"initialized": False, **body}
    said = (state for name, value, state in _FIELDS if fields.get(name) == value)
    return next(said, ServerState.ACTIVE)


def refuse_not_serving(state: ServerState) -> None:
    """Raise an error if a node in this state does not serve requests.

    Raises:
        VaultError: it does not; each state has its own class.
    """
    if state in _REFUSALS:
        kind, summary, fix = _REFUSALS[state]
        raise kind(summary, why="its own sys/health says so", fix=fix, path="sys/health")
