"""Checks control groups, because approvers see the whole request, including a key in it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from skyflowctl.posture.acl import Acl
from skyflowctl.posture.facts import Facts, NotRead
from skyflowctl.posture.grants import opened_by
from skyflowctl.posture.least import paths_told_apart
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.policies import PathRule, Policy, parse_policy
from skyflowctl.posture.text import unchecked
from skyflowctl.text import counted, listed

_WRITES = frozenset({"create", "update"})
_CHANGES = frozenset({"create", "update", "patch", "delete"})
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_KEY_FIELD = "credentials_json"


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


def lifted_guards(facts: Facts) -> Iterator[Finding]:
    """No other policy of a login opens a path that a control group guards for it."""
    if isinstance(facts.policies, NotRead):
        yield unchecked("lifted-guards", facts.policies, core=True)
        return
    policies = {name: parse_policy(name, text) for name, text in facts.policies.items()}
    guarding = {one.name for one in policies.values() if any(map(_guards, one.rules))}
    holders = _holders(facts, guarding)
    for own, names in sorted(holders):
        found = _lifting(policies[own], [policies[name] for name in names if name in policies])
        if found:
            yield _lifted(own, found, holders[own, names])


def _holders(facts: Facts, guarding: set[str]) -> Mapping[tuple[str, tuple[str, ...]], list[str]]:
    """Return the logins and tokens by a guarding policy and all policies that they have with it."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {(name, (name,)): [] for name in guarding}
    held = [(str(one), one.policies) for one in (facts.logins.found if facts.logins else ())]
    if not isinstance(facts.tokens, NotRead):
        held += [(f"token {one.display_name}", one.policies) for one in facts.tokens.found]
    for who, policies in held:
        for name in guarding & set(policies):
            found.setdefault((name, tuple(sorted(set(policies)))), []).append(who)
    return found


def _guards(rule: PathRule) -> bool:
    return bool(rule.guarded & rule.capabilities & _CHANGES)


def _lifting(own: Policy, held: Sequence[Policy]) -> list[str]:
    """Return the paths of rules that the server prefers to a guard, or may: they are equal."""
    guards = [rule for rule in own.rules if _guards(rule)]
    free = [
        (policy.name, rule)
        for policy in held
        for rule in policy.rules
        if rule.capabilities & _CHANGES - rule.guarded
    ]
    found = []
    for name, rule in free:
        other = [one for one in guards if _wins(rule, one)]
        if other:
            found.append(f'{name}: path "{rule.text}" lifts the guard of "{other[0].text}"')
    return sorted(set(found))


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
        "lifted-guards",
        Severity.CRITICAL,
        FindingSubject("policy", own),
        f"the control groups of {own} have no effect at {counted(len(found), 'path')}",
        "the server prefers a more exact path, so these changes run without an approval",
        (*found, *([f"held by {listed(sorted(set(who)))}"] if who else [])),
        "take these paths out of the other policy, or the policy from these logins",
    )


CHECKS = (
    Check(
        "lifted-guards",
        "control groups that another path lifts",
        "No other path or policy of a login opens what a control group guards.",
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
