"""Writes the guards of ``control_groups`` into the operator policy, and checks both.

Measured on OpenBao 2.7.2: a guard has no effect if a more exact path, or an equal path before it,
allows the request. So the guards come first in the policy, and the rest of its text must not have
such a path. A control group without a ttl discards each request, so a ttl is required.
"""

from collections.abc import Iterator, Sequence

from skyflowctl.errors import Problem
from skyflowctl.hcl import Block, HclError, parse_hcl, quoted
from skyflowctl.manifest.access import policy_text
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.least_policies import least_policies
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
    at_value,
    child,
    entries,
    is_zero_duration,
)
from skyflowctl.manifest.paths import mount_path

OPERATOR = "operator"
"""The policy that has the guards."""

_SECTION = "control_groups"
_WRITES = ("create", "update", "patch", "delete")
_ALL = ("create", "read", "update", "patch", "delete", "list")
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
    guarded = DeclaredPolicy(OPERATOR, _guards(root) + declared.text, declared.where)
    return (*(one for one in policies if one.name != OPERATOR), guarded)


def control_group_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield unknown mounts, empty ttls, and paths of the operator policy that lift a guard."""
    mounts = [name for name, _ in entries(child(root, "mounts"))]
    for name, node in entries(child(root, _SECTION)):
        place: Path = (_SECTION, name)
        if name not in mounts:
            summary = f"mounts declares no mount {shown(name)}"
            why = "a control group is named after the mount whose changes need approvals"
            fix = did_you_mean(name, mounts) or "declare the mount, or remove the control group"
            yield place, Problem("bad-value", summary, why, fix, at_key(node, place))
        ttl = child(node, "ttl")
        if ttl is not None and is_zero_duration(ttl):
            about = (*place, "ttl")
            summary, why = (
                f"ttl must not be {as_text(ttl)}",
                "the server would discard every request",
            )
            yield about, Problem("bad-duration", summary, why, "use 1h", at_value(ttl, about))
    yield from _lifted(root)


def _lifted(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    node = child(root, "policies", OPERATOR)
    guards = _guarded_paths(root)
    if node is None or not guards:
        return
    path: Path = ("policies", OPERATOR)
    for rule in _free_writes(policy_text(node) or ""):
        guard = next((one for one in guards if _wins(rule, one)), None)
        if guard is not None:
            yield (
                path,
                Problem(
                    "guard-lifted",
                    f"the policy {OPERATOR} allows {_shown(rule)} without an approval",
                    f"this path is as exact as the guarded {guard}, so the server would use it",
                    f"remove it: the generated guard grants {', '.join(_ALL)}",
                    at_key(node, path),
                ),
            )


def _free_writes(text: str) -> Iterator[str]:
    """Yield each path of a policy that allows a write and has no control group."""
    try:
        found = parse_hcl(text)
    except HclError:
        return  # this was reported
    for keys, body in found.items:
        if keys[:1] != ("path",) or len(keys) != 2 or not isinstance(body, Block):
            continue
        words = [
            one for each in body.values("capabilities") if isinstance(each, list) for one in each
        ]
        writes = {*_WRITES} & {*words} or {"write", "sudo"} & {*body.values("policy")}
        if writes and "deny" not in words and not body.values("control_group"):
            yield keys[1].removeprefix("/")


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


def _guards(root: YamlNode) -> str:
    """Return the rules of all guarded paths; the approvers of each control group must agree."""
    pairs = _paths_with_groups(root)
    rules = [
        _rule(path, [group for one, group in pairs if one == path]) for path in _guarded_paths(root)
    ]
    return "# control_groups: each write below waits for approvals.\n" + "".join(rules) + "\n"


def _rule(path: str, groups: list[tuple[str, YamlNode]]) -> str:
    words = (*_ALL, "sudo") if path in _SUDO else _ALL
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
