"""Computes from policies and logins who can read which role's tokens."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime

from skyflowctl.frozen import dataclass
from skyflowctl.posture.acl import Acl, matches_segments
from skyflowctl.posture.facts import Facts, Login, NotRead
from skyflowctl.posture.policies import PathRule, Policy, parse_policy
from skyflowctl.wildcards import with_gaps

# Creds can be read and written alike; sudo alone allows nothing.
_GIVES_TOKEN = frozenset({"read", "create", "update", "root"})
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")


@dataclass(frozen=True, slots=True)
class Reach:
    """The creds paths that the policies of a server allow.

    Args:
        paths: the paths of every role's tokens, sorted.
        policies: by name.
        by_policy: the paths that each policy allows on its own, by policy name.
        templated: the paths that a template may allow to some callers, by policy name.
    """

    paths: Sequence[str]
    policies: Mapping[str, Policy]
    by_policy: Mapping[str, tuple[str, ...]]
    templated: Mapping[str, tuple[str, ...]]
    now: datetime
    _cache: dict[frozenset[str], frozenset[str]] = field(default_factory=dict, repr=False)

    def of_login(self, login: Login) -> frozenset[str]:
        """Return the paths that a login's tokens may read."""
        if login.any_of:
            each = [self._together({name, "default"}) for name in login.policies]
            return frozenset().union(*each)
        return self._together(login.policies)

    def _together(self, names: Iterable[str]) -> frozenset[str]:
        """Return what these policies allow together; one may deny what another grants."""
        key = frozenset(names)
        if key not in self._cache:
            held = [self.policies[name] for name in key if name in self.policies]
            # Together they allow nothing that none of them allows alone.
            candidates = {path for one in held for path in self.by_policy[one.name]}
            acl = Acl(held, self.now)
            self._cache[key] = frozenset(
                path for path in candidates if _GIVES_TOKEN & acl.capabilities(path)
            )
        return self._cache[key]


def reach_of(facts: Facts) -> Reach:
    """Return what the policies on the server allow; unreadable ones count as allowing nothing."""
    texts = {} if isinstance(facts.policies, NotRead) else facts.policies
    policies = {name: parse_policy(name, text) for name, text in texts.items()}
    policies["root"] = Policy("root", ())
    paths = facts.creds_paths()
    return Reach(
        paths=paths,
        policies=policies,
        by_policy={name: _opened(one, paths, facts.now) for name, one in policies.items()},
        templated={name: found for name, one in policies.items() if (found := _maybe(one, paths))},
        now=facts.now,
    )


def opened_by(rule: PathRule, paths: Sequence[str]) -> list[str]:
    """Return the sorted paths that a rule matches, whatever its capabilities."""
    if rule.has_segments:
        return [path for path in paths if matches_segments(rule.path, path)]
    start = bisect_left(paths, rule.path)
    found = []
    for path in paths[start:]:
        if not (path.startswith(rule.path) if rule.is_prefix else path == rule.path):
            break
        found.append(path)
    return found


def grants(rule: PathRule) -> bool:
    """Return whether a rule alone allows tokens at its paths."""
    return bool(_GIVES_TOKEN & rule.capabilities)


def opens(capabilities: frozenset[str]) -> bool:
    """Return whether these capabilities at the path of creds give a token."""
    return bool(_GIVES_TOKEN & capabilities)


def may_open(rule: PathRule, path: str) -> bool:
    """Return whether a rule with a template may match a path, whatever it grants or denies."""
    return rule.templated and _as_pattern(rule).fullmatch(path) is not None


def _opened(policy: Policy, paths: Sequence[str], now: datetime) -> tuple[str, ...]:
    if policy.name == "root":
        return tuple(paths)
    about = {path for rule in policy.rules if grants(rule) for path in opened_by(rule, paths)}
    if not about:
        return ()
    acl = Acl([policy], now)
    return tuple(path for path in sorted(about) if _GIVES_TOKEN & acl.capabilities(path))


def _maybe(policy: Policy, paths: Sequence[str]) -> tuple[str, ...]:
    """Return paths that a rule with a template may allow; a template replaces part of a segment."""
    patterns = [_as_pattern(rule) for rule in policy.rules if rule.templated and grants(rule)]
    return tuple(path for path in paths if any(one.fullmatch(path) for one in patterns))


def _as_pattern(rule: PathRule) -> re.Pattern[str]:
    """Return the pattern of a rule with templates; a template matches any text in its segment."""
    segments = rule.path.removesuffix("*").split("/")
    text = "/".join(
        "[^/]*" if each == "+" else with_gaps(map(re.escape, _TEMPLATE.split(each)), "[^/]")
        for each in segments
    )
    open_ended = rule.is_prefix or rule.path.endswith("*")
    return re.compile(text + (".*" if open_ended else ""))
