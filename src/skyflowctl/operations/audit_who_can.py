"""Computes which logins can read one role's creds today, from the server's own answers.

Policies are decided with the server's order of precedence (``posture.acl``). What cannot be read
or decided is part of the answer.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Literal

from skyflowctl.frozen import dataclass
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.collect.identities import aliases_of
from skyflowctl.posture.collect.logins import logins
from skyflowctl.posture.collect.reads import live_tokens, own_token, policies
from skyflowctl.posture.facts import Identities, LiveToken, Login, NotRead, Tokens
from skyflowctl.posture.grants import may_open, opens
from skyflowctl.posture.identity import held_policies
from skyflowctl.posture.policies import Policy, parse_policy
from skyflowctl.vault.gateway import Gateway

Decision = Literal["yes", "maybe", "no"]


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
    identity = found.identities
    not_read += found.not_read
    if found.left_out:
        not_read.append(NotRead("auth", why=f"{found.left_out} logins are beyond the limit"))
    if not isinstance(tokens, NotRead) and tokens.total > len(tokens.found):
        why = f"{tokens.total - len(tokens.found)} live tokens are beyond the limit"
        not_read.append(NotRead("auth/token/accessors", why=why))
    decider = _Decider(path, parsed, now)
    aliases = aliases_of(transport, found.found, identity, parallelism)
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
    login: Login, alias: str | NotRead | None, identity: Identities, decider: _Decider
) -> Iterator[Reader]:
    """Yield a login's rows: alone, and with the policies of the entities that log in by it, or may.

    Args:
        login: the login.
        alias: its own alias in identities; None or unread: it is not known which entities log in
            by it.
        identity: the entities.
        decider: decides.
    """
    if login.any_of:
        for name in login.policies:
            yield from _row(login, {name, "default"}, decider)
        return
    alone = decider.decide(login.policies)[0]
    held = held_policies(login, alias, identity)
    differing = [one for one in held if not one.sure and decider.decide(one.names)[0] != alone]
    denied = [
        one.entity.name for one in differing if one.entity and decider.decide(one.names)[0] == "no"
    ]
    why = f"not if {' or '.join(denied)} logs in through it" if denied else ""
    for one in [one for one in held if one.sure] + differing:
        entity = one.entity.name if one.entity else ""
        maybe = why if one.sure else f"only if {entity} logs in through it"
        yield from _row(login, one.names, decider, entity, maybe=maybe)


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


def _of_earlier_logins(
    tokens: Tokens | NotRead, found: Sequence[Login], identity: Identities, decider: _Decider
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


def _explained(token: LiveToken, today: Mapping[str, Login], identity: Identities) -> bool:
    """Whether the login that a token came from would get the same policies today."""
    mount = token.created_by.removeprefix("auth/").rpartition("/login")[0]
    login = today.get(f"{mount}/{token.login}")
    if login is None:
        return False
    alone, names = frozenset(login.policies), frozenset(token.policies)
    return names == alone or any(names == alone | one.policies for one in identity.at(mount))


def _of_groups(identity: Identities, decider: _Decider) -> Iterator[Reader]:
    for one in identity.external():
        decision, why, guarded = decider.decide(one.policies)
        if decision != "no":
            why = why or "its members are known only when they log in"
            by = decider.allowing(one.policies)
            yield Reader("external group", one.name, "maybe", by, "", why, guarded)
