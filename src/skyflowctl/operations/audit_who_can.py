"""Computes which logins can read one role's creds today, from the server's own answers.

Policies are decided with the server's order of precedence (``posture.acl``). What cannot be read
or decided is part of the answer.
"""

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
from skyflowctl.posture.facts import Login, NotRead
from skyflowctl.posture.grants import may_open, opens
from skyflowctl.posture.policies import Policy, parse_policy
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Transport

Decision = Literal["yes", "maybe", "no"]
_IDENTITY_KINDS = frozenset({"entity", "group"})
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


@dataclass(frozen=True, slots=True)
class _Judge:
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
        if templates:
            why = f"a template in {', '.join(templates)} depends on the caller's identity"
            return "maybe", why, guarded
        return ("yes" if allowed else "no"), "", guarded

    def _has_template(self, policy: Policy) -> bool:
        """Whether a template of a policy may allow or deny the path."""
        return any(may_open(rule, self.path) for rule in policy.rules if rule.templated)

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
    accessor = "" if isinstance(own, NotRead) else str(own.get("accessor") or "")
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
    found = logins(transport, tokens, known, parallelism)
    identity = _identity(transport, parallelism)
    not_read += [*found.not_read, *identity.not_read]
    if found.left_out:
        not_read.append(NotRead("auth", why=f"{found.left_out} logins are beyond the limit"))
    if not isinstance(tokens, NotRead) and tokens.total > len(tokens.found):
        why = f"{tokens.total - len(tokens.found)} live tokens are beyond the limit"
        not_read.append(NotRead("auth/token/accessors", why=why))
    judge = _Judge(path, parsed, now)
    examined = [one for one in found.found if one.kind not in _IDENTITY_KINDS]
    readers = [
        reader for login in examined for reader in _readers(transport, login, identity, judge)
    ]
    readers += _of_groups(identity, judge)
    ordered = sorted(
        dict.fromkeys(readers), key=lambda one: (one.decision != "yes", one.kind, one.name)
    )
    return WhoCan(path, tuple(ordered), len(examined), tuple(dict.fromkeys(not_read)))


def _readers(
    transport: Transport, login: Login, identity: _Identity, judge: _Judge
) -> Iterator[Reader]:
    """Yield a login's rows: alone, and with the policies of the entities that may log in by it."""
    names = frozenset(login.policies)
    if login.any_of:
        for name in login.policies:
            yield from _row(login, {name, "default"}, judge)
        return
    mount = login.name.rpartition("/")[0]
    there = [one for one in identity.entities if any(a.mount == mount for a in one.aliases)]
    alias = _alias_of(transport, login) if there else None
    if alias is not None:
        there = [one for one in there if _Alias(mount, alias) in one.aliases]
    if alias is None or not there:
        yield from _row(login, names, judge)
    alone = judge.decide(names)[0]
    for entity in there:
        together = names | entity.policies
        if alias is not None or judge.decide(together)[0] != alone:
            yield from _row(login, together, judge, entity.name)


def _row(login: Login, names: Iterable[str], judge: _Judge, entity: str = "") -> Iterator[Reader]:
    decision, why, guarded = judge.decide(names)
    if decision != "no":
        by = judge.allowing(names)
        yield Reader(login.kind, login.name, decision, by, entity, why, guarded)


def _alias_of(transport: Transport, login: Login) -> str | None:
    """Return the alias that a login has in identities; None if each login has its own."""
    mount, _, name = login.name.rpartition("/")
    if login.kind in _NAMED_BY_ALIAS:
        return name
    if login.kind != "approle role":
        return None
    path = f"auth/{mount}/role/{name}/role-id"
    found = or_not_read(lambda: read_fresh(transport, path), path, "read")
    return None if isinstance(found, NotRead) else str(found.get("role_id") or "") or None


def _of_groups(identity: _Identity, judge: _Judge) -> Iterator[Reader]:
    for name, names in identity.external:
        decision, why, guarded = judge.decide(names)
        if decision != "no":
            why = why or "its members are known only when they log in"
            yield Reader("external group", name, "maybe", judge.allowing(names), "", why, guarded)


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
    by_id = {str(one.get("id")): _names(one) for one in found["group"]}
    entities = tuple(_entity(one, by_id) for one in found["entity"] if not one.get("disabled"))
    external = tuple(
        (str(one.get("name")), _names(one))
        for one in found["group"]
        if one.get("type") == "external"
    )
    return _Identity(entities, external, tuple(not_read))


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
