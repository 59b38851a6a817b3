"""Checks control groups, because approvers see the whole request, including a key in it."""

from collections.abc import Iterator, Mapping

from skyflowctl.posture.facts import Facts, NotRead
from skyflowctl.posture.grants import opened_by
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.policies import PathRule, parse_policy
from skyflowctl.posture.text import unchecked
from skyflowctl.text import counted, listed

_WRITES = frozenset({"create", "update"})
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


CHECKS = (
    Check(
        "guarded-keys",
        "keys that approvers could read",
        "No control group guards a path that takes a key in its request.",
        guarded_keys,
        of_mounts=True,
    ),
)
