"""Finds roles, consumers and policies that have given no token for some time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from functools import partial

from skyflowctl.audit.model import Counts
from skyflowctl.audit.query import in_namespace
from skyflowctl.audit.search import Search
from skyflowctl.audit.used import AppKey, Covered, LastUse, RoleKey, covered_by
from skyflowctl.concurrency import Workers
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest
from skyflowctl.posture.collect.logins import logins
from skyflowctl.posture.collect.reads import or_not_read, policies
from skyflowctl.posture.facts import Login, NotRead
from skyflowctl.posture.grants import grants, opened_by
from skyflowctl.posture.policies import parse_policy
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveRole

# Auth methods whose login name in the log is the app's; other logins are not distinguishable.
_NAMED = {"approle role": "approle", "userpass user": "userpass", "ldap user": "ldap"}


@dataclass(frozen=True, slots=True)
class Thing:
    """One role, consumer or policy.

    Args:
        kind: ``role``, ``consumer`` or ``policy``.
        name: a role's path (``skyflow/order/creds/x``), an app or a policy.
        auth: how a consumer logs in; else empty.
        last_used: when it last gave a token according to the log; None: never.
    """

    kind: str
    name: str
    last_used: datetime | None
    auth: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The existing roles, apps and policies, in addition to those in the log.

    Args:
        source: ``server``, ``manifest`` or ``log``: the source of the names.
        roles: mount path and role.
        apps: name and method of the logins that may read tokens.
        policies: those that grant a path of tokens.
        not_read: the parts that the server did not return.
    """

    source: str = "log"
    roles: frozenset[RoleKey] = frozenset()
    apps: frozenset[AppKey] = frozenset()
    policies: frozenset[str] = frozenset()
    not_read: tuple[NotRead, ...] = ()


@dataclass(frozen=True, slots=True)
class Unused:
    """The result.

    Args:
        things: not used in the window, by kind and name.
        counts: the total by kind.
        window: the requested time before the log's end.
        enough: the log covers the whole window; otherwise nothing can be called unused.
        read: the lines read; if some could not be read, nothing can be called unused either.
    """

    things: tuple[Thing, ...]
    counts: dict[str, int]
    covered: Covered
    window: timedelta
    enough: bool
    read: Counts
    known: Inventory = field(default_factory=Inventory)

    @property
    def certain(self) -> bool:
        """Whether absence from the logs proves that something was not used."""
        return self.enough and self.read.certain


def unused(answers: Search, usage: LastUse, known: Inventory, window: timedelta) -> Unused:
    """Return what was not used in the last ``window`` of the logs.

    Args:
        answers: the search result from which ``usage`` was made.
        usage: the last use of each thing in the logs.
        known: what exists in addition.
        window: the time before the logs' end.
    """
    covered = covered_by(answers.covered, usage, answers.nodes)
    enough = covered.seconds >= window.total_seconds() and not usage.too_many
    every = _things(usage, known)
    since = covered.end - window if covered.end else None
    idle = [one for one in every if since is None or one.last_used is None or one.last_used < since]
    counts = {kind: sum(one.kind == kind for one in every) for kind in _KINDS}
    return Unused(tuple(idle), counts, covered, window, enough, answers.counts(), known)


_KINDS = ("role", "consumer", "policy")


def _things(usage: LastUse, known: Inventory) -> list[Thing]:
    """Return all things: those known to exist, else those in the log."""
    roles = known.roles if known.source != "log" else usage.roles.keys()
    apps = {*usage.apps, *known.apps}
    names = known.policies if known.source == "server" else usage.policies.keys()
    return [
        *(
            Thing("role", f"{mount}/creds/{role}", usage.roles.get((mount, role)))
            for mount, role in sorted(roles)
        ),
        *(Thing("consumer", app, usage.apps.get((app, auth)), auth) for app, auth in sorted(apps)),
        *(Thing("policy", name, usage.policies.get(name)) for name in sorted(names)),
    ]


def known_from_manifest(manifest: Manifest, namespace: str = "") -> Inventory:
    """Return the roles that a manifest declares, applied in this namespace."""
    roles = {(mount.path, role.name) for mount in manifest.mounts for role in mount.roles}
    return Inventory("manifest", _placed(roles, namespace))


def _placed(roles: Iterable[RoleKey], namespace: str) -> frozenset[RoleKey]:
    return frozenset((in_namespace(mount, namespace), role) for mount, role in roles)


def known_from_server(
    gateway: Gateway, plugin_names: Iterable[str], *, parallelism: int = 8
) -> Inventory:
    """Return the roles, logins and policies that the server has.

    Raises:
        VaultError: the server does not list its mounts.
    """
    kinds = frozenset(plugin_names)
    mounts = [path for path, one in gateway.sys.mounts().items() if one.type in kinds]
    not_read: list[NotRead] = []
    roles: set[RoleKey] = set()
    with Workers(parallelism) as workers:
        listings = workers.map(partial(_listed_roles, gateway), mounts)
    for path, listed in zip(mounts, listings, strict=True):
        if isinstance(listed, NotRead):
            not_read.append(listed)
        else:
            roles.update((path, name) for name in listed)
    opening, missing = _opening(gateway, roles, parallelism)
    found = logins(gateway.transport, NotRead(""), opening, parallelism)
    return Inventory(
        "server",
        _placed(roles, gateway.transport.server.namespace),
        _consumers(found.found, opening),
        frozenset(opening),
        (*not_read, *missing, *found.not_read),
    )


def _listed_roles(gateway: Gateway, path: str) -> Mapping[str, LiveRole] | NotRead:
    return or_not_read(lambda: gateway.engine(path).roles(), f"{path}/roles", "list")


def _opening(
    gateway: Gateway, roles: Iterable[RoleKey], parallelism: int
) -> tuple[list[str], list[NotRead]]:
    """Return the policies with a rule that grants tokens of one of these roles."""
    texts = policies(gateway.transport, parallelism)
    if isinstance(texts, NotRead):
        return [], [texts]
    paths = sorted(f"{mount}/creds/{role}" for mount, role in roles)
    found = []
    for name, text in texts.items():
        rules = parse_policy(name, text).rules
        if any(grants(rule) and opened_by(rule, paths) for rule in rules):
            found.append(name)
    return found, []


def _consumers(found: Sequence[Login], opening: Sequence[str]) -> frozenset[AppKey]:
    return frozenset(
        (login.name.rpartition("/")[2], _NAMED[login.kind])
        for login in found
        if login.kind in _NAMED and not set(opening).isdisjoint(login.policies)
    )
