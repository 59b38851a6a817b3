"""Roles, consumers and policies that have given no token for a while."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from skyflowctl.audit.model import Counts
from skyflowctl.audit.query import in_namespace
from skyflowctl.audit.search import Search
from skyflowctl.audit.used import AppKey, Covered, LastUse, RoleKey, covered_by
from skyflowctl.concurrency import Workers
from skyflowctl.manifest.model import Manifest
from skyflowctl.posture.collect.logins import logins
from skyflowctl.posture.collect.reads import or_not_read, policies
from skyflowctl.posture.facts import Login, NotRead
from skyflowctl.posture.grants import grants, opened_by
from skyflowctl.posture.policies import parse_policy
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveRole

# Logins whose own name is the app's in the log; others are told apart by nothing there.
_NAMED = {"approle role": "approle", "userpass user": "userpass", "ldap user": "ldap"}


@dataclass(frozen=True, slots=True)
class Thing:
    """One role, consumer or policy.

    Args:
        kind: ``role``, ``consumer`` or ``policy``.
        name: a role's path (``skyflow/order/creds/x``), an app, a policy.
        auth: how a consumer logs in; else empty.
        last_used: when it last gave a token, in the whole log; None: never in it.
    """

    kind: str
    name: str
    last_used: datetime | None
    auth: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is, besides what the log names.

    Args:
        source: ``server``, ``manifest`` or ``log``: where the names are from.
        roles: mount path and role.
        apps: login name and method, of those that may read tokens.
        policies: those that open a path of tokens.
        not_read: what the server did not tell.
    """

    source: str = "log"
    roles: frozenset[RoleKey] = frozenset()
    apps: frozenset[AppKey] = frozenset()
    policies: frozenset[str] = frozenset()
    not_read: tuple[NotRead, ...] = ()


@dataclass(frozen=True, slots=True)
class Unused:
    """The answer.

    Args:
        things: not used in the window, by kind and name.
        counts: by kind, how many there are in all.
        window: how far back from the log's end was asked.
        enough: the log covers all of it; else nothing can be called unused.
        read: what was read; unless all of it could be, nothing can be either.
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
        """Whether what was not met in the logs was not used."""
        return self.enough and self.read.certain


def unused(answers: Search, usage: LastUse, known: Inventory, window: timedelta) -> Unused:
    """Return what was not used in the last ``window`` of the logs that were read.

    Args:
        answers: of which the usage was made.
        usage: what they show to have been used.
        known: what there is besides.
        window: back from the logs' end.
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
    """Return all there is: what is known to exist, else what the log names."""
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
    mounts = [path for path, one in gateway.list_mounts().items() if one.type in kinds]
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
    return or_not_read(lambda: gateway.list_roles(path), f"{path}/roles", "list")


def _opening(
    gateway: Gateway, roles: Iterable[RoleKey], parallelism: int
) -> tuple[list[str], list[NotRead]]:
    """Return the policies with a rule that opens tokens of one of these roles."""
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
