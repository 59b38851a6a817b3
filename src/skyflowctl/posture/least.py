"""Compares what two policies allow by meaning, at every path that their rules tell apart.

A path is decided by the set of rules that match it, so one path for each such set is enough.
These paths are built by intersecting the patterns of both policies.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from skyflowctl.frozen import dataclass
from skyflowctl.hcl import policy_rule
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.policies import DENY, PathRule

ANY = "\x7f"
"""Stands for any text at the end of a segment."""
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_MOST_PATHS = 20_000
_WITH_FIELDS = frozenset({"create", "patch", "read", "update"})
_LISTS = frozenset({"list", "scan"})


class TooManyPathsError(Exception):
    """Two policies tell apart more paths than can be compared."""


@dataclass(frozen=True, slots=True, order=True)
class Excess:
    """What a rule allows beyond a limit.

    Args:
        text: the path as written in the policy.
        capabilities: those that go beyond the limit, sorted.
        how: what goes beyond it, besides the capabilities; empty if only these do.
        path: a path at which it does; a part that may be any text is DEL.
    """

    text: str
    capabilities: tuple[str, ...]
    how: str
    path: str

    @property
    def line(self) -> str:
        """One line of evidence."""
        more = f" {self.how}" if self.how else ""
        return f"{policy_rule(self.text, self.capabilities)}{more}"


def excess(
    rules: Sequence[PathRule], own: Acl, limit: Acl, known: Sequence[PathRule]
) -> set[Excess]:
    """Return what a policy allows beyond a limit.

    Args:
        rules: the rules of the policy.
        own: the same, as the server decides about a path.
        limit: the limit, as the server decides about a path; it has no denied fields.
        known: the rules of the limit.

    Raises:
        TooManyPathsError: there are too many paths to compare.
    """
    found: set[Excess] = set()
    for path in paths_told_apart(rules, known):
        found |= set(_beyond(path, own, limit))
    for rule in rules:
        if rule.templated and rule.capabilities - DENY:
            found |= _templated(rule, limit, known)
    return found


def may(acl: Acl, path: str) -> frozenset[str]:
    """Return what is allowed at a path; a list counts with and without a slash at its end."""
    return (_words(acl.rule(path)) - _LISTS) | (_words(acl.list_rule(path)) & _LISTS)


def _words(rule: PathRule | None) -> frozenset[str]:
    return rule.capabilities - DENY if rule else frozenset()


def _beyond(path: str, own: Acl, limit: Acl) -> Iterator[Excess]:
    more = may(own, path) - may(limit, path)
    rule, lists, bound = own.rule(path), own.list_rule(path), limit.rule(path)
    by_text: dict[str, frozenset[str]] = {}
    for which, words in ((rule, more - _LISTS), (lists, more & _LISTS)):
        if which and words:
            by_text[which.text] = by_text.get(which.text, frozenset()) | words
    for text, words in by_text.items():
        yield Excess(text, tuple(sorted(words)), "", path)
    same = (_words(rule) & _words(bound)) & _WITH_FIELDS
    how = _looser(rule, bound) if rule and bound and same else ""
    if rule and how:
        yield Excess(rule.text, tuple(sorted(same)), how, path)


def _templated(rule: PathRule, limit: Acl, known: Sequence[PathRule]) -> set[Excess]:
    """Return what a rule allows whose template the caller's identity fills in with any text."""
    found = set()
    for path in paths_told_apart([rule], known, templates=True):
        words = rule.capabilities - may(limit, path)
        if words:
            how = "(filled in by the caller's identity)"
            found.add(Excess(rule.text, tuple(sorted(words)), how, path))
    return found


def _looser(rule: PathRule, limit: PathRule) -> str:
    """Return which fields a rule lets through that its limit does not; empty if none."""
    missing = sorted(limit.required - rule.required)
    if missing:
        return f"without the required {missing[0]}"
    if limit.allowed is None:
        return ""
    extra = ["*"] if rule.allowed is None else sorted(rule.allowed - limit.allowed)
    if extra and "*" not in limit.allowed:
        return "with any field" if extra[0] == "*" else f"with the field {extra[0]}"
    return _other_values(rule, limit)


