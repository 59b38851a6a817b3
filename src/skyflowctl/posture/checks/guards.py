"""Checks control groups, because approvers see the whole request, including a key in it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from skyflowctl.posture.acl import Acl
from skyflowctl.posture.facts import Facts, NotRead, ServerLogins
from skyflowctl.posture.grants import opened_by
from skyflowctl.posture.identity import auth_mount_of, held_policies
from skyflowctl.posture.least import paths_told_apart
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.policies import PathRule, Policy, parse_policy
from skyflowctl.posture.text import unchecked
from skyflowctl.text import counted, listed

_WRITES = frozenset({"create", "update"})
_CHANGES = frozenset({"create", "update", "patch", "delete"})
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_KEY_FIELD = "credentials_json"
_LIFTED = "lifted-guards"
_FIX = (
    "take these paths out of the other policy, or the policy from these logins, entities or groups"
)


def guarded_keys(facts: Facts) -> Iterator[Finding]:
    """No approver of a guarded request can see a key."""
    if isinstance(facts.policies, NotRead):
        yield unchecked("guarded-keys", facts.policies, core=True)
        return
    # Both have a key in the body: a config write, and the verification of a candidate.
    paths = sorted(f"{one.path}/config{end}" for one in facts.ours for end in ("", "/verify"))
    for name, text in sorted(facts.policies.items()):
        found = _shown(parse_policy(name, text).rules, paths, facts)
        if found:
            yield _finding(name, found)


def _shown(
    rules: tuple[PathRule, ...], paths: list[str], facts: Facts
) -> Mapping[PathRule, list[str]]:
    """Return the rules that would show a key to an approver, with their paths."""
    found = {}
    for rule in rules:
        live = rule.until is None or facts.now < rule.until
        holds = rule.guarded & rule.capabilities & _WRITES
        about = opened_by(rule, paths) if live and holds and rule.may_send(_KEY_FIELD) else []
        if about:
            found[rule] = about
    return found


def _finding(name: str, found: Mapping[PathRule, list[str]]) -> Finding:
    paths = sorted({path for about in found.values() for path in about})
    return Finding(
        "guarded-keys",
        Severity.HIGH,
        FindingSubject("policy", name),
        f"approvers of the policy {name} could read keys written to {counted(len(paths), 'path')}",
        "approvers see a parked request in plain text, with the key that the stock client sends",
        (*(f'path "{rule.text}" has a control_group' for rule in found), listed(paths)),
        f'add denied_parameters = {{ "{_KEY_FIELD}" = [] }} to these paths, and name keys that are'
        " on the server with server_file",
    )


Lifts = Mapping[str, Mapping[str, Sequence[str]]]
"""By guarding policy and policy that lifts its guards: the paths, one line each."""


def lifted_guards(facts: Facts) -> Iterator[Finding]:
    """No other policy of a login opens a path that a control group guards for it."""
    if isinstance(facts.policies, NotRead):
        yield unchecked(_LIFTED, facts.policies, core=True)
        return
    lifts = lifting_policies(facts.policies)
    if any(own != other for own, others in lifts.items() for other in others):
        yield from (unchecked(_LIFTED, one, core=True) for one in _unknown(lifts, facts))
    sure, maybe = _by_holder(lifts, facts)
    for (own, others), who in sorted(sure.items()):
        yield _lifted(own, _lines(lifts, own, others), who)
    for (own, others), who in sorted(maybe.items()):
        yield _perhaps_lifted(own, _lines(lifts, own, others), who)


def lifting_policies(texts: Mapping[str, str]) -> Lifts:
    """Return which policies lift the guards of which; a policy may lift its own."""
    policies = [parse_policy(name, text) for name, text in sorted(texts.items())]
    free = {
        one.name: [(_fixed(rule), rule) for rule in one.rules if _frees(rule)] for one in policies
    }
    found: dict[str, dict[str, Sequence[str]]] = {}
    for own in policies:
        guards = [(_fixed(rule), rule) for rule in own.rules if _guards(rule)]
        for other, rules in free.items() if guards else ():
            lines = _lifting(guards, rules)
            if lines:
                found.setdefault(own.name, {})[other] = [f"{other}: {one}" for one in lines]
    return found


def _lines(lifts: Lifts, own: str, others: Sequence[str]) -> list[str]:
    return [line for other in others for line in lifts[own][other]]


def _unknown(lifts: Lifts, facts: Facts) -> Iterator[NotRead]:
    """Yield what is not known about who holds which policies."""
    logins = facts.logins or ServerLogins()
    yield from logins.not_read
    for login, alias in logins.aliases.items():
        if isinstance(alias, NotRead) and any(
            one.entity and _together(lifts, (one.of_login, one.entity.policies))
            for one in held_policies(login, alias, logins.identities)
        ):
            yield alias
    if logins.left_out:
        yield NotRead("auth", why=f"{logins.left_out} logins past the limit were not read")
    if isinstance(facts.tokens, NotRead):
        yield facts.tokens
    elif facts.tokens.total > len(facts.tokens.found):
        more = facts.tokens.total - len(facts.tokens.found)
        yield NotRead("auth/token/accessors", why=f"{more} live tokens past the limit")


_Holders = dict[tuple[str, tuple[str, ...]], list[str]]


def _by_holder(lifts: Lifts, facts: Facts) -> tuple[_Holders, _Holders]:
    """Return who holds a guarding policy with those that lift it, and who perhaps does."""
    sure: _Holders = {(own, (own,)): [] for own, others in lifts.items() if own in others}
    maybe: _Holders = {}
    for who, parts in _held(facts) if lifts else ():
        pairs = _together(lifts, parts)
        found = sure if len(parts) == 1 else maybe
        for own in {own for own, _ in pairs}:
            others = tuple(sorted(other for mine, other in pairs if mine == own))
            found.setdefault((own, others), []).append(who)
    return sure, maybe


_Parts = tuple[frozenset[str], ...]


def _together(lifts: Lifts, parts: _Parts) -> set[tuple[str, str]]:
    """Return the pairs that lift if the parts come together, without those of one of several."""
    pairs = _pairs(lifts, frozenset[str]().union(*parts))
    return pairs.difference(*(_pairs(lifts, one) for one in parts)) if len(parts) > 1 else pairs


def _pairs(lifts: Lifts, names: frozenset[str]) -> set[tuple[str, str]]:
    return {(own, other) for own in lifts.keys() & names for other in lifts[own].keys() & names}


def _held(facts: Facts) -> Iterator[tuple[str, _Parts]]:
    """Yield holders with their policies; in several parts if they perhaps come together."""
    logins = facts.logins or ServerLogins()
    known, brought = logins.identities, _brought(logins)
    for login in logins.found:
        for one in held_policies(login, logins.aliases.get(login), known):
            who = str(login)
            parts: _Parts = (one.names,)
            if one.entity and one.sure:
                who = f"{login} with the entity {one.entity.name}"
            elif one.entity:
                who = f"{login}, if {one.entity.name} logs in through it"
                parts = (one.of_login, one.entity.policies)
            yield who, parts
            yield from _in_groups(who, one.names, auth_mount_of(login), brought)
    for entity in known.entities:
        yield f"entity {entity.name}", (entity.policies,)
        for mount in sorted({one.mount for one in entity.aliases}):
            yield from _in_groups(f"entity {entity.name}", entity.policies, mount, brought)
    for group in known.groups:
        yield f"group {group.name}", (group.policies,)
    if not isinstance(facts.tokens, NotRead):
        for token in facts.tokens.found:
            yield f"token {token.display_name}", (frozenset(token.policies),)


def _in_groups(
    who: str, names: frozenset[str], mount: str, brought: Mapping[str, _Parts]
) -> Iterator[tuple[str, _Parts]]:
    if mount in brought:
        yield f"{who}, if groups of {mount} come with it", (names, *brought[mount])


def _brought(logins: ServerLogins) -> Mapping[str, _Parts]:
    """Return by auth mount the policies of each group that its logins may bring along."""
    found: dict[str, _Parts] = {}
    for group in logins.identities.external():
        found[group.mount] = (*found.get(group.mount, ()), group.policies)
    for login in logins.found:
        if login.kind == "ldap group":
            mount = auth_mount_of(login)
            found[mount] = (*found.get(mount, ()), frozenset(login.policies))
    return found


def _guards(rule: PathRule) -> bool:
    return bool(rule.guarded & rule.capabilities & _CHANGES)


_Rules = Sequence[tuple[str, PathRule]]


def _lifting(guards: _Rules, free: _Rules) -> list[str]:
    """Return the paths of rules that the server prefers to a guard, or may: they are equal."""
    found = set()
    for start, rule in free:
        for its, guard in guards:
            # A path that both match begins with both; it is told fast that most have none.
            if (start.startswith(its) or its.startswith(start)) and _wins(rule, guard):
                found.add(f'path "{rule.text}" lifts the guard of "{guard.text}"')
                break
    return sorted(found)


def _fixed(rule: PathRule) -> str:
    """Return the part of a path before its first wildcard or template."""
    return re.split(r"[+*]|\{\{", rule.path, maxsplit=1)[0]


def _frees(rule: PathRule) -> bool:
    return bool(rule.capabilities & _CHANGES - rule.guarded)


def _wins(rule: PathRule, guard: PathRule) -> bool:
    """Whether a rule decides about some path that a guard is about, or has the guard's own path."""
    if (rule.path, rule.is_prefix) == (guard.path, guard.is_prefix):
        return True
    acl = Acl([Policy("", (rule, guard))], _ALWAYS)
    shared = paths_told_apart([guard], [rule], templates=True)
    # A path of both is decided by one of them; a path of the guard alone by the guard.
    return any(acl.rule(path) == rule for path in shared)


