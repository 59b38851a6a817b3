"""Finds who used which roles according to audit logs, for ``audit posture`` and ``plan``."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import BinaryIO

from skyflowctl.audit.entries import Namespace
from skyflowctl.audit.groups import GroupScope, RequestGroup
from skyflowctl.audit.join import JoinedRow
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.scan import scan
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.search import unread_words
from skyflowctl.audit.sources import Sources, open_sources
from skyflowctl.audit.times import parse_utc
from skyflowctl.audit.used import NAMES_MAX, AppKey
from skyflowctl.errors import InvalidInputError
from skyflowctl.frozen import dataclass
from skyflowctl.posture.facts import Exercised


@dataclass(frozen=True, slots=True)
class RoleUses:
    """Who got tokens or signatures of which roles, and the time that the logs cover.

    Args:
        uses: by mount, then by role: of each app, how often and when last.
        since: the time of the first entry; None: no entry could be read.
        until: the time of the last entry.
        files: the names of the files that were read.
        unread: what could not be read; empty if all was.
        too_many: pairs of role and app exceeded the limit, so some are missing.
    """

    uses: Mapping[str, Mapping[str, Mapping[AppKey, tuple[int, datetime]]]]
    since: datetime | None
    until: datetime | None
    files: tuple[str, ...]
    unread: str = ""
    too_many: bool = False

    @property
    def certain(self) -> bool:
        """Whether absence from the logs proves that a role was not used in their time."""
        return self.since is not None and not self.unread and not self.too_many

    def of(self, mount: str, roles: Collection[str] = ()) -> dict[AppKey, tuple[int, datetime]]:
        """Return how often and when last each app used these roles of a mount; empty: all."""
        found: dict[AppKey, tuple[int, datetime]] = {}
        used = self.uses.get(mount, {})
        for role in roles or used:
            apps = used.get(role, {})
            for app, (number, last) in apps.items():
                known = found.get(app, (0, last))
                found[app] = (known[0] + number, max(known[1], last))
        return found


def exercised(
    patterns: Sequence[str],
    *,
    plugin_name: str,
    namespace: str = "",
    stdin: BinaryIO | None = None,
) -> Exercised:
    """Read logs once, and return the roles that gave tokens.

    Args:
        patterns: files, globs, ``NODE=PATH`` or ``-``, as for every reader of logs.
        plugin_name: the mount type of this engine.
        namespace: the namespace of the mounts; empty: the root.
        stdin: the input for ``-``.

    Raises:
        UsageError: a pattern matches no file.
        InvalidInputError: a file cannot be read, or no file has an entry with a time.
    """
    sources = open_sources(patterns, stdin=stdin, digest=False)
    found = role_uses(sources, plugin_name=plugin_name, namespace=namespace)
    if found.since is None or found.until is None:
        raise InvalidInputError(
            "the audit log has no entry",
            why="no line of it has a time as OpenBao and Vault write it",
            fix="name the file of an audit device that writes JSON",
        )
    used = frozenset((mount, role) for mount, roles in found.uses.items() for role in roles)
    return Exercised(used, found.since, found.until, found.files, found.unread)


def role_uses(
    sources: Sources,
    *,
    plugin_name: str,
    namespace: str = "",
    mounts: Iterable[str] | None = None,
) -> RoleUses:
    """Read logs once, and return who got tokens of which roles.

    Args:
        sources: the logs.
        plugin_name: the mount type of this engine.
        namespace: the namespace of the mounts; empty: the root.
        mounts: the paths of the only mounts of interest; None: all.

    Raises:
        InvalidInputError: a file cannot be read.
    """
    wanted = None if mounts is None else frozenset(mounts)
    reading = scan(sources, ScanOptions(plugin_names=(plugin_name,)))
    using = _Uses(namespace, wanted)
    for row in reading.rows(using):
        if row.change is None:
            using.add(row)
    spans = reading.covered.values()
    counts = reading.counts()
    return RoleUses(
        {
            mount: {
                role: {app: (number, parse_utc(last)) for app, (number, last) in apps.items()}
                for role, apps in roles.items()
            }
            for mount, roles in using.mounts.items()
        },
        parse_utc(min(first for first, _ in spans)) if spans else None,
        parse_utc(max(last for _, last in spans)) if spans else None,
        tuple(file.name for file in sources.files),
        "" if counts.certain else unread_words(counts),
        using.too_many,
    )


@dataclass(slots=True)
class _Uses:
    """The roles below a namespace that gave tokens, each with its mount and apps.

    Args:
        namespace: the namespace.
        wanted: the only mounts to keep; None: all.
        mounts: by mount, then by role: of each app, the number of requests and the last time.
    """

    namespace: str
    wanted: frozenset[str] | None = None
    mounts: dict[str, dict[str, dict[AppKey, tuple[int, str]]]] = field(default_factory=dict)
    scope: GroupScope = field(default_factory=GroupScope)
    too_many: bool = False
    _pairs: int = 0

    def has_room(self, groups: int, ctxs: int) -> bool:  # noqa: ARG002 - part of the protocol
        return True

    def add_group(self, group: RequestGroup) -> None:
        self._add(group, len(group.minutes), group.last)

    def add(self, row: JoinedRow) -> None:
        self._add(row, 1, row.time)

    def _add(self, row: JoinedRow | RequestGroup, number: int, last: str) -> None:
        if row.outcome is not RequestOutcome.GRANTED or not _is_in(row, self.namespace):
            return
        mount = row.mount.removeprefix(f"{self.namespace}/")
        if self.wanted is not None and mount not in self.wanted:
            return
        apps = self.mounts.setdefault(mount, {}).setdefault(row.role, {})
        app = (row.app, row.auth)
        known = apps.get(app)
        if known is None:
            if self._pairs >= NAMES_MAX:
                self.too_many = True
                return
            self._pairs += 1
            known = (0, last)
        apps[app] = (known[0] + number, max(known[1], last))


def _is_in(row: JoinedRow | RequestGroup, namespace: str) -> bool:
    found: Namespace | None = row.entry.request.namespace
    path = "" if found is None or found.id == "root" else found.path.strip("/")
    return path == namespace
