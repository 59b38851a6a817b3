"""Computes which logins can read one role's creds today, from the server's own answers.

Policies are decided with the server's order of precedence (``posture.acl``). What cannot be read
or decided is part of the answer.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, Literal

from skyflowctl.concurrency import Workers
from skyflowctl.frozen import dataclass
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.collect.logins import MAX_LOGINS, logins
from skyflowctl.posture.collect.reads import (
    keys,
    live_tokens,
    or_not_read,
    own_token,
    policies,
    read_fresh,
)
from skyflowctl.posture.facts import LiveToken, Login, NotRead, Tokens
from skyflowctl.posture.grants import may_open, opens
from skyflowctl.posture.policies import Policy, parse_policy
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Transport

Decision = Literal["yes", "maybe", "no"]
_NAMED_BY_ALIAS = frozenset({"userpass user", "ldap user"})


@dataclass(frozen=True, slots=True)
class Reader:
    """A login that can read the creds, or of which that cannot be decided.

    Args:
        kind: such as ``approle role``.
        name: with the path of its auth mount.
        decision: ``yes``, or ``maybe``, with the reason in ``why``.
        policies: the policies that allow it.
        entity: the entity whose policies count too; empty if none.
        guarded: whether a control group holds its requests until they are approved.
    """

    kind: str
    name: str
    decision: Decision
    policies: tuple[str, ...]
    entity: str = ""
    why: str = ""
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class WhoCan:
    """The answer.

    Args:
        path: of the creds.
        readers: by decision and name.
        examined: how many logins were examined.
        not_read: what could not be read; the answer is then incomplete.
    """

    path: str
    readers: tuple[Reader, ...]
    examined: int
    not_read: tuple[NotRead, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not self.not_read


@dataclass(frozen=True, slots=True)
class _Alias:
    mount: str
    name: str


@dataclass(frozen=True, slots=True)
class _Entity:
    name: str
    policies: frozenset[str]
    aliases: tuple[_Alias, ...]


@dataclass(frozen=True, slots=True)
class _Identity:
    """Entities with the policies of their groups, and groups that a login brings along."""

    entities: tuple[_Entity, ...] = ()
    external: tuple[tuple[str, frozenset[str]], ...] = ()
    not_read: tuple[NotRead, ...] = ()

    def at(self, mount: str) -> list[_Entity]:
        """Return the entities with an alias on an auth mount."""
        return [one for one in self.entities if any(a.mount == mount for a in one.aliases)]


@dataclass(frozen=True, slots=True)
class _Decider:
    """Decides about the path for sets of policies."""

    path: str
    policies: Mapping[str, Policy]
    now: datetime
    _known: dict[frozenset[str], tuple[Decision, str, bool]] = field(default_factory=dict)

    def decide(self, names: Iterable[str]) -> tuple[Decision, str, bool]:
        """Return the decision, its reason, and whether a control group guards the read."""
        key = frozenset(names)
        if key not in self._known:
            self._known[key] = self._decided(key)
        return self._known[key]

    def _decided(self, names: frozenset[str]) -> tuple[Decision, str, bool]:
        if "root" in names:
            return "yes", "", False
        held = [self.policies[name] for name in sorted(names) if name in self.policies]
        acl = Acl(held, self.now)
        allowed = opens(acl.capabilities(self.path))
        rule = acl.rule(self.path)
        guarded = rule is not None and bool(rule.guarded & {"read", "update", "create"})
        templates = [one.name for one in held if self._has_template(one)]
        if templates and not (allowed and self._templates_open(held)):
            why = f"a template in {', '.join(templates)} depends on the caller's identity"
            return "maybe", why, guarded
        return ("yes" if allowed else "no"), "", guarded

    def _has_template(self, policy: Policy) -> bool:
        """Whether a template of a policy may allow or deny the path."""
        return any(may_open(rule, self.path) for rule in policy.rules if rule.templated)

    def _templates_open(self, held: Iterable[Policy]) -> bool:
        """Whether every template that may match the path opens it too, so none decides."""
        rules = [rule for one in held for rule in one.rules if may_open(rule, self.path)]
        return all(opens(rule.capabilities) and not rule.guarded for rule in rules)

    def allowing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the policies among these that alone allow the path, or may."""
        return tuple(one for one in sorted(names) if self.decide({one})[0] != "no")


