"""The manifest as frozen values: the content of ``mounts.yaml`` after all checks.

All values are valid: names, durations, patterns and paths have passed the schema and
``rules.py``. They never contain secrets, only references to them.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import Any, Literal

from skyflowctl.engine.names import PER_ENTITY, SIGN_MAX_TTL
from skyflowctl.errors import Where
from skyflowctl.frozen import dataclass

Scheme = Literal["file", "env", "keyring", "vault", "exec", "stdin", "server_file"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The location of a secret, never the secret itself.

    Args:
        scheme: the kind of location.
        target: the parts that the scheme needs, as texts: ``file`` (absolute path,), ``env``
            (variable name,), ``keyring`` (service, username), ``vault`` (path, field), ``exec``
            (the manifest's folder, program, arguments…), ``stdin`` (),
            ``server_file`` (absolute path on the server,).
        text: the reference as written in the manifest, for messages.
        where: its position in the manifest.
    """

    scheme: Scheme
    target: tuple[str, ...]
    text: str
    where: Where

    @property
    def server_file(self) -> str:
        """The path that the server itself reads; empty if the secret is read on this machine."""
        return self.target[0] if self.scheme == "server_file" else ""


@dataclass(frozen=True, slots=True)
class DeclaredCtx:
    """A role's ctx rule. ``required`` is the effective value: a pattern implies it."""

    required: bool = False
    pattern: str = ""
    probe: str | Mapping[str, Any] = ""


@dataclass(frozen=True, slots=True)
class Role:
    """One use of a mount, mapped to exactly one Skyflow role id.

    Args:
        sign: its consumers may also have data tokens signed.
        sign_max_ttl: the longest life of these, in seconds.
        reuse_min_ttl: for how long a token must be valid to be handed out again, in seconds; 0:
            every token is fresh.
        reuse_per: who shares a token: the logins of one ``entity``, or all readers of the ``role``.
    """

    name: str
    role_id: str
    description: str
    tags: tuple[str, ...]
    ctx: DeclaredCtx
    where: Where
    sign: bool = False
    sign_max_ttl: int = SIGN_MAX_TTL
    reuse_min_ttl: int = 0
    reuse_per: str = PER_ENTITY


@dataclass(frozen=True, slots=True)
class RotationRule:
    """When a mount's credential is due for rotation, and where the new one comes from.

    Args:
        max_age: a credential older than this is due.
        renew_before: a credential that expires within this span is due.
        source: ``reference``: the credential that ``credentials`` names; ``generate``: Skyflow
            creates one, requested with ``operator_token`` for ``account_id``.
        retire_margin: how long the old credential is kept after its last token has ended.
        operator_token: the reference to a Skyflow operator's bearer token.
        account_id: the Skyflow account; empty without ``generate``.
    """

    max_age: timedelta | None = None
    renew_before: timedelta | None = None
    source: Literal["reference", "generate"] = "reference"
    retire_margin: timedelta | None = None
    operator_token: Reference | None = None
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One product line's mount. ``tags`` are the defaults' tags, then its own.

    ``keeps_credential`` means that the mount must have a credential, which is kept.
    """

    name: str
    path: str
    description: str
    tags: tuple[str, ...]
    protect: bool
    plain_ctx: bool
    credentials: Reference | None
    rotation: RotationRule
    roles: tuple[Role, ...]
    where: Where
    keeps_credential: bool = False


@dataclass(frozen=True, slots=True)
class Consumer:
    """An application's login: one login role that may read the tokens of its roles.

    Args:
        name: of the login role.
        method: the name of the login method, which is also its path below ``auth/``.
        settings: every setting of the login role, with the names and units of the server's API.
        grants: the roles it may read, as pairs of mount name and role name.
        where: the position of its first entry.
        policies: further policies of its tokens; only for a login of ``auth``.
        type: the type of its login method.
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    grants: tuple[tuple[str, str], ...]
    where: Where
    policies: tuple[str, ...] = ()
    type: str = "approle"


@dataclass(frozen=True, slots=True)
class LoginMethod:
    """A login method of the server, at ``auth/<name>``."""

    name: str
    type: str
    description: str
    where: Where


@dataclass(frozen=True, slots=True)
class DeclaredGroup:
    """A group of people; ``alias`` is a login method and the group's name at its issuer."""

    name: str
    policies: tuple[str, ...]
    alias: tuple[str, str] | None
    where: Where


