"""Writes the guards of ``control_groups`` into the operator policy, and checks both.

Measured on OpenBao 2.7.2: a guard has no effect if a more exact path, or an equal path before it,
allows the request. So the guards come first in the policy, and the rest of its text must not have
such a path. A control group without a ttl discards each request, so a ttl is required.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from skyflowctl.errors import Problem, Where
from skyflowctl.hcl import Block, HclError, parse_hcl, quoted
from skyflowctl.manifest.access import policy_text
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.least_policies import least_policies
from skyflowctl.manifest.logins import method_roles
from skyflowctl.manifest.messages import did_you_mean, shown
from skyflowctl.manifest.model import DeclaredPolicy
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_number,
    as_seconds,
    as_text,
    as_texts,
    at_key,
    child,
    entries,
    zero_duration,
)
from skyflowctl.manifest.paths import mount_path

OPERATOR = "operator"
"""The policy that has the guards."""

_SECTION = "control_groups"
_WRITES = ("create", "update", "patch", "delete")
_OLD_WORDS = {
    "read": ("read", "list"),
    "write": ("create", "read", "update", "delete", "list"),
    "sudo": ("create", "read", "update", "delete", "list", "sudo"),
}
# Who writes there could lift the guard: change the policy, move the mount, or become an approver.
# persona and alias are the old names of an entity's alias.
_AROUND = (
    f"sys/policies/acl/{OPERATOR}",
    f"sys/policies/detailed/acl/{OPERATOR}",
    f"sys/policy/{OPERATOR}",
    "sys/remount",
    "identity/group*",
    "identity/entity*",
    "identity/persona*",
    "identity/alias*",
)
_KEY = "credentials_json"
_SUDO = frozenset({"sys/remount"})
# Writes that change nothing (verify) or only end a rotation that was approved (commit) are free.
_OF_MOUNT = ("config", "config/rollback", "config/history/+", "roles/+")


def with_guards(root: YamlNode, policies: Sequence[DeclaredPolicy]) -> tuple[DeclaredPolicy, ...]:
    """Return the policies, with the guards of the manifest in the one of operators."""
    groups = child(root, _SECTION)
    if not any(entries(groups)) or groups is None:
        return tuple(policies)
    declared = next((one for one in policies if one.name == OPERATOR), None)
    if declared is None:
        prefix = as_text(child(root, "defaults", "path_prefix")) or DEFAULT_PREFIX
        text = least_policies()[OPERATOR].replace(f"{DEFAULT_PREFIX}/", f"{prefix}/")
        declared = DeclaredPolicy(OPERATOR, text, at_key(groups, (_SECTION,)))
    text = _guards(root, declared.text) + declared.text
    guarded = DeclaredPolicy(OPERATOR, text, declared.where)
    return (*(one for one in policies if one.name != OPERATOR), guarded)


def control_group_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield unknown mounts, empty ttls, and paths of an operator's policies that lift a guard."""
    mounts = [name for name, _ in entries(child(root, "mounts"))]
    for name, node in entries(child(root, _SECTION)):
        place: Path = (_SECTION, name)
        if name not in mounts:
            summary = f"mounts declares no mount {shown(name)}"
            why = "a control group is named after the mount whose changes need approvals"
            fix = did_you_mean(name, mounts) or "declare the mount, or remove the control group"
            yield place, Problem("bad-value", summary, why, fix, at_key(node, place))
        why = "the server would discard every request"
        yield from zero_duration(child(node, "ttl"), (*place, "ttl"), why, "use 1h")
    yield from _lifted(root)