def who_can(
    gateway: Gateway, mount: str, role: str, now: datetime, *, parallelism: int = 8
) -> WhoCan:
    """Return which logins can read a role's creds.

    Raises:
        SealedError: the server is sealed.
        ServerUnreachableError: it does not answer.
    """
    transport, path = gateway.transport, f"{mount}/creds/{role}"
    own = own_token(transport)
    accessor = "" if isinstance(own, NotRead) else own.accessor
    tokens = live_tokens(transport, accessor, parallelism)
    texts = policies(transport, parallelism)
    not_read = [one for one in (tokens, texts) if isinstance(one, NotRead)]
    known = {} if isinstance(texts, NotRead) else texts
    parsed = {name: parse_policy(name, text) for name, text in known.items()}
    not_read += [
        NotRead(f"sys/policies/acl/{one.name}", why=one.problem)
        for one in parsed.values()
        if one.problem
    ]
    found = logins(transport, tokens, known, parallelism, identities=False)
    identity = _identity(transport, parallelism)
    not_read += [*found.not_read, *identity.not_read]
    if found.left_out:
        not_read.append(NotRead("auth", why=f"{found.left_out} logins are beyond the limit"))
    if not isinstance(tokens, NotRead) and tokens.total > len(tokens.found):
        why = f"{tokens.total - len(tokens.found)} live tokens are beyond the limit"
        not_read.append(NotRead("auth/token/accessors", why=why))
    decider = _Decider(path, parsed, now)
    aliases = _aliases(transport, found.found, identity, parallelism)
    not_read += [one for one in aliases.values() if isinstance(one, NotRead)]
    readers = [
        reader
        for login in found.found
        for reader in _readers(login, aliases.get(login), identity, decider)
    ]
    readers += _of_groups(identity, decider)
    readers += _of_earlier_logins(tokens, found.found, identity, decider)
    ordered = sorted(
        dict.fromkeys(readers), key=lambda one: (one.decision != "yes", one.kind, one.name)
    )
    return WhoCan(path, tuple(ordered), len(found.found), tuple(dict.fromkeys(not_read)))


def _readers(
    login: Login, alias: str | NotRead | None, identity: _Identity, decider: _Decider
) -> Iterator[Reader]:
    """Yield a login's rows: alone, and with the policies of the entities that log in by it, or may.

    Args:
        login: the login.
        alias: its own alias in identities; None or unread: it is not known which entities log in
            by it.
        identity: the entities.
        decider: decides.
    """
    names = frozenset(login.policies)
    if login.any_of:
        for name in login.policies:
            yield from _row(login, {name, "default"}, decider)
        return
    there = identity.at(_mount_of(login))
    if isinstance(alias, str):
        there = [one for one in there if _Alias(_mount_of(login), alias) in one.aliases]
        for entity in there:
            yield from _row(login, names | entity.policies, decider, entity.name)
        if not there:
            yield from _row(login, names, decider)
        return
    alone = decider.decide(names)[0]
    differing = [one for one in there if decider.decide(names | one.policies)[0] != alone]
    denied = [one.name for one in differing if decider.decide(names | one.policies)[0] == "no"]
    why = f"not if {' or '.join(denied)} logs in through it" if denied else ""
    yield from _row(login, names, decider, maybe=why)
    for entity in differing:
        why = f"only if {entity.name} logs in through it"
        yield from _row(login, names | entity.policies, decider, entity.name, maybe=why)


def _row(
    login: Login,
    names: Iterable[str],
    decider: _Decider,
    entity: str = "",
    *,
    maybe: str = "",
) -> Iterator[Reader]:
    """Yield the row of a login with these policies; ``maybe``: why that is not certain."""
    decision, why, guarded = decider.decide(names)
    if decision != "no":
        by = decider.allowing(names)
        sure: Decision = "maybe" if maybe else decision
        yield Reader(login.kind, login.name, sure, by, entity, maybe or why, guarded)


def _mount_of(login: Login) -> str:
    return login.name.rpartition("/")[0]


def _aliases(
    transport: Transport, found: Sequence[Login], identity: _Identity, parallelism: int
) -> dict[Login, str | NotRead | None]:
    """Return the aliases that logins have in identities; None if each person has one of his own."""
    asked = [one for one in found if not one.any_of and identity.at(_mount_of(one))]
    with Workers(parallelism) as pool:
        return dict(zip(asked, pool.map(lambda one: _alias_of(transport, one), asked), strict=True))


