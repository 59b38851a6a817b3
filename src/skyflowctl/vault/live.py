"""The part of the server's live state that a plan needs, as frozen values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, Literal

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass

SERVER_FILE = "credentials_file_path"
"""The field of a config's body that makes the engine read the credential from a server file."""

CREDENTIAL_FIELDS = ("credentials_json", SERVER_FILE)
"""The fields of a config's body that contain a credential; no read returns them."""

_FORBIDDEN = frozenset({"forbidden", "no-token", "read-needs-approval"})


@dataclass(frozen=True, slots=True)
class EngineApi:
    """The API of a mount's engine, which decides what a command may report about it.

    Our engine has the full API. Another engine of the same type has the basic one: config,
    roles, creds, health. The answer of ``config``, which every plan reads, shows which it is.

    Args:
        missing: the features of :data:`ENGINE_FEATURES` that it lacks.
    """

    missing: tuple[str, ...] = ()

    @property
    def name(self) -> Literal["full", "basic"]:
        """``full`` or ``basic``."""
        return "basic" if self.missing else "full"

    def has(self, feature: str) -> bool:
        """Return whether it has one of :data:`ENGINE_FEATURES`."""
        return feature not in self.missing


ENGINE_FEATURES = ("history", "verify", "cas", "ctx", "token_service")
FULL_API = EngineApi()
BASIC_API = EngineApi(ENGINE_FEATURES)


@dataclass(frozen=True, slots=True)
class LiveMount:
    """One entry of ``sys/mounts``. Lists that the server omits are empty.

    ``seal_wrap`` is the stored flag, whether or not the server supports it. ``ttls`` are
    ``default_lease_ttl`` and ``max_lease_ttl`` in seconds; 0 for the server's.
    """

    path: str
    type: str
    description: str
    options: Mapping[str, str]
    passthrough_request_headers: tuple[str, ...]
    audit_non_hmac_request_keys: tuple[str, ...]
    audit_non_hmac_response_keys: tuple[str, ...]
    plugin_version: str
    running_plugin_version: str
    running_sha256: str
    seal_wrap: bool = False
    ttls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveRotation:
    """The latest rotation of a mount. Times are RFC 3339; None if not yet reached.

    Args:
        id: the id that its opener chose.
        from_key: the key id that was live when it was opened; empty if there was none.
        to_key: the key id that it makes live; empty while it is not known.
        state: ``open``, ``committed`` or ``retired``.
        keys: the key ids that were listed before it created a key; empty if it creates none.
    """

    id: str
    from_key: str
    to_key: str
    started: str
    by: str
    state: str
    cut_over_at: str | None
    old_tokens_valid_until: str | None
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LiveRevocation:
    """A cut-off that no new credential has ended. ``at`` is RFC 3339; unknown fields are empty.
    A basic engine does not record cut-offs, so the mount's options do."""

    at: str
    by: str = ""
    reason: str = ""
    run: str = ""
    key_id: str = ""

    def sentence(self) -> str:
        """Return since when, by whom and why, as far as known."""
        by = f" by {self.by}" if self.by else ""
        reason = f" because {self.reason}" if self.reason else ", without a reason"
        run = f" (run {self.run})" if self.run else ""
        return f"cut off since {self.at}{by}{reason}{run}"


def way_out(mount: str, api: EngineApi = FULL_API) -> str:
    """Return how to end the cut-off of a mount.

    Args:
        mount: its name or path, as a command accepts it.
        api: its engine's API. A basic engine has no record of a key that is being created.
    """
    command = f"skyflowctl rotate {mount}"
    named = "the key at the manifest's reference, or at --credentials REF"
    if not api.has("history"):
        return f"write a new key: '{command}' uses {named}"
    made = f"'{command} --generate' has Skyflow create one"
    return f"write a new key: {made}; without --generate, it uses {named}"


