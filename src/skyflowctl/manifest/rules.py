"""Rules between values, which a schema cannot express. Pure; they add problems and never raise.

The tree may be invalid in parts. Rules skip the values that the schema refused, so that one run
reports all problems.
"""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import timedelta

from skyflowctl.clock import parse_duration
from skyflowctl.engine.ctx import CtxRule, InvalidCtxError, check_probe, is_printable
from skyflowctl.engine.names import REUSE_LONGEST_TTL, REUSE_SHORTEST_TTL, SIGN_LONGEST_TTL
from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.access import (
    check_consumers,
    check_policies,
    role_policy_name,
)
from skyflowctl.manifest.audit_devices import audit_device_rules
from skyflowctl.manifest.control_groups import control_group_rules
from skyflowctl.manifest.engine_rules import engine_rules
from skyflowctl.manifest.kv_policy_rules import kv_policy_rules
from skyflowctl.manifest.login_rules import login_rules
from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.moved_rules import moved_rules
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    at_key,
    at_value,
    child,
    entries,
    locate,
    plain,
    text_of,
)
from skyflowctl.manifest.objects import object_rules
from skyflowctl.manifest.paths import RESERVED, mount_path, parents
from skyflowctl.manifest.people_rules import people_rules
from skyflowctl.manifest.pki_rules import pki_rules
from skyflowctl.manifest.quotas import quota_rules
from skyflowctl.manifest.reference_rules import reference_rules
from skyflowctl.manifest.schema_problems import is_below
from skyflowctl.manifest.typed_engines import typed_rules

OWNERSHIP_TAG = "managed-by:"

RuleViolation = tuple[Path, Problem]


def check_rules(root: YamlNode, refused: AbstractSet[Path]) -> list[Problem]:
    """Return every problem between values, except for values that were already refused."""
    found = [finding for rule in _RULES for finding in rule(root)]
    return [problem for path, problem in found if not is_below(path, refused)]


def _path_source(root: YamlNode, name: str) -> tuple[Path, Where]:
    """Return the setting that determines a mount's path, and its position."""
    path: Path = ("mounts", name, "path")
    node = child(root, "mounts", name, "path")
    if node is not None:
        return path, at_value(node, path)
    return path[:2], locate(root, path[:2])


def _reserved_paths(root: YamlNode) -> Iterator[RuleViolation]:
    prefix = child(root, "defaults", "path_prefix")
    found: list[tuple[Path, YamlNode | None]] = [(("defaults", "path_prefix"), prefix)]
    found += [
        (("mounts", name, "path"), child(mount, "path"))
        for name, mount in entries(child(root, "mounts"))
    ]
    for path, node in found:
        first = (text_of(node) or "").split("/")[0]
        if node is not None and first.lower() in RESERVED:
            why = f"{shown(first)}/ is reserved by the server"
            fix = "choose another path, such as skyflow/NAME"
            summary = f"the path {shown(text_of(node) or '')} is reserved"
            yield path, Problem("reserved-path", summary, why, fix, at_value(node, path))


def _overlapping_paths(root: YamlNode) -> Iterator[RuleViolation]:
    owner: dict[str, str] = {}
    for name, _ in entries(child(root, "mounts")):
        path = mount_path(root, name)
        about, where = _path_source(root, name)
        if path in owner:
            summary = f"the mounts {shown(owner[path])} and {shown(name)} have the same path"
            why = f"both are at {shown(path)}"
            yield about, Problem("same-path", summary, why, "give one of them another path", where)
        owner.setdefault(path, name)
    for path, name in owner.items():
        above = next((part for part in parents(path) if part in owner), None)
        if above is not None:
            about, where = _path_source(root, name)
            summary = f"the path of {shown(name)} lies inside the mount {shown(owner[above])}"
            why = f"{shown(path)} is below {shown(above)}, and the server refuses that"
            yield about, Problem("overlapping-path", summary, why, "move one of them", where)


def _ownership_tags(root: YamlNode) -> Iterator[RuleViolation]:
    for path, node in _all_tags(root):
        items = node.value if node is not None and isinstance(node.value, list) else []
        for index, item in enumerate(items):
            if (text_of(item) or "").startswith(OWNERSHIP_TAG):
                where = at_value(item, (*path, index))
                why = "skyflowctl marks the objects of a manifest with such tags"
                summary = f"tags that start with {OWNERSHIP_TAG} are reserved"
                yield (
                    (*path, index),
                    Problem("reserved-tag", summary, why, "remove it", where),
                )


