"""A plan as a value: the ordered actions from the live state to the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.planner.identity import CredentialIdentity

LEFT_OUT = frozenset({"ctx-not-enforced", "owned-by-other", "path-in-use", "type-differs"})
"""Codes of warnings that say: nothing may be done to this mount. An apply refuses as a whole."""

UNREADABLE = frozenset({"engine-unreadable"})
"""Codes of warnings that say: nobody can tell what this mount needs. The others go on."""


class ActionType(StrEnum):
    """What an action does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    REPLACE_CREDENTIAL = "replace_credential"
    PLUGIN_UPGRADE = "plugin_upgrade"


class Kind(StrEnum):
    """What an action changes. The order is the order of the stages of an apply.

    Roles come before the config, so that the engine proves a new credential for
    every role before it takes it.
    """

    AUDITED_HEADER = "audited_header"
    MOUNT = "mount"
    ROLE = "role"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Change:
    """One field's value before and after; None stands for absent. Never a secret:
    a credential appears as its identity (``client_id``, ``key_id``)."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a plan.

    Args:
        action: what it does.
        kind: to what.
        mount: the manifest's name of the mount; empty for server-wide kinds.
        path: the API path that is written, such as ``skyflow/order/roles/order-producer``.
        changes: field by field, for people and for JSON.
        body: the fields to send (a patch), without any secret.
        cas: the version that must still be live; 0: it must not exist; None: no check.
        needs_credential: the mount's credential is written; a ``replace_credential``
            without it finishes the rotation that made the credential live.
        credential: which one the plan saw; another one is refused. None: it could not
            be resolved then.
    """

    action: ActionType
    kind: Kind
    mount: str
    path: str
    changes: tuple[Change, ...]
    body: Mapping[str, Any] = field(default_factory=dict)
    cas: int | None = None
    needs_credential: bool = False
    credential: CredentialIdentity | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions, and what the reader should know besides.

    ``unchanged`` counts the managed objects that are already as the manifest says.
    """

    actions: tuple[Action, ...]
    warnings: tuple[Problem, ...]
    unchanged: int

    @property
    def empty(self) -> bool:
        """True when there is nothing to do."""
        return not self.actions

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The warnings for which an apply refuses to begin."""
        return tuple(warning for warning in self.warnings if warning.code in LEFT_OUT)

    @property
    def unreadable(self) -> tuple[Problem, ...]:
        """The warnings for which an apply is not complete."""
        return tuple(warning for warning in self.warnings if warning.code in UNREADABLE)

    def summary(self) -> dict[str, int]:
        """Return the counts ``create``, ``update``, ``delete`` and ``unchanged``."""
        counts = {"create": 0, "update": 0, "delete": 0}
        for action in self.actions:
            name = action.action.value
            counts[name if name in counts else "update"] += 1
        return counts | {"unchanged": self.unchanged}
