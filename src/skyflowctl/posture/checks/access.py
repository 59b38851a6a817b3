"""Checks who can read tokens: too many logins, and policies that allow more than intended."""

from collections import Counter
from collections.abc import Iterator, Sequence

from skyflowctl.engine.names import PER_ROLE
from skyflowctl.hcl import policy_rule
from skyflowctl.posture.facts import Facts, Login, NotRead
from skyflowctl.posture.grants import Reach, grants, opened_by, reach_of
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.policies import PathRule, Policy
from skyflowctl.posture.text import unchecked
from skyflowctl.text import counted, listed


def readers(facts: Facts) -> Iterator[Finding]:
    """No role's tokens can be read by more logins than the limit."""
    yield from _not_readable("creds-readers", facts)
    if facts.logins is None:
        return
    for (mount, found), names in _readers_of_roles(facts).items():
        if len(found) > facts.max_readers:
            yield _too_many(mount, names, found, facts.max_readers)


_Group = tuple[str, tuple[Login, ...]]


def _readers_of_roles(facts: Facts) -> dict[_Group, list[str]]:
    """Return the roles of each mount, grouped by equal sets of logins that can read them."""
    reach = reach_of(facts)
    by_path: dict[str, list[Login]] = {path: [] for path in reach.paths}
    for login in facts.logins.found if facts.logins else ():
        if "root" not in login.policies:
            for path in reach.of_login(login):
                by_path[path].append(login)
    groups: dict[_Group, list[str]] = {}
    for path, found in by_path.items():
        mount, _, role = path.rpartition("/creds/")
        groups.setdefault((mount, tuple(found)), []).append(role)
    return groups


def _too_many(mount: str, roles: Sequence[str], found: Sequence[Login], limit: int) -> Finding:
    one = len(roles) == 1
    return Finding(
        "creds-readers",
        Severity.MEDIUM,
        FindingSubject("role", f"{mount}/creds/{roles[0]}")
        if one
        else FindingSubject("mount", mount),
        f"{len(found)} logins can read tokens of {listed(roles)} on {mount}",
        f"more than {limit}: each of them gives access to the data behind "
        + ("this role" if one else "these roles"),
        (_together(found),),
        "give each application its own role, and a policy with that one line\n"
        + _lines([f"{mount}/creds/{role}" for role in roles]),
    )


def _lines(paths: Sequence[str]) -> str:
    """Return the policy lines for these paths, at most three."""
    shown = [policy_rule(path, ("read",)) for path in paths[:3]]
    more = len(paths) - len(shown)
    return "\n".join([*shown, f"# and {more} more"] if more else shown)


def _together(logins: Sequence[Login]) -> str:
    """Return logins by name; several logins with one name are counted."""
    counts = Counter(str(login) for login in logins)
    return listed([name if n == 1 else f"{n} x {name}" for name, n in sorted(counts.items())])


def shared_tokens(facts: Facts) -> Iterator[Finding]:
    """No role hands one token to several logins."""
    yield from _not_readable("shared-tokens", facts)
    sharing = {
        f"{one.path}/creds/{name}"
        for one in facts.ours
        for name, role in one.roles.items()
        if role.reuse_min_ttl and role.reuse_per == PER_ROLE
    }
    if facts.logins is None or not sharing:
        return
    for (mount, found), names in _readers_of_roles(facts).items():
        for path in sorted(sharing & {f"{mount}/creds/{name}" for name in names}):
            if len(found) > 1:
                yield Finding(
                    "shared-tokens",
                    Severity.MEDIUM,
                    FindingSubject("role", path),
                    f"{len(found)} logins share the tokens of {path}",
                    "Skyflow's log does not tell which of them used a token, and revoking one "
                    "login leaves it with tokens that the others still get",
                    (_together(found),),
                    "in the manifest, reuse: {per: entity} at this role, then 'skyflowctl apply'",
                )


def _not_readable(check: str, facts: Facts) -> Iterator[Finding]:
    """Yield the parts of policies and logins that could not be read."""
    if isinstance(facts.policies, NotRead):
        yield unchecked(check, facts.policies, core=True)
    if facts.logins is None:
        return
    for missing in facts.logins.not_read:
        yield unchecked(check, missing)
    if facts.logins.left_out:
        why = f"{counted(facts.logins.left_out, 'login')} past the limit were not read"
        yield unchecked(check, NotRead("auth", why=why))


