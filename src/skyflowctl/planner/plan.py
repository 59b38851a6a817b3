"""A plan as a value: the ordered actions from the live state to the manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.vault.live import SERVER_FILE

LEFT_OUT = frozenset(
    {
        "certificate-missing",
        "ctx-not-enforced",
        "login-method-missing",
        "quota-path-taken",
        "moved-both-live",
        "not-readable",
        "nothing-to-keep",
        "owned-by-other",
        "path-in-use",
        "revoked-key",
        "signer-missing",
        "type-differs",
        "would-forget",
    }
)
"""Codes of warnings that an object must not be changed. An apply then refuses the whole plan."""

NEEDS_ADOPTION = "needs-adoption"
"""The code of warnings about objects that this manifest did not create. An apply then refuses
the whole plan."""

TAKES_OVER = "takes-over"
"""The code of the same warning if the caller named the object in ``--adopt``."""

NEEDS_MOVE = "needs-allow-move"
"""The code of warnings about mounts to be moved without ``--allow-move``. An apply then refuses
the whole plan."""

MOVES = "moves-mount"
"""The code of the same warning if the caller named the mount in ``--allow-move``."""

PRUNE_REFUSED = frozenset(
    {
        "prune-contents-unknown",
        "prune-empty-manifest",
        "prune-not-empty",
        "prune-not-made-here",
        "prune-other-files",
        "prune-protected",
        "prune-too-many",
    }
)
"""Codes of warnings that a prune is unsafe. Plan and apply then refuse the whole plan."""

ACCESS_UNREADABLE = "access-unreadable"
NOT_READABLE = "not-readable"
TYPE_DIFFERS = "type-differs"

UNREADABLE = frozenset(
    {ACCESS_UNREADABLE, "credential-invalid", "credential-unresolved", "engine-unreadable"}
)
"""Codes of warnings that it is unknown what an object needs. The others are applied."""


_MOUNTS = "sys/mounts/"


def own_path(path: str) -> str:
    """Return the path by which a person names an object: an engine's own."""
    return path.strip("/").removeprefix(_MOUNTS)


def is_named(path: str, allowed: Iterable[str]) -> bool:
    """Whether the caller named the object in ``--allow-destroy``; of mounts and engines with
    ``sys/mounts/`` or without, of all objects with slashes at the ends or without."""
    return own_path(path) in map(own_path, allowed)


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What a prune may delete.

    Args:
        below: paths of mounts; only these and their roles are deleted. None: no restriction.
        allow_destroy: paths of mounts and of adopted objects that may be deleted, as
            :func:`is_named` takes them.
        allow_large: whether it may delete a large part of a kind.
        allow_other_files: whether mounts may be from another set of manifest files.
    """

    below: frozenset[str] | None = None
    allow_destroy: frozenset[str] = frozenset()
    allow_large: bool = False
    allow_other_files: bool = False

    def covers(self, mount_path: str) -> bool:
        """Whether the prune looks at a mount."""
        return self.below is None or mount_path in self.below

    @property
    def own_paths(self) -> frozenset[str]:
        """The paths of ``allow_destroy``, each as a person names it."""
        return frozenset(map(own_path, self.allow_destroy))

    def names(self, path: str) -> bool:
        """Whether the caller named the object in ``--allow-destroy``."""
        return is_named(path, self.allow_destroy)


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The caller's options for a plan.

    Args:
        only: names of the mounts to plan; None: all mounts of the manifest.
        replace_credential: mounts whose key is written although it is unknown whether it was
            live before, or although the mount was cut off.
        allow_revoked_key: key ids that may be written although a cut-off revoked them.
        adopt: paths of objects to take over that this manifest did not create.
        adopt_from: ids of manifests whose objects may be taken over.
        allow_move: former or new paths of the mounts that may be moved.
        prune: what may be deleted; None: nothing.
    """

    only: frozenset[str] | None = None
    replace_credential: frozenset[str] = frozenset()
    allow_revoked_key: frozenset[str] = frozenset()
    adopt: frozenset[str] = frozenset()
    adopt_from: frozenset[str] = frozenset()
    allow_move: frozenset[str] = frozenset()
    prune: PruneOptions | None = None