@dataclass(frozen=True, slots=True)
class CredentialVersion:
    """One credential version of a mount; ``kept``: it can be rolled back to.

    ``revoked`` is the cut-off that destroyed it; it is never reset."""

    credential_version: int
    client_id: str
    key_id: str
    written_at: str
    written_by: str
    description: str
    kept: bool
    revoked: LiveRevocation | None = None


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """A mount's config from the engine's answer.

    Args:
        raw: the whole answer; outside this package use :meth:`to_json`.
        rotation: None without one, and for an engine without rotations.
        process: how the engine's process is protected (``core_dumps``, ``dumpable``,
            ``swappable``); None if not returned.
        last_updated: when the config was written. Each time is None if the engine does not
            return it, or returns no RFC 3339 time.
        credential_updated: when its credential was written.
        key_valid_after: when the key's validity begins.
        key_valid_before: when it ends.
        token_uri: the token service that the credential names; empty for the default.
    """

    configured: bool
    client_id: str
    key_id: str
    description: str
    tags: tuple[str, ...]
    version: int
    credential_version: int
    raw: Mapping[str, Any] = field(default_factory=dict)
    rotation: LiveRotation | None = None
    api: EngineApi = FULL_API
    revoked: LiveRevocation | None = None
    process: Mapping[str, bool] | None = None
    last_updated: datetime | None = None
    credential_updated: datetime | None = None
    key_valid_after: datetime | None = None
    key_valid_before: datetime | None = None
    token_uri: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the engine's whole answer, for output."""
        return dict(self.raw)

    @property
    def reads_file(self) -> bool:
        """Whether another engine reads the credential from a file for every token."""
        return self.raw.get("credentials_type") == "file_path"


@dataclass(frozen=True, slots=True)
class LiveRole:
    """A role from the engine's answer. ``ctx_required`` is the effective value; ``created`` is
    RFC 3339, empty if the engine does not return it; ``sign_max_ttl`` is whole seconds, 0 if the
    engine cannot sign data tokens; ``reuse_min_ttl`` too, 0 if every token is fresh; ``reuse_per``
    is empty if the engine reuses none."""

    name: str
    role_ids: tuple[str, ...]
    description: str
    tags: tuple[str, ...]
    ctx_required: bool
    ctx_pattern: str
    ctx_probe: str | Mapping[str, Any]
    version: int
    created: str = ""
    sign_max_ttl: int = 0
    reuse_min_ttl: int = 0
    reuse_per: str = ""


@dataclass(frozen=True, slots=True)
class LiveEngine:
    """The live state of one mount of ours. ``history`` maps a credential version to its key id;
    None if it was not read, or the engine has no history. ``unusable`` maps stored roles that
    the engine refuses to the reason. ``revoked`` has the keys that cut-offs destroyed, as far as
    the history was read, and ``kept`` the versions that can be rolled back to."""

    config: LiveConfig
    roles: Mapping[str, LiveRole]
    history: Mapping[int, str] | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)
    revoked: Mapping[str, LiveRevocation] = field(default_factory=dict)
    kept: frozenset[int] = frozenset()


LOGIN_ROLES: Mapping[str, str] = {
    "approle": "role",
    "cert": "certs",
    "jwt": "role",
    "kubernetes": "role",
    "oidc": "role",
    "userpass": "users",
}
"""By type of login method: where its login roles are, below its path."""


GROUP_PATHS = "identity/group/name/"
NAMESPACE_PATHS = "sys/namespaces/"
RATE_LIMITS = "sys/quotas/rate-limit"


def login_role_path(method: str, name: str, type: str = "approle") -> str:  # noqa: A002 - the API's word
    """Return the API path of a login role of a method of this type."""
    return f"auth/{method}/{LOGIN_ROLES[type]}/{name}"


def login_role_parts(path: str) -> tuple[str, str]:
    """Return method and name of a login role's API path."""
    method, _, name = path.removeprefix("auth/").rpartition("/")
    return method.rpartition("/")[0], name


def login_method_of(mount_path: str) -> str:
    """Return the name of the login method at a mount path, such as ``auth/corp/``."""
    return mount_path.removeprefix("auth/").rstrip("/")


def is_group(path: str) -> bool:
    """Whether an API path is that of a group."""
    return path.startswith(GROUP_PATHS)


