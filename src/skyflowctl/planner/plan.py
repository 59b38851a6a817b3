"""A plan as a value: the ordered actions from the live state to the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.vault.live import SERVER_FILE

LEFT_OUT = frozenset(
    {"ctx-not-enforced", "owned-by-other", "path-in-use", "revoked-key", "type-differs"}
)
"""Codes of warnings that say: nothing may be done to this mount. An apply refuses as a whole."""

NEEDS_ADOPTION = "needs-adoption"
"""The code of warnings about objects that somebody else made. An apply refuses as a whole."""

TAKES_OVER = "takes-over"
"""The code of the same where the caller named the object in ``--adopt``."""

UNREADABLE = frozenset({"credential-invalid", "credential-unresolved", "engine-unreadable"})
"""Codes of warnings that say: nobody can tell what this mount needs. The others go on."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the caller asks of a plan besides the manifest.

    Args:
        only: names of the mounts to plan; None: all of the manifest.
        replace_credential: mounts whose key is written although the engine cannot tell
            whether it was live before, or although the mount was cut off.
        allow_revoked_key: key ids that may be written although they were cut off.
        adopt: paths of objects to take over that this manifest did not make.
        adopt_from: ids of manifests whose objects may be taken over.
    """

    only: frozenset[str] | None = None
    replace_credential: frozenset[str] = frozenset()
    allow_revoked_key: frozenset[str] = frozenset()
    adopt: frozenset[str] = frozenset()
    adopt_from: frozenset[str] = frozenset()


class ActionType(StrEnum):
    """What an action does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    REPLACE_CREDENTIAL = "replace_credential"
    PLUGIN_UPGRADE = "plugin_upgrade"


class ObjectKind(StrEnum):
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
    """One field's value before and after; None means absent. Never a secret:
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
        allow_revoked: it may replace a live one although a cut-off revoked it.
    """

    action: ActionType
    kind: ObjectKind
    mount: str
    path: str
    changes: tuple[Change, ...]
    body: Mapping[str, Any] = field(default_factory=dict)
    cas: int | None = None
    needs_credential: bool = False
    credential: CredentialId | None = None
    allow_revoked: bool = False

    @property
    def brings_credential(self) -> bool:
        """Whether the mount has a credential after it, sent from here or read by the server."""
        return self.needs_credential or SERVER_FILE in self.body


class DriftKind(StrEnum):
    """How the server differs from the manifest where no action mends it."""

    UNDECLARED = "undeclared"
    REVOKED = "revoked"
    OPEN_ROTATION = "open_rotation"
    MOVED = "moved"


SKIPPED = frozenset({DriftKind.REVOKED, DriftKind.MOVED})
"""Kinds of drift for which an apply leaves the whole mount alone."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference that a person has to settle; an apply never does.

    Args:
        kind: what it is.
        mount: the manifest's name of the mount; empty for a mount that it does not name.
        path: of the mount or role.
        since: RFC 3339; empty when the server does not say.
        by: who caused it, as far as the server says; empty when it does not.
        reason: why, as far as it is known; may be empty.
        fix: what to do, in one line.
    """

    kind: DriftKind
    mount: str
    path: str
    since: str = ""
    by: str = ""
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class MountSettings:
    """What a mount's own fields should be, those of ``options`` under dotted names."""

    path: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions, and what the reader should know besides.

    Args:
        actions: in the order of the stages.
        warnings: what no action changes.
        unchanged: how many managed objects are already as the manifest says.
        drift: what a person has to settle.
        settings: by mount name, what every mount of the plan should be afterwards.
        not_compared: by mount name, how many of its objects nothing can be said of: the
            mount is skipped or left out, or a part of it could not be read.
    """

    actions: tuple[Action, ...]
    warnings: tuple[Problem, ...]
    unchanged: int
    drift: tuple[Drift, ...] = ()
    settings: Mapping[str, MountSettings] = field(default_factory=dict)
    not_compared: Mapping[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True when there is nothing to do."""
        return not self.actions

    @property
    def clean(self) -> bool:
        """True when the server is as the manifest says: no action, no drift, nothing unread."""
        return not (self.actions or self.drift or self.left_out or self.unreadable)

    @property
    def skipped(self) -> tuple[Drift, ...]:
        """The drift for which an apply leaves a mount of the manifest alone."""
        return tuple(one for one in self.drift if one.kind in SKIPPED)

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The warnings for which an apply refuses to begin."""
        return tuple(warning for warning in self.warnings if warning.code in LEFT_OUT)

    @property
    def unadopted(self) -> tuple[Problem, ...]:
        """The warnings about objects that would be taken over without leave."""
        return tuple(warning for warning in self.warnings if warning.code == NEEDS_ADOPTION)

    @property
    def unreadable(self) -> tuple[Problem, ...]:
        """The warnings for which an apply is not complete."""
        return tuple(warning for warning in self.warnings if warning.code in UNREADABLE)

    def summary(self) -> dict[str, int]:
        """Return how many objects are to be changed, are right, drifted or were not compared."""
        counts = {"create": 0, "update": 0, "delete": 0}
        for action in self.actions:
            name = action.action.value
            counts[name if name in counts else "update"] += 1
        return counts | {
            "unchanged": self.unchanged,
            "drift": len(self.drift),
            "not_compared": sum(self.not_compared.values()),
        }