def _lifted(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    guards = _guarded_paths(root)
    for name in _held_with_guards(root) if guards else ():
        path: Path = ("policies", name)
        node = child(root, "policies", name)
        for rule in _free_writes(policy_text(node) or "") if node else ():
            guard = next((one for one in guards if _wins(rule, one)), None)
            if node and guard:
                yield path, _lifting(name, rule, guard, at_key(node, path))


def _held_with_guards(root: YamlNode) -> Iterable[str]:
    """Return the names of the policies that a declared login has with the guards."""
    held = {OPERATOR: None}
    for _, login in method_roles(root):
        names = as_texts(child(login, "policies"))
        held |= dict.fromkeys(names) if OPERATOR in names else {}
    return held


def _lifting(name: str, rule: str, guard: str, where: Where) -> Problem:
    also = "" if name == OPERATOR else f"; a login has {name} and {OPERATOR}"
    return Problem(
        "guard-lifted",
        f"the policy {name} allows {_shown(rule)} without an approval",
        f"this path is as exact as the guarded {guard}, so the server would use it{also}",
        f"remove it: the generated guard grants {', '.join(_WRITES)}",
        where,
    )


def _free_writes(text: str) -> Iterator[str]:
    """Yield each path of a policy that allows a write and has no control group."""
    for path, body in _rules(text):
        if _granted(body) & {*_WRITES} and not body.values("control_group"):
            yield path


def _rules(text: str) -> Iterator[tuple[str, Block]]:
    """Yield the paths of a policy; none of one that is no HCL, which was reported."""
    try:
        found = parse_hcl(text)
    except HclError:
        return
    for keys, body in found.items:
        if keys[:1] == ("path",) and len(keys) == 2 and isinstance(body, Block):
            yield keys[1].removeprefix("/"), body


def _granted(body: Block) -> frozenset[str]:
    """Return the capabilities of a rule; none if it denies."""
    words = [one for each in body.values("capabilities") if isinstance(each, list) for one in each]
    for old in body.values("policy"):
        words += _OLD_WORDS.get(str(old), ("deny",))
    return frozenset() if "deny" in words else frozenset(map(str, words))


def _readable(text: str, guard: str) -> tuple[str, ...]:
    """Return which of ``read`` and ``list`` a policy grants at a path, so that its guard does too.

    The server prefers the guard to a less exact path, also for what it does not guard.
    """
    found = []
    # A list asks with a slash at the end, for which a last + stands too (measured).
    for word, path in (("read", guard), ("list", guard.removesuffix("+"))):
        about = [
            (_literal(one), _granted(body)) for one, body in _rules(text) if _covers(one, path)
        ]
        if about and word in max(about, key=lambda one: len(one[0]))[1]:
            found.append(word)
    return tuple(found)


def _covers(rule: str, path: str) -> bool:
    """Whether a rule's path matches a guarded one, whose own wildcards are taken as text."""
    segments = (
        ".*" if one == "*" else "[^/]*" if one == "+" else re.escape(one)
        for one in re.split(r"((?<![^/])\+(?![^/])|\*$)", rule)
    )
    return re.fullmatch("".join(segments), path) is not None


def _shown(path: str) -> str:
    return "/".join(map(shown, path.split("/")))  # a long path as a whole looks like a key


def _wins(rule: str, guard: str) -> bool:
    """Whether the server prefers a rule to a guard, or may: their paths are equal."""
    if rule == guard:
        return True
    fixed, own = _literal(guard), _literal(rule)
    return fixed != guard and own.startswith(fixed) and own != fixed


def _literal(path: str) -> str:
    """Return the part of a policy's path before its first wildcard."""
    ends = [at for mark in "+*" if (at := path.find(mark)) >= 0]
    return path[: min(ends, default=len(path))]


def _guarded_paths(root: YamlNode) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for path, _ in _paths_with_groups(root)))


def _paths_with_groups(root: YamlNode) -> list[tuple[str, tuple[str, YamlNode]]]:
    """Return each guarded path with each control group that guards it."""
    found: list[tuple[str, tuple[str, YamlNode]]] = []
    groups = list(entries(child(root, _SECTION)))
    for group in groups:
        mount = mount_path(root, group[0])
        places = (mount, f"{mount}/tune")
        own = [f"{mount}/{end}" for end in _OF_MOUNT] + [f"sys/mounts/{one}" for one in places]
        found += [(path, group) for path in own]
    return found + [(path, group) for path in _AROUND for group in groups]


def _guards(root: YamlNode, rest: str) -> str:
    """Return the rules of all guarded paths; the approvers of each control group must agree."""
    pairs = _paths_with_groups(root)
    rules = [
        _rule(path, [group for one, group in pairs if one == path], _readable(rest, path))
        for path in _guarded_paths(root)
    ]
    return "# control_groups: each write below waits for approvals.\n" + "".join(rules) + "\n"


def _rule(path: str, groups: list[tuple[str, YamlNode]], readable: Sequence[str]) -> str:
    words = (*_WRITES, *readable, *(("sudo",) if path in _SUDO else ()))
    ttl = min(as_seconds(child(node, "ttl")) for _, node in groups)
    factors = "".join(_factor(name, node) for name, node in groups)
    # Approvers would see a key; skyflowctl sends none there, and no other client may.
    no_key = (
        f"  denied_parameters = {{ {quoted(_KEY)} = [] }}\n" if path.endswith("/config") else ""
    )
    return (
        f"path {quoted(path)} {{\n  capabilities = {_listed(words)}\n{no_key}"
        f'  control_group = {{\n    ttl = "{ttl}s"\n{factors}  }}\n}}\n'
    )


def _factor(name: str, node: YamlNode) -> str:
    approvals = as_number(child(node, "approvals")) or 1
    return (
        f"    factor {quoted(name)} {{\n      controlled_capabilities = {_listed(_WRITES)}\n"
        f"      identity {{\n        group_names = {_listed(as_texts(child(node, 'approvers')))}\n"
        f"        approvals = {approvals}\n      }}\n    }}\n"
    )


def _listed(words: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"
