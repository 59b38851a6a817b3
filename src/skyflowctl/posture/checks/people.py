"""Checks the policies of people against the least ones that ``init --with operators`` writes."""

import re
from collections.abc import Iterator, Sequence

from skyflowctl.hcl import policy_rule, quoted
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.facts import Facts, NotRead
from skyflowctl.posture.least import ANY, Excess, TooManyPathsError, excess, may
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.policies import PathRule, Policy, parse_policy
from skyflowctl.posture.text import unchecked
from skyflowctl.text import listed

_ID = "least-policies"
_FOLDER = "skyflow/+"
_TOKENS = "skyflow/order/creds/order-producer"
_APPLICATION = "application"
# Who writes there can get any policy, or approve what is held.
_ROOTS = ("sys/policies/acl", "sys/policy", "sys/auth", "auth", "sys/control-group/authorize")
_READS = frozenset({"read", "list"})
_TOKEN_WORDS = frozenset({"read", "create", "update"})
_SHOWN = 8


def check_people(facts: Facts) -> Iterator[Finding]:
    """No policy of the name of a least one grants more."""
    if isinstance(facts.policies, NotRead):
        yield unchecked(_ID, facts.policies, core=True)
        return
    absent = []
    for name, text in facts.least_policies.items():
        if name in facts.policies:
            yield from _compared(name, text, facts.policies[name], facts)
        else:
            absent.append(name)
    if absent:
        yield _absent(absent)


def _named(facts: Facts) -> bool:
    """Whether the check applies: a policy has such a name, or it is not known whether one has."""
    return isinstance(facts.policies, NotRead) or bool({*facts.policies} & {*facts.least_policies})


def _compared(name: str, shipped: str, text: str, facts: Facts) -> Iterator[Finding]:
    live = parse_policy(name, text)
    subject = FindingSubject("policy", name)
    if live.problem:
        yield unchecked(_ID, NotRead(f"sys/policies/acl/{name}", why=live.problem), subject)
        return
    own = Acl([live], facts.now)
    most = _limit(name, shipped, facts)
    try:
        # A guarded path grants no write by itself: each waits for another person.
        free = tuple(one for one in live.rules if not one.guarded)
        more = excess(free, own, Acl([most], facts.now), most.rules)
    except TooManyPathsError:
        why = "its wildcards tell too many paths apart"
        yield unchecked(_ID, NotRead(f"sys/policies/acl/{name}", why=why), subject)
        return
    if more:
        yield _more(name, more, facts)
    less = _lacking(name, shipped, own, facts)
    if less:
        yield _less(name, less)


def _limit(name: str, shipped: str, facts: Facts) -> Policy:
    """Return the most that a policy of this name may grant, at the mounts of this server."""
    texts = [shipped]
    if name == _APPLICATION:
        texts += [_of_role(path, facts) for path in facts.creds_paths() if path != _TOKENS]
    else:
        folders = {_folder(one.path) for one in facts.ours} - {_FOLDER}
        texts += [shipped.replace(_FOLDER, folder) for folder in sorted(folders)]
    return Policy(name, tuple(rule for one in texts for rule in parse_policy(name, one).rules))


def _folder(path: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}/+" if slash else path


def _of_role(path: str, facts: Facts) -> str:
    """Return the policy of an application for another role, with the ctx that this role asks."""
    mount, _, name = path.rpartition("/creds/")
    role = next(one for one in facts.ours if one.path == mount).roles[name]
    asks = 'required_parameters = ["ctx"]' if role.ctx_required or role.ctx_pattern else ""
    if role.ctx_pattern:
        asks += f' allowed_parameters = {{ "ctx" = [{quoted(role.ctx_pattern)}] }}'
    words = '["read", "update"]'
    return f"path {quoted(path)} {{ capabilities = {words} {asks} }}"


