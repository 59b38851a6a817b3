"""Parses a policy's text to rules, in the form in which a server compares them with a path."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.frozen import dataclass
from skyflowctl.hcl import Block, HclError, parse_hcl

_OLD_WORDS: Mapping[str, frozenset[str]] = {
    "deny": frozenset({"deny"}),
    "read": frozenset({"read", "list"}),
    "write": frozenset({"create", "read", "update", "delete", "list"}),
    "sudo": frozenset({"create", "read", "update", "delete", "list", "sudo"}),
}
DENY = frozenset({"deny"})


@dataclass(frozen=True, slots=True)
class PathRule:
    """One ``path`` block.

    Args:
        text: the path as written in the policy.
        path: the path without a leading slash, and without the ``*`` of a plain prefix.
        is_prefix: whether it ends in ``*`` and has no ``+``.
        has_segments: whether a whole segment is ``+``; ``path`` then keeps a ``*`` at its end.
        capabilities: what it grants; only ``deny`` if it denies.
        guarded: the capabilities whose requests a control group holds until they are approved.
        allowed: the only fields that a write may have; None for any.
        denied: fields that no write may have, or only with values that the policy lists.
        until: when the rule expires; None if never.
        required: fields that a request must have.
        values: the values listed for each allowed field; none for any value.
    """

    text: str
    path: str
    is_prefix: bool
    has_segments: bool
    capabilities: frozenset[str]
    until: datetime | None = None
    guarded: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def may_send(self, field: str) -> bool:
        """Whether a write may have this field with a value that the policy does not list.

        The server compares names in lower case.
        """
        if {field, "*"} & self.denied:
            return False
        return self.allowed is None or bool({field, "*"} & self.allowed)

    @property
    def templated(self) -> bool:
        """Whether a part of it is a template that the caller's identity fills in."""
        return "{{" in self.path

    @property
    def is_glob(self) -> bool:
        """Whether it can match more than one path."""
        return self.is_prefix or self.has_segments


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy's rules. ``problem`` is why they could not be read; empty if they were."""

    name: str
    rules: tuple[PathRule, ...]
    problem: str = ""


def parse_policy(name: str, text: str) -> Policy:
    """Return the rules in a policy's text; an invalid text gives a problem."""
    try:
        found = parse_hcl(text)
        rules = [_rule(keys[1], body) for keys, body in found.items if _is_path(keys)]
    except HclError as error:
        return Policy(name, (), str(error))
    return Policy(name, tuple(rules))


def _is_path(keys: tuple[str, ...]) -> bool:
    # The server, too, ignores text after the path (measured).
    if keys == ("path",):
        raise HclError("a path block has no path")
    return keys[0] == "path"


def _rule(text: str, body: Any) -> PathRule:
    if not isinstance(body, Block):
        raise HclError("a path has no block")
    path = text.removeprefix("/")
    segments = path == "+" or "/+" in path or path.startswith("+/")
    is_prefix = path.endswith("*") and not segments
    allowed, denied = (_parameters(body, f"{word}_parameters") for word in ("allowed", "denied"))
    return PathRule(
        text=text,
        path=path[:-1] if is_prefix else path,
        is_prefix=is_prefix,
        has_segments=segments,
        capabilities=_capabilities(body),
        until=_until(body),
        guarded=_guarded(body),
        allowed=frozenset(allowed) or None,
        required=_required(body),
        values=tuple((name, tuple(map(str, values))) for name, values in sorted(allowed.items())),
        denied=frozenset(
            # The server ignores the values of the name "*".
            [name for name, values in denied.items() if name == "*" or _every_text(values)]
            + [name for name, values in allowed.items() if name != "*" and not _some_texts(values)]
        ),
    )


def _capabilities(body: Block) -> frozenset[str]:
    found: set[str] = set()
    for word in body.values("policy"):
        found |= _OLD_WORDS.get(str(word), frozenset())
    for value in body.values("capabilities"):
        found |= {str(one) for one in (value if isinstance(value, list) else [value])}
    return DENY if "deny" in found else frozenset(found)


def _required(body: Block) -> frozenset[str]:
    lists = [one if isinstance(one, list) else [one] for one in body.values("required_parameters")]
    return frozenset(str(name).lower() for names in lists for name in names)


def _parameters(body: Block, key: str) -> Mapping[str, list[Any]]:
    """Return the names in all blocks of parameters, each with the values listed for it."""
    found: dict[str, list[Any]] = {}
    for block in body.values(key):
        for keys, value in block.items if isinstance(block, Block) else ():
            values = value if isinstance(value, list) else [value]
            found.setdefault(keys[0].lower(), []).extend(values)
    return found


def _every_text(values: list[Any]) -> bool:
    return not values or "**" in values


def _some_texts(values: list[Any]) -> bool:
    """Whether a list of values leaves a choice. ``*`` alone is a plain value (measured)."""
    return not values or any(isinstance(one, str) and "*" in one and one != "*" for one in values)


def _guarded(body: Block) -> frozenset[str]:
    """Return the capabilities that the factors of a control group guard; all if they name none."""
    found: set[str] = set()
    for group in body.values("control_group"):
        named = _controlled(group)
        found |= named or {"create", "read", "update", "delete", "list"}
    return frozenset(found)


def _controlled(value: Any) -> set[str]:
    """Return every ``controlled_capabilities`` in a block, at any depth."""
    if isinstance(value, list):
        return {one for inner in value for one in _controlled(inner)}
    if not isinstance(value, Block):
        return set()
    found: set[str] = set()
    for keys, inner in value.items:
        if keys == ("controlled_capabilities",):
            found |= {str(one) for one in (inner if isinstance(inner, list) else [inner])}
        else:
            found |= _controlled(inner)
    return found


def _until(body: Block) -> datetime | None:
    for value in body.values("expiration"):
        try:
            return parse_rfc3339(str(value))
        except ValueError:
            return None
    return None
