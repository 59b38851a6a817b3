"""Computes what a set of policies allows at a path, with the server's own order of precedence.

Measured against OpenBao 2.7.2 with random policies (``tests/e2e/test_posture_acl.py``). An
exact path wins over every other. Else, of the longest prefix and all paths with ``+`` that
match: the one whose first ``+`` or ``*`` comes last; one without ``*`` at its end; the one
with fewer ``+``; the longer; the greater text. Rules of the same path are one rule: their
capabilities add up, and ``deny`` in any of them removes all.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from skyflowctl.posture.policies import DENY, PathRule, Policy

_Priority = tuple[int, bool, int, int, str]


class Acl:
    """The combined rules of the policies of a token.

    A rule with a template is ignored here, because its path depends on the caller.

    Args:
        policies: all policies of the token.
        now: rules that have expired by then are ignored.
    """

    def __init__(self, policies: Iterable[Policy], now: datetime) -> None:
        self.is_root = False
        self._exact: dict[str, PathRule] = {}
        self._prefixes: dict[str, PathRule] = {}
        self._segments: dict[str, PathRule] = {}
        for policy in policies:
            self.is_root |= policy.name == "root"
            for rule in policy.rules:
                if not rule.templated and (rule.until is None or now < rule.until):
                    self._add(rule)

    def capabilities(self, path: str) -> frozenset[str]:
        """Return what is allowed at a path; empty or ``deny`` means nothing."""
        if self.is_root:
            return frozenset({"root"})
        rule = self.rule(path)
        return frozenset() if rule is None else rule.capabilities

    def rule(self, path: str) -> PathRule | None:
        """Return the rule that decides about a path; None if no rule is about it."""
        return self._exact.get(path) or self._by_pattern(path)

    def list_rule(self, path: str) -> PathRule | None:
        """Return the rule that decides about a list or scan, with or without a slash at the end.

        The server asks with the slash first, and takes an exact path of either form before a
        pattern (measured).
        """
        bare = path.removesuffix("/")
        exact = self._exact.get(f"{bare}/") or self._exact.get(bare)
        return exact or self._by_pattern(f"{bare}/") or self._by_pattern(bare)

    def _add(self, rule: PathRule) -> None:
        kept = self._segments if rule.has_segments else self._exact
        kept = self._prefixes if rule.is_prefix else kept
        earlier = kept.get(rule.path)
        kept[rule.path] = _together(earlier, rule) if earlier else rule

    def _by_pattern(self, path: str) -> PathRule | None:
        found: list[tuple[_Priority, PathRule]] = []
        longest = self._longest_prefix(path)
        if longest is not None:
            priority = len(longest), False, 0, len(longest), longest
            found.append((priority, self._prefixes[longest]))
        for pattern, rule in self._segments.items():
            if matches_segments(pattern, path):
                found.append((_priority(pattern), rule))
        return max(found, key=lambda one: one[0])[1] if found else None

    def _longest_prefix(self, path: str) -> str | None:
        if len(self._prefixes) > len(path):
            ends = range(len(path), -1, -1)
            return next((path[:end] for end in ends if path[:end] in self._prefixes), None)
        fitting = (prefix for prefix in self._prefixes if path.startswith(prefix))
        return max(fitting, key=len, default=None)


def _together(first: PathRule, second: PathRule) -> PathRule:
    """Return two rules of one path as the server joins them (measured).

    Required fields add up. A rule without a list of allowed fields adds none to the other's list.
    """
    granted = first.capabilities | second.capabilities
    limits = [one.allowed for one in (first, second) if one.allowed is not None]
    values = dict(first.values)
    for name, texts in second.values:
        earlier = values.get(name, texts)
        values[name] = tuple(dict.fromkeys((*earlier, *texts))) if earlier and texts else ()
    return replace(
        first,
        capabilities=DENY if "deny" in granted else granted,
        allowed=frozenset().union(*limits) if limits else None,
        denied=first.denied | second.denied,
        required=first.required | second.required,
        values=tuple(sorted(values.items())),
    )


def matches_segments(pattern: str, path: str) -> bool:
    """Return whether a path matches a pattern that may have ``+`` segments and a final ``*``."""
    is_prefix = pattern.endswith("*")
    parts, wanted = path.split("/"), pattern.removesuffix("*").split("/")
    if len(parts) < len(wanted) or (not is_prefix and len(parts) != len(wanted)):
        return False
    *firsts, last = wanted
    if not all(want in {"+", part} for want, part in zip(firsts, parts, strict=False)):
        return False
    part = parts[len(firsts)]
    return last in {"+", part} or (is_prefix and part.startswith(last))


def _priority(pattern: str) -> _Priority:
    bare = pattern.removesuffix("*")
    stars = sum(part == "+" for part in bare.split("/"))
    return pattern.find("+"), not pattern.endswith("*"), -stars, len(bare), bare
