"""The facts about a server, as frozen values. A part that could not be read has a value, too."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import Enum, auto

from skyflowctl.frozen import dataclass
from skyflowctl.hcl import policy_rule
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveMount, LiveRole
from skyflowctl.vault.responses import CatalogEntry


@dataclass(frozen=True, slots=True)
class NotRead:
    """A part of the server that could not be read.

    Args:
        path: below ``/v1/``.
        capabilities: what a policy would have to grant there; empty if no policy helps.
        why: the server's own text.
    """

    path: str
    capabilities: tuple[str, ...] = ()
    why: str = ""

    @property
    def policy_line(self) -> str:
        """The policy that would allow the read; empty if permission is not the cause."""
        if not self.capabilities:
            return ""
        return policy_rule(self.path, self.capabilities)


@dataclass(frozen=True, slots=True)
class TcpListener:
    """A listener of the node that answered; an empty ``tls_min_version`` means the default, 1.2."""

    address: str
    tls: bool
    tls_min_version: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """When the server certificate of an address expires."""

    address: str
    not_after: datetime


class Down(Enum):
    """Why a server serves no requests; each reason has its own fix."""

    SEALED = auto()
    NEW = auto()
    """It has never been initialised."""
    SILENT = auto()
    """It does not answer at its address."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server: how it was reached, and how it describes itself.

    Args:
        address: the address as the user named it.
        skip_verify: whether its certificate is not verified.
        version: the server's version.
        seal_type: such as ``shamir``, ``static``, ``awskms``; empty if not returned.
        certificates: the certificates of every named address.
        listeners: the listeners of the node that answered.
        down: why it is sealed or does not answer; nothing else is then known.
        down_kind: the kind of ``down``.
    """

    address: str
    skip_verify: bool = False
    version: str = ""
    seal_type: str = ""
    certificates: tuple[Certificate | NotRead, ...] = ()
    listeners: tuple[TcpListener, ...] | NotRead = ()
    down: str = ""
    down_kind: Down = Down.SILENT

    @property
    def wraps_seals(self) -> bool:
        """Whether it supports seal wrapping: only Vault Enterprise does."""
        return "+ent" in self.version


@dataclass(frozen=True, slots=True)
class AuditDevice:
    """An audit device of the server; option values are texts."""

    path: str
    type: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MountFacts:
    """One mount of ours.

    Args:
        mount: its entry in ``sys/mounts``.
        config: None if it could not be read.
        roles: by name.
        history: by credential version; None if the engine has none, or it was not read.
        due: why the rotation rule requires a new credential; empty if it does not.
        declared: the manifest's mount; None if it is not declared, or without a manifest.
        not_read: the parts that could not be read.
    """

    mount: LiveMount
    config: LiveConfig | None = None
    roles: Mapping[str, LiveRole] = field(default_factory=dict)
    history: Mapping[int, CredentialVersion] | None = None
    due: str = ""
    declared: Mount | None = None
    not_read: tuple[NotRead, ...] = ()

    @property
    def path(self) -> str:
        """Where it is mounted."""
        return self.mount.path


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node of the cluster, asked directly.

    Args:
        name: its address.
        asked: False if its address was not named, so that it must not see the token.
        missing: paths of mounts whose plugin does not run there.
        digests: by path, the digest of the running plugin, as reported by the node.
        problem: why it could not be asked; empty if it was.
        processes: by path, how the node reports its process is protected; None if not returned.
        not_read: mounts for which it did not answer, although the plugin may run.
    """

    name: str
    asked: bool
    missing: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    processes: Mapping[str, Mapping[str, bool] | None] = field(default_factory=dict)
    not_read: tuple[NotRead, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """A way to get a token, with the policies of the token.

    Args:
        kind: such as ``approle role``, ``userpass user``, ``entity``, ``live token``.
        name: its name; with the path of the auth mount if it has one.
        policies: names, in lower case; includes ``default`` unless the login omits it.
        any_of: a token may have any single one of these policies (a token role).
    """

    kind: str
    name: str
    policies: tuple[str, ...]
    any_of: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class EntityAlias:
    """The name under which an auth mount knows an entity."""

    mount: str
    name: str


@dataclass(frozen=True, slots=True)
class Entity:
    """A person or program for the server, whichever way it logs in.

    Args:
        name: its name.
        policies: its own, and those of all groups that it is in.
        aliases: its logins.
        own: its own policies alone.
    """

    name: str
    policies: frozenset[str]
    aliases: tuple[EntityAlias, ...]
    own: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IdentityGroup:
    """A group of entities.

    Args:
        name: its name.
        policies: its own, and those of all groups that it is in.
        own: its own policies alone.
        mount: of an external group, the auth mount whose logins bring it along; else empty.
        external: its members are known only when they log in.
    """

    name: str
    policies: frozenset[str]
    own: frozenset[str] = frozenset()
    mount: str = ""
    external: bool = False


@dataclass(frozen=True, slots=True)
class Identities:
    """The enabled entities and all groups of a server that could be read."""

    entities: tuple[Entity, ...] = ()
    groups: tuple[IdentityGroup, ...] = ()
    not_read: tuple[NotRead, ...] = ()
    _at: dict[str, list[Entity]] = field(default_factory=dict, repr=False, compare=False)

    def at(self, mount: str) -> list[Entity]:
        """Return the entities with an alias on an auth mount."""
        if mount not in self._at:
            self._at[mount] = [
                one for one in self.entities if any(a.mount == mount for a in one.aliases)
            ]
        return self._at[mount]

    def external(self) -> list[IdentityGroup]:
        """Return the groups whose members are known only when they log in."""
        return [one for one in self.groups if one.external]


@dataclass(frozen=True, slots=True)
class ServerLogins:
    """Every login that could be read.

    Args:
        found: the logins.
        not_read: what could not be read, identities included.
        left_out: how many were not read because of the limit.
        identities: the entities and groups.
        aliases: the alias that a login has in identities, if it was asked for; see
            :func:`skyflowctl.posture.collect.identities.aliases_of`.
    """

    found: tuple[Login, ...] = ()
    not_read: tuple[NotRead, ...] = ()
    left_out: int = 0
    identities: Identities = Identities()
    aliases: Mapping[Login, str | NotRead | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A live token.

    Args:
        expires: RFC 3339; empty if it never expires.
        created_by: the path of the request that created it.
        login: the role or user of its login, as the auth method notes it; empty if it does not.
    """

    accessor: str
    display_name: str
    policies: tuple[str, ...]
    expires: str
    created_by: str
    own: bool = False
    login: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Live tokens. ``total``: how many there are; only those in ``found`` were read."""

    found: tuple[LiveToken, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Exercised:
    """The roles that an audit log shows as used, and the time that it covers.

    Args:
        roles: (mount path, role) of every token that was issued.
        since: the time of the first entry.
        until: the time of the last entry.
        files: the files that were read.
        unread: a description of what could not be read; empty if all was.
    """

    roles: frozenset[tuple[str, str]]
    since: datetime
    until: datetime
    files: tuple[str, ...]
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts for the checks.

    Args:
        now: when the facts were read.
        server: the server.
        own_policies: the policies of the token that was used; None if not returned.
        audit_devices: the audit devices of the server.
        audited_headers: whether each header is hashed, by lower-case name.
        mounts: the mounts of our type.
        catalog: the catalog entries of our plugin.
        catalog_unread: entries that are listed but could not be read one by one.
        nodes: the nodes of the cluster; empty if it has only one.
        policies: texts by name.
        least_policies: the shipped texts of the least policies, by name.
        logins: None if they were not read, because no policy allows creds.
        tokens: the live tokens.
        manifest: None without a manifest.
        exercised: None without an audit log.
        max_readers: the most logins that may read one role.
    """

    now: datetime
    server: Server
    own_policies: tuple[str, ...] | None = None
    audit_devices: tuple[AuditDevice, ...] | NotRead = ()
    audited_headers: Mapping[str, bool] | NotRead = field(default_factory=dict)
    mounts: tuple[MountFacts, ...] | NotRead = ()
    catalog: tuple[CatalogEntry, ...] | NotRead = ()
    catalog_unread: tuple[NotRead, ...] = ()
    nodes: tuple[NodeFacts, ...] | NotRead = ()
    policies: Mapping[str, str] | NotRead = field(default_factory=dict)
    least_policies: Mapping[str, str] = field(default_factory=dict)
    logins: ServerLogins | None = None
    tokens: Tokens | NotRead = field(default_factory=lambda: Tokens((), 0))
    manifest: Manifest | None = None
    exercised: Exercised | None = None
    max_readers: int = 5

    @property
    def ours(self) -> tuple[MountFacts, ...]:
        """The mounts; empty if they could not be read."""
        return () if isinstance(self.mounts, NotRead) else self.mounts

    def creds_paths(self) -> list[str]:
        """Return the path of every role's tokens, sorted."""
        return sorted(f"{one.path}/creds/{name}" for one in self.ours for name in one.roles)