def _alias_of(transport: Transport, login: Login) -> str | NotRead | None:
    mount, _, name = login.name.rpartition("/")
    if login.kind in _NAMED_BY_ALIAS:
        return name
    if login.kind != "approle role":
        return None
    path = f"auth/{mount}/role/{name}/role-id"
    found = or_not_read(lambda: read_fresh(transport, path), path, "read")
    return found if isinstance(found, NotRead) else str(found.get("role_id") or "") or None


def _of_earlier_logins(
    tokens: Tokens | NotRead, found: Sequence[Login], identity: _Identity, decider: _Decider
) -> Iterator[Reader]:
    """Yield live tokens whose own login would not get these policies today, or is not known: a
    token keeps its own policies until it ends."""
    if isinstance(tokens, NotRead):
        return
    today = {one.name: one for one in found if not one.any_of}
    seen: Counter[tuple[str, frozenset[str]]] = Counter(
        (one.display_name, frozenset(one.policies))
        for one in tokens.found
        if not one.created_by.startswith("auth/token/") and not _explained(one, today, identity)
    )
    for (name, names), number in sorted(seen.items(), key=lambda one: one[0][0]):
        many = f" ({number} tokens)" if number > 1 else ""
        login = Login("live token", f"{name}{many}", tuple(names))
        yield from _row(login, names, decider)


def _explained(token: LiveToken, today: Mapping[str, Login], identity: _Identity) -> bool:
    """Whether the login that a token came from would get the same policies today."""
    mount = token.created_by.removeprefix("auth/").rpartition("/login")[0]
    login = today.get(f"{mount}/{token.login}")
    if login is None:
        return False
    alone, names = frozenset(login.policies), frozenset(token.policies)
    return names == alone or any(names == alone | one.policies for one in identity.at(mount))


def _of_groups(identity: _Identity, decider: _Decider) -> Iterator[Reader]:
    for name, names in identity.external:
        decision, why, guarded = decider.decide(names)
        if decision != "no":
            why = why or "its members are known only when they log in"
            yield Reader("external group", name, "maybe", decider.allowing(names), "", why, guarded)


def _identity(transport: Transport, parallelism: int) -> _Identity:
    not_read: list[NotRead] = []
    with Workers(parallelism) as pool:
        found = {}
        for kind in ("group", "entity"):
            folder = f"identity/{kind}/name"
            names = or_not_read(lambda at=folder: keys(transport, at), folder, "list")  # type: ignore[misc]
            if isinstance(names, NotRead):
                not_read.append(names)
                names = []
            if len(names) > MAX_LOGINS:
                not_read.append(NotRead(folder, why=f"{len(names)} of them are beyond the limit"))
            paths = [f"{folder}/{name}" for name in names[:MAX_LOGINS]]
            read = pool.map(
                lambda path: or_not_read(
                    lambda: read_fresh(transport, path), f"{path.rpartition('/')[0]}/*", "read"
                ),
                paths,
            )
            not_read += [one for one in read if isinstance(one, NotRead)]
            found[kind] = [one for one in read if not isinstance(one, NotRead)]
    raw = {str(one.get("id")): one for one in found["group"]}
    by_id = {id_: _inherited(id_, raw) for id_ in raw}
    entities = tuple(_entity(one, by_id) for one in found["entity"] if not one.get("disabled"))
    external = tuple(
        (str(one.get("name")), by_id[str(one.get("id"))])
        for one in found["group"]
        if one.get("type") == "external"
    )
    return _Identity(entities, external, tuple(not_read))


def _inherited(group: str, raw: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the policies of a group and of all groups that it is a member of."""
    found: set[str] = set()
    seen: set[str] = set()
    left = [group]
    while left:
        one = left.pop()
        if one not in seen and one in raw:
            seen.add(one)
            found |= _names(raw[one])
            left += [str(parent) for parent in raw[one].get("parent_group_ids") or ()]
    return frozenset(found)


def _entity(raw: Mapping[str, Any], groups: Mapping[str, frozenset[str]]) -> _Entity:
    ids: Sequence[Any] = raw.get("group_ids") or ()
    names = _names(raw).union(*(groups.get(str(one), frozenset()) for one in ids))
    aliases = tuple(
        _Alias(
            str(one.get("mount_path") or "").removeprefix("auth/").strip("/"),
            str(one.get("name") or ""),
        )
        for one in raw.get("aliases") or ()
    )
    return _Entity(str(raw.get("name") or ""), names, aliases)


def _names(raw: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(one).lower() for one in raw.get("policies") or ())