def _lacking(name: str, shipped: str, own: Acl, facts: Facts) -> list[str]:
    """Return what the least policy grants and this one does not, with its purpose."""
    if name == _APPLICATION:
        reads = any({"read", "update"} & own.capabilities(path) for path in facts.creds_paths())
        return [] if reads or not facts.creds_paths() else ["it reads tokens of no role"]
    purposes = _purposes(shipped)
    found: dict[str, None] = {}
    for mount in [one.path for one in facts.ours] or [_FOLDER]:
        for rule in parse_policy(name, shipped.replace(_FOLDER, mount)).rules:
            generic = rule.text.replace(mount, _FOLDER)
            lost = rule.capabilities - may(own, _example(rule))
            if lost:
                line = policy_rule(rule.text, sorted(lost))
                found[f"{line} is for: {purposes.get(generic, name)}"] = None
    return list(found)


def _example(rule: PathRule) -> str:
    return re.sub(r"[+*]", ANY, rule.path) + (ANY if rule.is_prefix else "")


def _purposes(shipped: str) -> dict[str, str]:
    """Return the comment above each path of a policy: what the path is for."""
    found: dict[str, str] = {}
    for block in shipped.split("\n\n"):
        comment = " ".join(line[2:] for line in block.splitlines() if line.startswith("# "))
        purpose = comment.partition(". ")[0].rstrip(".?")
        found |= dict.fromkeys(re.findall(r'^path "([^"]+)"', block, re.MULTILINE), purpose)
    return found


def _more(name: str, found: set[Excess], facts: Facts) -> Finding:
    lines = sorted({one.line for one in found})
    grave = any(_is_grave(one, facts) for one in found)
    return Finding(
        _ID,
        Severity.HIGH if grave else Severity.MEDIUM,
        FindingSubject("policy", name),
        f"the policy {name} grants more than the least policy of that name",
        "whoever holds it can give themselves every right, or read tokens"
        if grave
        else "the work of this role does not need it",
        _few(lines),
        "take these rules out of the policy; if a manifest has it, there, then: skyflowctl apply\n"
        "the least policy is in: skyflowctl init -f people.yaml --with operators",
    )


def _is_grave(one: Excess, facts: Facts) -> bool:
    """Whether it leads to every right, or to tokens that the least policy does not read."""
    words = frozenset(one.capabilities)
    if "sudo" in words or (words - _READS and any(_below(one.path, root) for root in _ROOTS)):
        return True
    folders = (f"{mount.path}/creds" for mount in facts.ours)
    return bool(words & _TOKEN_WORDS) and any(_below(one.path, folder) for folder in folders)


def _below(path: str, folder: str) -> bool:
    """Whether a path is this one or below it, if its open parts are filled in."""
    parts, wanted = path.split("/"), folder.split("/")
    return len(parts) >= len(wanted) and all(
        want.startswith(part[:-1]) if part.endswith(ANY) else want == part
        for part, want in zip(parts, wanted, strict=False)
    )


def _few(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {more} more") if more > 0 else tuple(lines)


def _less(name: str, lines: Sequence[str]) -> Finding:
    return Finding(
        _ID,
        Severity.INFO,
        FindingSubject("policy", name),
        f"the policy {name} grants less than the least policy of that name",
        "commands of this role that need it are refused",
        _few(lines),
        "nothing, if that is intended; the least policy is in: "
        "skyflowctl init -f people.yaml --with operators",
    )


def _absent(names: Sequence[str]) -> Finding:
    return Finding(
        _ID,
        Severity.INFO,
        FindingSubject("server", "server"),
        f"not checked: the server has no policy named {listed(names)}",
        "policies are compared by these names; others are not compared",
        fix="'skyflowctl init -f people.yaml --with operators' writes a manifest with them",
        unchecked=True,
    )


CHECKS = (
    Check(
        _ID,
        "operator, rotator, auditor and application policies",
        "Policies of these names grant no more than those of init --with operators.",
        check_people,
        wants="a policy named operator, rotator, auditor or application",
        applies=_named,
        of_mounts=True,
    ),
)