def wildcards(facts: Facts) -> Iterator[Finding]:
    """No policy allows tokens of more roles than it names."""
    if isinstance(facts.policies, NotRead):
        yield unchecked("creds-wildcards", facts.policies, core=True)
        return
    reach = reach_of(facts)
    for name, policy in sorted(reach.policies.items()):
        if policy.problem:
            missing = NotRead(f"sys/policies/acl/{name}", why=policy.problem)
            yield unchecked("creds-wildcards", missing, FindingSubject("policy", name))
        elif name != "root":
            finding = _policy(policy, reach, facts)
            if finding:
                yield finding


def _policy(policy: Policy, reach: Reach, facts: Facts) -> Finding | None:
    opened = reach.by_policy[policy.name]
    if policy.name == "default" and opened:
        return _default(opened)
    globs = [(rule, found) for rule in policy.rules if (found := _wide(rule, opened))]
    if globs:
        return _wildcard(policy.name, globs, facts)
    if policy.name in reach.templated:
        return _templated(policy.name, reach.templated[policy.name])
    return None


def _wide(rule: PathRule, opened: Sequence[str]) -> list[str]:
    """Return the paths that a rule with a wildcard really allows."""
    if not rule.is_glob or rule.templated or not grants(rule):
        return []
    return opened_by(rule, opened)


def _default(opened: Sequence[str]) -> Finding:
    return Finding(
        "creds-wildcards",
        Severity.CRITICAL,
        FindingSubject("policy", "default"),
        f"every login can read tokens of {counted(len(opened), 'role')}",
        "nearly every token has the policy default",
        (listed(opened),),
        "remove these paths from it: bao policy write default FILE",
    )


def _wildcard(name: str, globs: Sequence[tuple[PathRule, list[str]]], facts: Facts) -> Finding:
    paths = sorted({path for _, found in globs for path in found})
    mounts = {path.rpartition("/creds/")[0] for path in paths}
    sudo = any("sudo" in rule.capabilities for rule, _ in globs)
    grade = Severity.MEDIUM if len(paths) > 1 else Severity.LOW
    if len(mounts) > 1 or sudo:
        grade = Severity.HIGH
    where = counted(len(mounts), "mount")
    return Finding(
        "creds-wildcards",
        grade,
        FindingSubject("policy", name),
        f"the policy {name} reaches tokens of {counted(len(paths), 'role')} on {where} by wildcard"
        + (", with sudo" if sudo else ""),
        "one login with it gives access to the data behind all of them"
        if len(paths) > 1
        else "it also covers every role that is added later",
        (
            *(f'path "{rule.text}" {{ capabilities = {_caps(rule)} }}' for rule, _ in globs),
            _carriers(name, facts),
        ),
        "name each role that is needed, without a wildcard\n" + _lines(paths),
    )


def _caps(rule: PathRule) -> str:
    return "[" + ", ".join(f'"{word}"' for word in sorted(rule.capabilities)) + "]"


def _carriers(name: str, facts: Facts) -> str:
    found = facts.logins.found if facts.logins else ()
    carriers = [login for login in found if name in login.policies]
    if not carriers:
        return "no login that could be read has it"
    return f"attached to {_together(carriers)}"


def _templated(name: str, paths: Sequence[str]) -> Finding:
    return Finding(
        "creds-wildcards",
        Severity.LOW,
        FindingSubject("policy", name),
        f"the policy {name} may reach tokens through a template",
        "what it grants depends on the caller's identity and is not computed here",
        (f"at most {listed(paths)}",),
        "make sure that callers cannot choose the name that is filled in",
    )


CHECKS = (
    Check(
        "creds-readers",
        "roles that too many logins can read",
        "Only a few logins have policies that allow reading a role's tokens.",
        readers,
        of_mounts=True,
    ),
    Check(
        "shared-tokens",
        "reused tokens that several logins share",
        "A role with reuse gives each login tokens of its own, which all its processes share.",
        shared_tokens,
        of_mounts=True,
    ),
    Check(
        "creds-wildcards",
        "wildcards over creds paths",
        "Policies name each role without wildcards.",
        wildcards,
        of_mounts=True,
    ),
)
