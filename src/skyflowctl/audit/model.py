"""What an audit log says, as frozen values. Everything in them may have been written by a caller.

Times are aware UTC datetimes. Texts are as the server wrote them: whoever shows them
escapes them for the place where they are shown.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RequestOutcome(StrEnum):
    """How a request ended."""

    GRANTED = "granted"
    DENIED = "denied"
    """The server's access rules said no."""
    REFUSED = "refused"
    """The engine or Skyflow said no: a broken ctx rule, an unknown role, a dead key."""
    FAILED = "failed"
    """Nobody said no, and there is no token: unreachable, timed out."""
    UNKNOWN = "unknown"
    """The log holds no response."""
    CONFLICT = "conflict"
    """Only of a change: what it was to change is no longer, or not, as the caller assumed."""
    PENDING = "pending"
    """A control group parked it until somebody else approves. Each execution after that is
    a request of its own, under the same id."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, as the server knows it.

    Args:
        app: the login's own name: the AppRole's role, the user, else the display name.
        auth: how it logged in (``approle``, ``userpass``, ``token`` …); empty: not known.
        display_name: as the entry has it.
        entity_id: empty for none.
        accessor: of the token, hashed as in the log; empty for none (a batch token).
        policies: of the token.
    """

    app: str
    auth: str
    display_name: str = ""
    entity_id: str = ""
    accessor: str = ""
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request for a Skyflow token: a row of ``audit who``.

    Args:
        time: of the request.
        caller: who asked.
        claimed_app: the header Application-Source: a claim, never an identity.
        mount: path of the mount, without a trailing slash.
        role: the engine's role.
        ctx: as the log has it: plain, hashed, or a flat object as JSON text; empty: none.
        ctx_hashed: ``ctx`` is a hash (or an object with hashes in it).
        outcome: how it ended.
        error: the response's own words; empty for none, or when they are hashed.
        request_id: the server's.
        node: the stream that it was read from.
        run_id: of skyflowctl; empty for any other client.
        key_id: the Skyflow key that minted; empty when there is no token.
        remote_address: the peer.
        wrapped: the token was handed out behind a wrapping token.
        unwrapped_by: who unwrapped it, as far as the log tells; empty: nobody yet.
        namespace: its id or path; empty for the root.
        operation: ``read`` or ``update``, as an access rule would name it.
        ctx_forms: every form in which the devices wrote this ctx (each device hashes it
            in its own way); for matching. Empty for none.
        token_hashes: of the bearer, as each device hashed it; of a wrapped one those that
            its unwrap shows.
        granted_by: names of the policies that allowed it.
        client_tokens: the server's token that asked, as each device hashed it.
        approved_by: who let a parked request pass, as far as the log tells; empty: it was
            not parked.
    """

    time: datetime
    caller: Caller
    claimed_app: str
    mount: str
    role: str
    ctx: str
    ctx_hashed: bool
    outcome: RequestOutcome
    error: str
    request_id: str
    node: str
    run_id: str = ""
    key_id: str = ""
    remote_address: str = ""
    wrapped: bool = False
    unwrapped_by: str = ""
    namespace: str = ""
    operation: str = "read"
    ctx_forms: tuple[str, ...] = ()
    token_hashes: tuple[str, ...] = ()
    granted_by: tuple[str, ...] = ()
    client_tokens: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()


class ChangeKind(StrEnum):
    """What was done: to a mount's credential, or to something else that tokens rest on."""

    WRITE = "write"
    ROTATION_OPENED = "rotation-opened"
    ROTATION_WRITTEN = "rotation-written"
    ROTATION_COMMITTED = "rotation-committed"
    ROLLBACK = "rollback"
    KEPT_DESTROYED = "kept-destroyed"
    REVOKED = "revoked"
    ROLE_WRITTEN = "role-written"
    ROLE_DELETED = "role-deleted"
    MOUNT_ENABLED = "mount-enabled"
    MOUNT_DISABLED = "mount-disabled"
    MOUNT_TUNED = "mount-tuned"
    MOUNT_MOVED = "mount-moved"
    POLICY_WRITTEN = "policy-written"
    POLICY_DELETED = "policy-deleted"
    PLUGIN_REGISTERED = "plugin-registered"
    PLUGIN_REMOVED = "plugin-removed"
    PLUGIN_RELOADED = "plugin-reloaded"
    AUDIT_DEVICE_ENABLED = "audit-device-enabled"
    AUDIT_DEVICE_DISABLED = "audit-device-disabled"
    SNAPSHOT_RESTORED = "snapshot-restored"
    ROOT_TOKEN_GENERATED = "root-token-generated"  # noqa: S105 - a kind of change
    ROOT_TOKEN_USED = "root-token-used"  # noqa: S105 - a kind of change
    """Any request of a root token that is neither for a token nor another change."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a change, as the log has it, perhaps hashed; None: not there, not known."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class CredentialChange:
    """One change that bears on tokens.

    Of a credential ``key_id`` is the one live afterwards. ``mount`` is empty for what is no
    mount's; ``name`` is the role, policy, plugin or device; ``fields`` is what changed.
    """

    time: datetime
    caller: Caller
    kind: ChangeKind
    mount: str
    key_id: str
    outcome: RequestOutcome
    request_id: str
    node: str
    run_id: str = ""
    name: str = ""
    fields: tuple[FieldChange, ...] = ()
    created: bool = False
    """Nothing was there before."""
    reason: str = ""
    """Of a cut-off, as the log has it: usually hashed. Empty for none."""
    error: str = ""
    """Why the change was not made, in the response's own words; empty for none, or hashed."""


@dataclass(frozen=True, slots=True)
class UnreadSpan:
    """Lines that could not be read, and the times between which they were written.

    Args:
        lines: how many; of a file that breaks off nobody knows.
        first: None: perhaps from the start of a log; ``last``: None: perhaps to its end.
    """

    lines: int = 0
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What was read, and what could not be used.

    Args:
        files: that were opened.
        bytes: as they lie on the disk, so compressed ones count compressed.
        lines: that are not blank.
        requests: for tokens, each once.
        damaged: lines (or files) that could not be used, by reason.
        duplicates: entries that another device, or another copy, had already told.
        forwards: writes that a standby handed to the leader.
        unpaired: requests without a response, and responses without their request.
        unwrapped: lines that were taken out of an envelope or from behind a prefix, by its
            name.
        unread: lines that could not be read.
    """

    files: int = 0
    bytes: int = 0
    lines: int = 0
    requests: int = 0
    damaged: tuple[tuple[str, int], ...] = ()
    duplicates: int = 0
    forwards: int = 0
    unpaired: int = 0
    unwrapped: tuple[tuple[str, int], ...] = ()
    unread: UnreadSpan = UnreadSpan()

    @property
    def certain(self) -> bool:
        """Whether all that is in the logs was read: what was not met did not happen."""
        return not self.damaged