def _other_values(rule: PathRule, limit: PathRule) -> str:
    ours = dict(rule.values)
    for name, bound in limit.values:
        free = rule.allowed is None or "*" in rule.allowed
        values = ours.get(name, () if free else bound)
        if name != "*" and bound and not (values and all(_within(one, bound) for one in values)):
            return f"with other values of {name}"
    return ""


def _within(value: str, bounds: Sequence[str]) -> bool:
    """Whether every text of a pattern matches one of these; only a final ``*`` is compared."""
    return any(
        value == bound
        or (bound.endswith("*") and "*" not in bound[:-1] and value.startswith(bound[:-1]))
        for bound in bounds
    )


@dataclass(frozen=True, slots=True)
class _Pattern:
    """The paths of one length: for each segment its start, and whether that is all of it."""

    segments: tuple[tuple[str, bool], ...]

    @property
    def path(self) -> str:
        """A path that matches it, and as few others as possible."""
        return "/".join(text if whole else text + ANY for text, whole in self.segments)

    def also(self, other: "_Pattern") -> "_Pattern | None":
        """Return the pattern of the paths that match both; None if none does."""
        if len(self.segments) != len(other.segments):
            return None
        both = []
        for one, two in zip(self.segments, other.segments, strict=True):
            (short, closed), longer = sorted((one, two), key=lambda each: len(each[0]))
            if not longer[0].startswith(short) or (closed and longer[0] != short):
                return None
            both.append((longer[0], longer[1] or (closed and longer[0] == short)))
        return _Pattern(tuple(both))


def paths_told_apart(
    rules: Sequence[PathRule], known: Sequence[PathRule], *, templates: bool = False
) -> Iterator[str]:
    """Yield a path for each set of patterns that some path of the rules matches."""
    longest = 2 + max((one.path.count("/") for one in (*rules, *known)), default=0)
    base = {
        pattern
        for one in (*rules, *known)
        if templates or not one.templated
        for pattern in (*_patterns(one, longest), *_other_form(one))
    }
    ours = [one for one in rules if templates or not one.templated]
    seen = {pattern for one in ours for pattern in _patterns(one, longest)}
    waiting = list(seen)
    while waiting:
        pattern = waiting.pop()
        yield pattern.path
        new = {both for one in base if (both := pattern.also(one))} - seen
        seen |= new
        waiting += new
        if len(seen) > _MOST_PATHS:
            raise TooManyPathsError


def _patterns(rule: PathRule, longest: int) -> Iterator[_Pattern]:
    """Yield the patterns of a rule, one for each number of segments up to the longest."""
    open_ended = rule.is_prefix or (rule.has_segments and rule.path.endswith("*"))
    parts = (rule.path.removesuffix("*") if rule.has_segments else rule.path).split("/")
    segments = [_segment(part, segments=rule.has_segments) for part in parts]
    if not open_ended:
        yield _Pattern(tuple(segments))
        return
    text, _ = segments.pop()
    for more in range(longest - len(segments)):
        yield _Pattern((*segments, (text, False), *[("", False)] * more))


def _other_form(rule: PathRule) -> Iterator[_Pattern]:
    """Yield an exact rule's path with or without a slash at its end: a list heeds both forms."""
    if not rule.is_prefix and not rule.path.endswith("*"):
        path = rule.path.removesuffix("/") if rule.path.endswith("/") else f"{rule.path}/"
        yield from _patterns(replace(rule, path=path), 0)


def _segment(part: str, *, segments: bool) -> tuple[str, bool]:
    if part == "+" and segments:
        return "", False
    found = _TEMPLATE.search(part)
    return (part[: found.start()], False) if found else (part, True)
