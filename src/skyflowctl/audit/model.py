"""The content of an audit log, as frozen values. Callers control all texts in them.

Times are aware UTC datetimes. Texts are as the server logged them: code that shows them must
escape them for its output.
"""

from datetime import datetime
from enum import StrEnum

from skyflowctl.frozen import dataclass


class RequestOutcome(StrEnum):
    """How a request ended."""

    GRANTED = "granted"
    DENIED = "denied"
    """The server's access rules denied it."""
    REFUSED = "refused"
    """The engine or Skyflow refused it: a violated ctx rule, an unknown role, an invalid key."""
    FAILED = "failed"
    """No token and no refusal: unreachable, timed out."""
    UNKNOWN = "unknown"
    """The log holds no response."""
    CONFLICT = "conflict"
    """Only for a change: the state differs from what the caller expected."""
    PENDING = "pending"
    """A control group parked it until another person approves. Each execution after that is a
    separate request with the same id."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request, as the server identifies it.

    Args:
        app: the login's own name: the AppRole's role, the user, else the display name.
        auth: how it logged in (``approle``, ``userpass``, ``token`` …); empty if not known.
        display_name: as logged.
        entity_id: empty if it has none.
        accessor: the token's accessor, hashed as in the log; empty for a batch token.
        policies: the token's policies.
    """

    app: str
    auth: str
    display_name: str = ""
    entity_id: str = ""
    accessor: str = ""
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request for a bearer or for signed data tokens: a row of ``audit who``.

    Args:
        time: the time of the request.
        caller: the login that asked.
        claimed_app: the header Application-Source: a claim, never an identity.
        mount: path of the mount, without a trailing slash.
        role: the engine's role.
        ctx: as logged: plain, hashed, or a flat object as JSON text; empty if there is none.
        ctx_hashed: whether ``ctx`` is a hash (or an object that contains hashes).
        outcome: how the request ended.
        error: the error text of the response; empty if there is none, or if it is hashed.
        request_id: the server's request id.
        node: the node of the stream that it was read from.
        run_id: the run id of skyflowctl; empty for any other client.
        key_id: the Skyflow key that minted; empty if there is no token.
        remote_address: the address of the peer.
        wrapped: whether the token was issued behind a wrapping token.
        unwrapped_by: who unwrapped it, as far as the log shows; empty if not unwrapped.
        namespace: its id or path; empty for the root.
        operation: ``read`` or ``update``, as an access rule would name it.
        ctx_forms: every form in which the devices logged this ctx (each device has its own
            hash), for matching. Empty if there is no ctx.
        token_hashes: the hashes of the bearer, one per device; for a wrapped bearer, those
            that its unwrap shows.
        granted_by: names of the policies that allowed it.
        client_tokens: the hashes of the caller's server token, one per device.
        approved_by: who approved a parked request, as far as the log shows; empty if it was
            not parked.
        path: ``creds`` (a bearer) or ``sign`` (signed data tokens).
        execution: the number of this execution of a parked request; 0 if it was not parked.
        expires_at: when the bearer or the signatures expire; None if the log does not show it.
        expiry_from: what shows it: ``expires_at``, ``ttl`` (of the answer) or empty.
        reused: whether the same bearer was returned before.
        opened_key_id: the key of a wrapped bearer, as its unwrap shows it: usually hashed.
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
    path: str = "creds"
    execution: int = 0
    expires_at: datetime | None = None
    expiry_from: str = ""
    reused: bool = False
    opened_key_id: str = ""


class ChangeKind(StrEnum):
    """The kind of a change to a mount's credential, or to something else that affects tokens."""

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
    """Any request of a root token that neither reads a bearer nor is another kind of change."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a change as logged, perhaps hashed; None if absent or not known."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class CredentialChange:
    """One change that affects tokens.

    For a credential, ``key_id`` is the key that is live afterwards. ``mount`` is empty if the
    change concerns no mount. ``name`` is the role, policy, plugin or device; ``fields`` are the
    changed fields.
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
    """Whether the object did not exist before."""
    reason: str = ""
    """The reason for a cut-off as logged, usually hashed. Empty if there is none."""
    error: str = ""
    """The error text if the change failed; empty if there is none, or if it is hashed."""
    namespace: str = ""
    """The namespace's id or path; empty for the root."""


@dataclass(frozen=True, slots=True)
class UnreadSpan:
    """Lines that could not be read, and the times between which they were written.

    Args:
        lines: the number of lines; it is not known for a truncated file.
        first: None: possibly from the start of a log.
        last: None: possibly to the end of a log.
    """

    lines: int = 0
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what was read, and of what could not be used.

    Args:
        files: files that were opened.
        bytes: bytes on the disk; compressed files count compressed.
        lines: lines that are not blank.
        requests: token requests, each counted once.
        damaged: lines (or files) that could not be used, by reason.
        duplicates: entries that another device, or another copy, had already reported.
        forwards: writes that a standby forwarded to the leader.
        unpaired: requests without a response, and responses without their request.
        unwrapped: lines that had an envelope or a prefix, by its name.
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
        """Whether everything in the logs was read, so that what was not found did not happen."""
        return not self.damaged