def is_login_role(path: str) -> bool:
    """Whether an API path is that of a login role."""
    collection = path.rpartition("/")[0].rpartition("/")[2]
    return path.startswith("auth/") and collection in LOGIN_ROLES.values()


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """A policy's text. ``version`` is for check-and-set; 0 if the server has none."""

    name: str
    text: str
    version: int = 0


@dataclass(frozen=True, slots=True)
class LiveLoginMethod:
    """One entry of ``sys/auth``; ``name`` is its path below ``auth/``."""

    name: str
    type: str
    description: str
    options: Mapping[str, str]
    accessor: str = ""


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """A secret of a kv engine, without any value.

    Args:
        version: its newest version; 0 if none was ever written.
        custom_metadata: its marks.
        fields: the names of its fields.
        deleted: whether the newest version is deleted or destroyed.
        deleted_at: RFC 3339; empty if it was destroyed.
        settings: how many versions are kept, for how long, and whether check-and-set is required.
    """

    version: int
    custom_metadata: Mapping[str, str] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    deleted: bool = False
    deleted_at: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class LiveAccess:
    """The live objects besides our mounts that were asked for.

    Args:
        policies: by name; only those that exist.
        login_methods: by name.
        objects: what the server returns for login roles and for each other object that is read by
            its path alone, by this API path; only those that exist.
        unread: API paths that could not be read, each with the reason.
        engines: every secrets mount, by path.
        secrets: by API path; only those that exist.
        contents: of each namespace that may be deleted, by its API path: the paths of what it
            contains, or why that is not known.
    """

    policies: Mapping[str, LivePolicy] = field(default_factory=dict)
    login_methods: Mapping[str, LiveLoginMethod] = field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unread: Mapping[str, Problem] = field(default_factory=dict)
    engines: Mapping[str, LiveMount] = field(default_factory=dict)
    secrets: Mapping[str, LiveSecret] = field(default_factory=dict)
    contents: Mapping[str, Sequence[str] | Problem] = field(default_factory=dict)

    def mounted(self, path: str) -> LiveMount | LiveLoginMethod | None:
        """Return the engine or login method at ``sys/mounts/…`` or ``sys/auth/…``."""
        engine = self.engines.get(path.removeprefix("sys/mounts/"))
        return engine or self.login_methods.get(path.removeprefix("sys/auth/"))

    @property
    def login_roles(self) -> Mapping[str, Mapping[str, Any]]:
        """The objects that are login roles."""
        return {path: one for path, one in self.objects.items() if is_login_role(path)}

    @property
    def groups(self) -> Mapping[str, Mapping[str, Any]]:
        """The objects that are groups."""
        return {path: one for path, one in self.objects.items() if is_group(path)}

    @property
    def namespaces(self) -> Mapping[str, Mapping[str, Any]]:
        """The objects that are namespaces."""
        return {path: one for path, one in self.objects.items() if path.startswith(NAMESPACE_PATHS)}


@dataclass(frozen=True, slots=True)
class LiveState:
    """The live state of one server, read in 2 + 2N requests for N mounts.

    Args:
        mounts: every secrets mount, by path without trailing slash.
        engines: by path, the requested mounts that exist with our type.
        audited_headers: whether each header is hashed, by name in lower case; None if
            this login may not read them.
        problems: by path, why a mount's engine could not be read.
        access: the other objects that were asked for.
    """

    mounts: Mapping[str, LiveMount]
    engines: Mapping[str, LiveEngine]
    audited_headers: Mapping[str, bool] | None
    problems: Mapping[str, Problem] = field(default_factory=dict)
    access: LiveAccess = field(default_factory=LiveAccess)

    def was_read(self, paths: Iterable[str]) -> bool:
        """Whether each of these mounts was read, or is absent."""
        known = self.engines.keys() | self.problems.keys()
        return all(path in known or path not in self.mounts for path in paths)

    @property
    def all_forbidden(self) -> bool:
        """True if the read of every engine failed because this login is not permitted to."""
        denied = {problem.code in _FORBIDDEN for problem in self.problems.values()}
        return denied == {True} and not self.engines