@dataclass(frozen=True, slots=True)
class DeclaredPolicy:
    """An access policy; ``text`` is HCL, without skyflowctl's mark."""

    name: str
    text: str
    where: Where


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A random value: ``length`` characters of ``alphabet`` or, with ``bytes``, that many bytes
    as URL-safe base64."""

    length: int = 0
    alphabet: str = ""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class LiveValue:
    """``{live: true}``: the value that the server has, which is kept."""


AUDIT_PLACES: Mapping[str, str] = {
    "file": "file_path",
    "socket": "address",
    "http": "uri",
    "syslog": "",
}
"""By type of audit device: the option that says where it writes; required where there is one."""
SECRET_URI_PARTS = frozenset("@?#")
"""What begins or ends a part of a uri that may hold a secret: a user, a query or a fragment."""

SECRET_VERSION = "secret_version:"  # noqa: S105 - an option's name
"""What the options begin with that hold the ``secret_version`` of each object, before its path."""

FieldSource = str | GeneratedText | Reference | LiveValue
"""Where a secret's field comes from; a text is the value itself."""


@dataclass(frozen=True, slots=True)
class DeclaredSecret:
    """A secret of a kv engine.

    Args:
        path: below the engine.
        fields: the source of each field.
        rotate_version: every field is written anew when this number rises; 0 without one.
        where: its position in the manifest.
    """

    path: str
    fields: Mapping[str, FieldSource]
    rotate_version: int
    where: Where


@dataclass(frozen=True, slots=True)
class DeclaredEngine:
    """A secrets engine besides the mounts. ``ttls`` are ``default_lease_ttl`` and
    ``max_lease_ttl`` in seconds, if declared."""

    path: str
    type: str
    description: str
    secrets: tuple[DeclaredSecret, ...]
    where: Where
    ttls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeclaredObject:
    """An object that is read and written by its path alone, field for field.

    Args:
        kind: its kind, a value of the planner's ``ObjectKind``.
        path: the API path at which it is read and written.
        fields: the fields that are sent and compared with the server's answer, with the names
            and units of the server's API.
        where: its position in the manifest.
        owner: the API path of the engine or login method that it belongs to
            (``sys/mounts/database``, ``sys/auth/corp``), whose mark is its mark; empty if it
            carries its own.
        secret: the sources of the fields that the server never returns.
        secret_version: these are written when this number rises.
        keeps_secret: whether the server keeps a secret field that a write does not have.
        once: an API path; the object is written only if nothing is there, and not compared.
        after: paths of actions that must be done before it is written.
        fixed: further fields that are compared, but sent only when the object is created, because
            the server never changes them.
        flags: fields that every write sends and no answer has; they are not compared.
        read_at: the API path at which it is read, if it is another one. The object is then a part
            of the one at that path.
    """

    kind: str
    path: str
    fields: Mapping[str, Any]
    where: Where
    owner: str = ""
    secret: Mapping[str, FieldSource] = field(default_factory=dict)
    secret_version: int = 0
    keeps_secret: bool = False
    once: str = ""
    after: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    read_at: str = ""

    @property
    def read_path(self) -> str:
        """The API path whose answer tells whether it exists, and its fields."""
        return self.once or self.read_at or self.path

    @property
    def version_option(self) -> str:
        """The option of the owner that holds the ``secret_version`` that was written last."""
        mounted = self.owner.removeprefix("sys/mounts/").removeprefix("sys/")
        return f"{SECRET_VERSION}{self.path.removeprefix(f'{mounted}/')}"


@dataclass(frozen=True, slots=True)
class Moved:
    """A mount or a role that has another path now.

    Args:
        kind: which of the two it is.
        old: its former path: ``skyflow/payments``, or ``skyflow/order/roles/writer``.
        new: the path that the manifest declares.
        where: the position of the entry.
    """

    kind: Literal["mount", "role"]
    old: str
    new: str
    where: Where


@dataclass(frozen=True, slots=True)
class Plugin:
    """The mount type, and the version that mounts should run (None: the newest)."""

    name: str = "skyflow"
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest. ``files`` are the paths it was read from, in merge order; ``file_set``
    is the same for every checkout and is recorded on the mounts that they make. ``servers`` are the
    cluster ids and addresses that it is for; empty: any."""

    id: str
    plugin: Plugin
    path_prefix: str
    mounts: tuple[Mount, ...]
    files: tuple[str, ...] = field(default=())
    file_set: str = ""
    consumers: tuple[Consumer, ...] = ()
    login_methods: tuple[LoginMethod, ...] = ()
    policies: tuple[DeclaredPolicy, ...] = ()
    moved: tuple[Moved, ...] = ()
    engines: tuple[DeclaredEngine, ...] = ()
    objects: tuple[DeclaredObject, ...] = ()
    groups: tuple[DeclaredGroup, ...] = ()
    servers: tuple[str, ...] = ()

    @property
    def references(self) -> list[Reference]:
        """Every reference to a secret."""
        found = [one for m in self.mounts for one in (m.credentials, m.rotation.operator_token)]
        return [one for one in found if one is not None] + self.references_of_objects

    @property
    def references_of_objects(self) -> list[Reference]:
        """The references of all but the mounts: of secrets, engines and login methods."""
        secrets = (secret.fields for engine in self.engines for secret in engine.secrets)
        sources = (*secrets, *(one.secret for one in self.objects))
        return [one for each in sources for one in each.values() if isinstance(one, Reference)]