def _descriptions(root: YamlNode) -> Iterator[RuleViolation]:
    for path, owner in (*_mounts(root), *_roles(root)):
        node = child(owner, "description")
        if node is not None and not is_printable(text_of(node) or ""):
            about = (*path, "description")
            why = "the engine refuses it, because it can disguise text"
            summary = "the description contains an unprintable character"
            where = at_value(node, about)
            yield about, Problem("bad-value", summary, why, "type it again", where)


def _all_tags(root: YamlNode) -> Iterator[tuple[Path, YamlNode | None]]:
    yield ("defaults", "tags"), child(root, "defaults", "tags")
    for path, mount in _mounts(root):
        yield (*path, "tags"), child(mount, "tags")
    for path, role in _roles(root):
        yield (*path, "tags"), child(role, "tags")


def _mounts(root: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    for name, mount in entries(child(root, "mounts")):
        yield ("mounts", name), mount


def _roles(root: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    for path, mount in _mounts(root):
        for name, role in entries(child(mount, "roles")):
            yield (*path, "roles", name), role


def _ctx_rules(root: YamlNode) -> Iterator[RuleViolation]:
    for path, role in _roles(root):
        ctx = child(role, "ctx")
        if ctx is not None and isinstance(ctx.value, dict):
            yield from _ctx_rule((*path, "ctx"), ctx)


def _ctx_rule(path: Path, ctx: YamlNode) -> Iterator[RuleViolation]:
    required, pattern, probe = child(ctx, "required"), child(ctx, "pattern"), child(ctx, "probe")
    said = required.value if required is not None else None
    try:
        rule = CtxRule.of(said if isinstance(said, bool) else None, text_of(pattern) or "")
    except InvalidCtxError as error:
        yield _ctx_finding(path, "pattern", pattern or ctx, "bad-ctx-pattern", error.reason)
        return
    if probe is None and rule.needs_probe():
        example = (text_of(pattern) or "").replace("*", "probe") or "probe"
        fix = f'add one that satisfies the rule, such as probe: "{example}"'
        why = "without one, health and verify cannot mint for this role"
        summary = "a role whose ctx is required or has a pattern needs a probe"
        yield path, Problem("missing-probe", summary, why, fix, at_key(ctx, path))
    elif probe is not None:
        yield from _probe(path, probe, rule)


def _probe(path: Path, probe: YamlNode, rule: CtxRule) -> Iterator[RuleViolation]:
    try:
        check_probe(rule, plain(probe))
    except InvalidCtxError as error:
        yield _ctx_finding(path, "probe", probe, "bad-ctx-probe", error.reason)


def _ctx_finding(path: Path, key: str, node: YamlNode, code: str, reason: str) -> RuleViolation:
    about = (*path, key)
    fix = {
        "pattern": 'write text with at most one * at its start and one at its end, as "order:*"',
        "probe": "give a probe that satisfies the role's own rule",
    }[key]
    summary = f"the ctx {key} is refused"
    return about, Problem(code, summary, reason, fix, at_value(node, about))


def _role_spans(root: YamlNode) -> Iterator[RuleViolation]:
    for path, role in _roles(root):
        for key, shortest, longest, why, fix in _ROLE_SPANS:
            node = child(role, *key)
            span = _span(node)
            seconds = span.total_seconds() if span is not None else 0
            if node is not None and not shortest <= seconds <= longest:
                about = (*path, *key)
                summary = f"{'.'.join(key)} is out of range"
                yield about, Problem("bad-duration", summary, why, fix, at_value(node, about))


_ROLE_SPANS: tuple[tuple[tuple[str, ...], int, int, str, str], ...] = (
    (
        ("sign_max_ttl",),
        1,
        SIGN_LONGEST_TTL,
        "a signed data token is meant to be used at once: the engine takes 1s to 24h",
        "use 15m",
    ),
    (
        ("reuse", "min_ttl"),
        REUSE_SHORTEST_TTL,
        REUSE_LONGEST_TTL,
        "Skyflow's tokens live about 60 minutes: the engine takes 5m to 50m",
        "use 30m",
    ),
)


def _rotation(root: YamlNode) -> Iterator[RuleViolation]:
    default = child(root, "defaults", "rotation")
    if default is not None:
        yield from _spans(("defaults", "rotation"), default, default)
    for path, mount in _mounts(root):
        own = child(mount, "rotation")
        if own is not None and isinstance(own.value, dict):
            yield from _spans((*path, "rotation"), own, default)
            yield from _source((*path, "rotation"), own)


def _spans(path: Path, own: YamlNode, default: YamlNode | None) -> Iterator[RuleViolation]:
    for key in ("max_age", "renew_before", "retire_margin"):
        node = child(own, key)
        if node is not None and _span(node) is None:
            about = (*path, key)
            summary, why = f"{key} is too long", "a duration is 100 years at most"
            yield about, Problem("bad-duration", summary, why, "use 90d", at_value(node, about))
    age = child(own, "max_age")
    if _span(age) == timedelta(0) and age is not None:
        about = (*path, "max_age")
        where = at_value(age, about)
        why = "every credential would be due at once"
        yield about, Problem("bad-duration", "max_age must not be 0", why, "use 90d", where)
    longest = _span(age or child(default, "max_age"))
    early = child(own, "renew_before")
    before = _span(early or child(default, "renew_before"))
    if longest is not None and before is not None and longest and before >= longest:
        about = (*path, "renew_before" if early else "max_age")
        summary = "renew_before must be shorter than max_age"
        why = "every credential would be due at once"
        where = at_value(early or age or own, about)
        yield about, Problem("bad-duration", summary, why, "use 14d and 90d", where)


def _span(node: YamlNode | None) -> timedelta | None:
    try:
        return parse_duration(text_of(node) or "")
    except (ValueError, OverflowError):
        return None


_NO_TOKEN = {
    "server_file": "skyflowctl itself sends it to Skyflow, but that file is on the server",
    "live": "the server stores no operator's token",
}


def _source(path: Path, rotation: YamlNode) -> Iterator[RuleViolation]:
    for scheme, why in _NO_TOKEN.items():
        node = child(rotation, "operator_token", scheme)
        if node is not None:
            about = (*path, "operator_token", scheme)
            summary = f"operator_token cannot be {scheme}"
            fix = "use a reference of another kind, such as file or env"
            yield about, Problem("bad-reference", summary, why, fix, at_key(node, about))
    generates = text_of(child(rotation, "source")) == "generate"
    for key in ("operator_token", "account_id"):
        node = child(rotation, key)
        about = (*path, key)
        if generates and node is None:
            summary = f"rotation.source generate needs {key}"
            where = at_key(rotation, path)
            why = "they are needed to create a new credential"
            yield about, Problem("missing-key", summary, why, f"add {key}", where)
        elif not generates and node is not None:
            summary = f"{key} is used only with source: generate"
            fix = "add source: generate, or remove it"
            where = at_key(node, about)
            why = "source: reference reads the new credential from the reference"
            yield about, Problem("unused-key", summary, why, fix, where)


def _policy_names(root: YamlNode) -> Iterator[RuleViolation]:
    """Yield roles with consumers whose generated policies would have one name."""
    owner: dict[str, str] = {}
    for path, role in _roles(root):
        if child(role, "consumers") is None:
            continue
        mount, name = str(path[1]), str(path[-1])
        policy, label = role_policy_name(mount_path(root, mount), name), f"{mount}/{name}"
        earlier = owner.setdefault(policy, label)
        if earlier != label:
            summary = f"the roles {shown(earlier)} and {shown(label)} would have the same policy"
            why = f"its name is made of the mount's path and the role: {shown(policy)}"
            fix = "give one of the mounts another path"
            yield path, Problem("same-policy-name", summary, why, fix, at_key(role, path))


_RULES: tuple[Callable[[YamlNode], Iterator[RuleViolation]], ...] = (
    _reserved_paths,
    _overlapping_paths,
    _ownership_tags,
    _descriptions,
    _ctx_rules,
    _role_spans,
    _rotation,
    reference_rules,
    _policy_names,
    check_consumers,
    login_rules,
    people_rules,
    check_policies,
    kv_policy_rules,
    control_group_rules,
    engine_rules,
    object_rules,
    typed_rules,
    quota_rules,
    audit_device_rules,
    pki_rules,
    moved_rules,
)


def check_privacy(root: YamlNode) -> tuple[Problem, ...]:
    """Return a warning for every setting that shows the ctx to readers of the audit log."""
    places: list[tuple[Path, YamlNode | None]] = [(("defaults",), child(root, "defaults"))]
    places += list(_mounts(root))
    warning = Problem(
        "plain-ctx",
        "every ctx will be readable in the audit log",
        "plain_ctx is true, and a ctx may name a person",
        "keep it false unless the readers of that log may see it",
    )
    return tuple(
        replace(warning, where=at_value(node, (*path, "audit", "plain_ctx")))
        for path, place in places
        if (node := child(place, "audit", "plain_ctx")) is not None and node.value is True
    )
