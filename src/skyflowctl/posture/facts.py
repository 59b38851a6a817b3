"""What is known about a server, as frozen values. What may not be read says so itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveMount, LiveRole
from skyflowctl.vault.responses import CatalogEntry


@dataclass(frozen=True, slots=True)
class NotRead:
    """A part of the server that could not be read.

    Args:
        path: below ``/v1/``.
        capabilities: what a policy would have to grant there; empty: no policy helps.
        why: the server's own words.
    """

    path: str
    capabilities: tuple[str, ...] = ()
    why: str = ""

    @property
    def policy_line(self) -> str:
        """The policy that would permit it; empty when permission is not what is missing."""
        if not self.capabilities:
            return ""
        words = ", ".join(f'"{word}"' for word in self.capabilities)
        return f'path "{self.path}" {{ capabilities = [{words}] }}'


@dataclass(frozen=True, slots=True)
class TcpListener:
    """A listener of the node that answered; ``tls_min_version`` empty: the default, 1.2."""

    address: str
    tls: bool
    tls_min_version: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The end of an address's server certificate."""

    address: str
    not_after: datetime


class Down(Enum):
    """Why a server hands out nothing at all; each asks for something else."""

    SEALED = auto()
    NEW = auto()
    """It has never been initialised."""
    SILENT = auto()
    """It does not answer at its address."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server as it was reached, and as it describes itself.

    Args:
        address: as it was named.
        skip_verify: its certificate is not checked.
        version: of the server.
        seal_type: such as ``shamir``, ``static``, ``awskms``; empty: not told.
        certificates: of every named address.
        listeners: of the node that answered.
        down: it is sealed, or does not answer: why; then nothing else is known.
        down_kind: which of these it is, where it is down.
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
        """Whether it has seal wrapping at all: only Vault Enterprise does."""
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
        config: None when it could not be read.
        roles: by name.
        history: by credential version; None: the engine has none, or it was not read.
        due: why its credential is to be replaced by the rotation rule; empty: it is not.
        declared: what the manifest says of it; None: nothing, or there is no manifest.
        not_read: what of it could not be read.
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
    """One node of the cluster, asked alone.

    Args:
        name: its address.
        asked: False: its address was not named, so it must not see the token.
        missing: paths of mounts whose plugin does not run there.
        digests: by path, the digest of the plugin that it says it runs.
        problem: why it could not be asked; empty: it was.
        processes: by path, how its own process says that it is protected; None: not told.
        not_read: mounts that it did not answer for, though the plugin may run.
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
    """A way to get a token, with the policies that the token carries.

    Args:
        kind: such as ``approle role``, ``userpass user``, ``entity``, ``live token``.
        name: its name; with the auth mount's path where that has one.
        policies: names, in lower case; ``default`` is among them unless it is left out.
        any_of: a token may carry any of these policies alone (a token role).
    """

    kind: str
    name: str
    policies: tuple[str, ...]
    any_of: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class ServerLogins:
    """Every login that could be read. ``left_out``: how many were not, past the limit."""

    found: tuple[Login, ...] = ()
    not_read: tuple[NotRead, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that is alive; ``expires``: RFC 3339, empty: never."""

    accessor: str
    display_name: str
    policies: tuple[str, ...]
    expires: str
    created_by: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """Live tokens. ``total``: how many there are; only ``found`` were looked at."""

    found: tuple[LiveToken, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Exercised:
    """What an audit log shows to have been used, and over which time.

    Args:
        roles: (mount path, role) of every token that was handed out.
        since: of its first entry.
        until: of its last.
        files: what was read.
        unread: what of it could not be, in words; empty: nothing.
    """

    roles: frozenset[tuple[str, str]]
    since: datetime
    until: datetime
    files: tuple[str, ...]
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checks look at.

    Args:
        now: when it was read.
        server: see there.
        own_policies: of the token that was used; None: not told.
        audit_devices: of the server.
        audited_headers: lower-case name to whether it is hashed.
        mounts: of our type.
        catalog: entries of our plugin.
        catalog_unread: entries that are listed, but could not be read one by one.
        nodes: of the cluster; empty: it has only one.
        policies: texts by name.
        logins: None: they were not asked for, because no policy reaches creds.
        tokens: see there.
        manifest: None: none was given.
        exercised: None: no audit log was given.
        max_readers: a role that more logins can read is read by too many.
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
    logins: ServerLogins | None = None
    tokens: Tokens | NotRead = field(default_factory=lambda: Tokens((), 0))
    manifest: Manifest | None = None
    exercised: Exercised | None = None
    max_readers: int = 5

    @property
    def ours(self) -> tuple[MountFacts, ...]:
        """The mounts; none when they could not be read."""
        return () if isinstance(self.mounts, NotRead) else self.mounts

    def creds_paths(self) -> list[str]:
        """Return the path of every role's tokens, sorted."""
        return sorted(f"{one.path}/creds/{name}" for one in self.ours for name in one.roles)
