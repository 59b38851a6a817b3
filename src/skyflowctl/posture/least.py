"""Compares what two policies allow by meaning, at every path that their rules tell apart.

A path is decided by the set of rules that match it, so one path for each such set is enough.
These paths are built by intersecting the patterns of both policies.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skyflowctl.posture.acl import Acl
from skyflowctl.posture.policies import DENY, PathRule

ANY = "\x7f"
"""Stands for any text at the end of a segment."""
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_MOST_PATHS = 20_000
_WITH_FIELDS = frozenset({"create", "patch", "read", "update"})


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
        words = ", ".join(f'"{word}"' for word in self.capabilities)
        more = f" {self.how}" if self.how else ""
        return f'path "{self.text}" {{ capabilities = [{words}] }}{more}'


def excess(
    rules: Sequence[PathRule], own: Acl, limit: Acl, known: Sequence[PathRule]
) -> set[Excess]:
    """Return what a policy allows beyond a limit.

    Args:
        rules: the rules of the policy.
        own: the same, as the server decides about a path.
        limit: the limit, as the server decides about a path.
        known: the rules of the limit.

    Raises:
        TooManyPathsError: there are too many paths to compare.
    """
    found: set[Excess] = set()
    for path in _told_apart(rules, known):
        rule = own.rule(path)
        if rule is not None:
            found |= _beyond(path, rule, own, limit)
    for rule in rules:
        if rule.templated and rule.capabilities - DENY:
            found |= _templated(rule, limit, known)
    return found


def may(acl: Acl, path: str) -> frozenset[str]:
    """Return what is allowed at a path; a list counts with and without a slash at its end."""
    bare = path.removesuffix("/")
    words = acl.capabilities(path) - DENY - {"list"}
    lists = acl.capabilities(bare) | acl.capabilities(f"{bare}/")
    return words | (lists & {"list"})


def _beyond(path: str, rule: PathRule, own: Acl, limit: Acl) -> set[Excess]:
    allowed, most = may(own, path), may(limit, path)
    found = set()
    if allowed - most:
        # A list without a slash at its end may be decided by the other rule.
        found.add(Excess(rule.text, tuple(sorted(allowed - most)), "", path))
    bound = limit.rule(path)
    same = allowed & most & rule.capabilities & _WITH_FIELDS
    how = _looser(rule, bound) if bound and same else ""
    if how:
        found.add(Excess(rule.text, tuple(sorted(same)), how, path))
    return found


def _templated(rule: PathRule, limit: Acl, known: Sequence[PathRule]) -> set[Excess]:
    """Return what a rule allows whose template the caller's identity fills in with any text."""
    found = set()
    for path in _told_apart([rule], known, templates=True):
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
    lost = sorted(limit.denied - rule.denied)
    if lost and (rule.allowed is None or {"*", *lost} & rule.allowed):
        return f"with the field {lost[0]}"
    if limit.allowed is None or "*" in limit.allowed:
        return ""
    extra = ["*"] if rule.allowed is None else sorted(rule.allowed - limit.allowed)
    if extra:
        return "with any field" if extra[0] == "*" else f"with the field {extra[0]}"
    return _other_values(rule, limit)


def _other_values(rule: PathRule, limit: PathRule) -> str:
    bounds = dict(limit.values)
    for name, values in rule.values:
        bound = bounds.get(name, ())
        if bound and not (values and all(_within(one, bound) for one in values)):
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


def _told_apart(
    rules: Sequence[PathRule], known: Sequence[PathRule], *, templates: bool = False
) -> Iterator[str]:
    """Yield a path for each set of patterns that some path of the rules matches."""
    longest = 2 + max((one.path.count("/") for one in (*rules, *known)), default=0)
    base = {
        pattern
        for one in (*rules, *known)
        if templates or not one.templated
        for pattern in _patterns(one, longest)
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


def _segment(part: str, *, segments: bool) -> tuple[str, bool]:
    if part == "+" and segments:
        return "", False
    found = _TEMPLATE.search(part)
    return (part[: found.start()], False) if found else (part, True)