def _lifted(own: str, found: Sequence[str], who: Sequence[str]) -> Finding:
    return Finding(
        _LIFTED,
        Severity.CRITICAL,
        FindingSubject("policy", own),
        f"the control groups of {own} have no effect at {counted(len(found), 'path')}",
        "the server prefers a more exact path, so these changes run without an approval",
        (*found, *([f"held by {listed(sorted(set(who)))}"] if who else [])),
        _FIX,
    )


def _perhaps_lifted(own: str, found: Sequence[str], who: Sequence[str]) -> Finding:
    return Finding(
        _LIFTED,
        Severity.HIGH,
        FindingSubject("policy", own),
        f"not checked: the control groups of {own} may have no effect at "
        + counted(len(found), "path"),
        "who logs in through these logins, and with which groups, is known only when they do",
        (*found, f"perhaps held by {listed(sorted(set(who)))}"),
        _FIX,
        unchecked=True,
    )


CHECKS = (
    Check(
        _LIFTED,
        "control groups that another path lifts",
        "No other path or policy of a login or its identity opens what a control group guards.",
        lifted_guards,
    ),
    Check(
        "guarded-keys",
        "keys that approvers could read",
        "No control group guards a path that takes a key in its request.",
        guarded_keys,
        of_mounts=True,
    ),
)