class ActionType(StrEnum):
    """What an action does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    MOVE = "move"
    REPLACE_CREDENTIAL = "replace_credential"
    PLUGIN_UPGRADE = "plugin_upgrade"


class ObjectKind(StrEnum):
    """The kind of object that an action changes, in the order of the stages of an apply.

    Roles precede the config, so that the engine verifies a new credential with every role
    before it accepts it.
    """

    AUDIT_DEVICE = "audit_device"
    AUDITED_HEADER = "audited_header"
    NAMESPACE = "namespace"
    MOUNT = "mount"
    ROLE = "role"
    CONFIG = "config"
    ENGINE = "engine"
    OBJECT = "object"
    SECRET = "secret"  # noqa: S105 - a kind
    POLICY = "policy"
    LOGIN_METHOD = "login_method"
    LOGIN_CONFIG = "login_config"
    LOGIN_ROLE = "login_role"
    GROUP = "group"
    QUOTA = "quota"


MOUNT_KINDS = frozenset({ObjectKind.MOUNT, ObjectKind.ROLE, ObjectKind.CONFIG})
"""The kinds of objects that belong to one mount."""


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
        kind: the kind of object that it changes.
        mount: the manifest's name of the mount; empty for server-wide kinds.
        path: the API path that is written, such as ``skyflow/order/roles/order-producer``.
        changes: field by field, for people and for JSON.
        body: the fields to send (a patch), without any secret.
        cas: the version that must still be live; 0: it must not exist; None: no check.
            A DELETE has no check-and-set, so the version is read right before it.
        needs_credential: whether the mount's credential is written. A ``replace_credential``
            without it finishes the rotation that made the credential live.
        credential: the credential that the plan saw; apply refuses any other. None: it could
            not be resolved at that time.
        allow_revoked: whether it may replace a live one although a cut-off revoked it.
        after: paths of actions; if one of them is in the plan and is not done, this one is
            skipped.
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
    after: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as ``plan -o json`` has it, without what only an apply needs."""
        return {
            "action": self.action.value,
            "kind": self.kind.value,
            "mount": self.mount,
            "path": self.path,
            "changes": [
                {"field": one.field, "before": one.before, "after": one.after}
                for one in self.changes
            ],
        }

    @property
    def is_by_path(self) -> bool:
        """Whether its object is read and written by its path alone."""
        return "read_path" in self.body

    @property
    def brings_credential(self) -> bool:
        """Whether the mount has a credential afterwards, sent from here or read by the server."""
        return self.needs_credential or SERVER_FILE in self.body


class DriftKind(StrEnum):
    """A kind of difference between server and manifest that no action resolves."""

    UNDECLARED = "undeclared"
    REVOKED = "revoked"
    OPEN_ROTATION = "open_rotation"
    MOVED = "moved"
    DELETED = "deleted"


SKIPPED = frozenset({DriftKind.REVOKED, DriftKind.MOVED, DriftKind.DELETED})
"""Kinds of drift for which an apply skips a whole mount or secret."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference that a person must resolve; an apply never does.

    Args:
        kind: the kind of drift.
        mount: the manifest's name of the mount; empty for a mount that it does not declare.
        path: the path of the mount or role.
        since: RFC 3339; empty if the server does not return it.
        by: who caused it; empty if the server does not return it.
        reason: why, if known; else empty.
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
    """The desired fields of a mount; those of ``options`` have dotted names."""

    path: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions, with warnings and drift.

    Args:
        actions: in the order of the stages, then the deletions in reverse order.
        warnings: facts that no action changes.
        unchanged: the number of managed objects that already match the manifest.
        drift: differences that a person must resolve.
        settings: by mount name, the desired settings of every mount of the plan.
        not_compared: by mount name, or by path, the number of objects that were not compared:
            the mount is skipped or left out, or a part of it could not be read.
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
        """True if the server matches the manifest: no action, no drift, nothing unread."""
        return not (self.actions or self.drift or self.left_out or self.unreadable)

    @property
    def skipped(self) -> tuple[Drift, ...]:
        """The drift for which an apply skips a mount or a secret of the manifest."""
        return tuple(one for one in self.drift if one.kind in SKIPPED)

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The warnings for which an apply refuses to start."""
        return tuple(warning for warning in self.warnings if warning.code in LEFT_OUT)

    @property
    def unadopted(self) -> tuple[Problem, ...]:
        """The warnings about objects that would be taken over without ``--adopt``."""
        return tuple(warning for warning in self.warnings if warning.code == NEEDS_ADOPTION)

    @property
    def unmoved(self) -> tuple[Problem, ...]:
        """The warnings about mounts that would be moved without ``--allow-move``."""
        return tuple(warning for warning in self.warnings if warning.code == NEEDS_MOVE)

    @property
    def prune_refused(self) -> tuple[Problem, ...]:
        """The warnings for which a prune is refused."""
        return tuple(warning for warning in self.warnings if warning.code in PRUNE_REFUSED)

    @property
    def deletes(self) -> tuple[Action, ...]:
        """The deletions, in reverse order of the stages."""
        return tuple(one for one in self.actions if one.action is ActionType.DELETE)

    @property
    def unreadable(self) -> tuple[Problem, ...]:
        """The warnings for which an apply is incomplete."""
        return tuple(warning for warning in self.warnings if warning.code in UNREADABLE)

    def summary(self) -> dict[str, int]:
        """Return how many objects will change, are unchanged, have drifted or were not compared."""
        counts = {"create": 0, "update": 0, "delete": 0}
        for action in self.actions:
            name = action.action.value
            counts[name if name in counts else "update"] += 1
        return counts | {
            "unchanged": self.unchanged,
            "drift": len(self.drift),
            "not_compared": sum(self.not_compared.values()),
        }
