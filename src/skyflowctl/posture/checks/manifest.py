"""Checks against the manifest, and against the use that an audit log shows."""

from collections.abc import Iterator
from datetime import timedelta

from skyflowctl.clock import rfc3339
from skyflowctl.manifest.model import Manifest, Mount, Role
from skyflowctl.posture.facts import Exercised, Facts, MountFacts, NotRead
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.text import SERVER
from skyflowctl.text import counted, duration, listed

_TELLS_ANYTHING = timedelta(days=1)
_LONG_ENOUGH = timedelta(days=30)


def undeclared(facts: Facts) -> Iterator[Finding]:
    """The server has the mounts and roles of the manifest, and no others."""
    if facts.manifest is None:
        return
    if isinstance(facts.mounts, NotRead):
        return
    live = {one.path: one for one in facts.ours}
    declared = {mount.path: mount for mount in facts.manifest.mounts}
    for path, one in sorted(live.items()):
        if path not in declared:
            yield _unknown_mount(one, facts.manifest)
        elif not _roles_unread(one):
            yield from _roles(one, declared[path])
    for path, mount in declared.items():
        if path not in live:
            yield _missing(f"the mount {path}", FindingSubject("mount", path), mount)


def _roles_unread(one: MountFacts) -> bool:
    return any(missing.path == f"{one.path}/roles" for missing in one.not_read)


def _unknown_mount(one: MountFacts, manifest: Manifest) -> Finding:
    owner = one.mount.options.get("manifest", "")
    other = bool(owner) and owner != manifest.id
    return Finding(
        "undeclared",
        Severity.INFO if other else Severity.MEDIUM,
        FindingSubject("mount", one.path),
        f"{one.path} is on the server but not in the manifest",
        f"it belongs to the manifest {owner}" if other else "what is not declared is not reviewed",
        (f"roles: {listed(sorted(one.roles)) or 'none'}",),
        "" if other else f"'skyflowctl mount show {one.path}', then declare it or disable it",
    )


def _roles(one: MountFacts, mount: Mount) -> Iterator[Finding]:
    names = {role.name: role for role in mount.roles}
    for name, live in sorted(one.roles.items()):
        if name not in names:
            yield Finding(
                "undeclared",
                Severity.MEDIUM,
                FindingSubject("role", f"{one.path}/creds/{name}"),
                f"the role {name} on {one.path} is not in the manifest",
                "it issues tokens that no manifest declares",
                (f"role_ids: {listed(live.role_ids)}",),
                f"declare it, or bao delete {one.path}/roles/{name}",
                mount.where,
            )
    for name, role in names.items():
        if name not in one.roles:
            subject = FindingSubject("role", f"{one.path}/creds/{name}")
            yield _missing(f"the role {name} of {one.path}", subject, role)


def _missing(what: str, subject: FindingSubject, declared: Mount | Role) -> Finding:
    return Finding(
        "undeclared",
        Severity.LOW,
        subject,
        f"{what} is in the manifest but not on the server",
        "an application that relies on it gets no token",
        fix="skyflowctl apply",
        where=declared.where,
    )


def unused_roles(facts: Facts) -> Iterator[Finding]:
    """Every role was used within the time that the audit log covers."""
    used = facts.exercised
    if used is None:
        return
    idle = [
        (one, name)
        for one in facts.ours
        for name in sorted(one.roles)
        if (one.path, name) not in used.roles
    ]
    if idle and used.unread:
        yield _uncertain([f"{one.path}/creds/{name}" for one, name in idle], used)
        return
    if idle and used.until - used.since < _TELLS_ANYTHING:
        yield _too_short([f"{one.path}/creds/{name}" for one, name in idle], used)
        return
    for one, name in idle:
        yield _unused(one, name, used)


def _uncertain(paths: list[str], used: Exercised) -> Finding:
    return Finding(
        "unused-roles",
        Severity.LOW,
        SERVER,
        f"not checked: {used.unread} in the audit log",
        f"{counted(len(paths), 'role')} did not appear in the readable part, but may have been "
        "used in the rest",
        (listed(paths), _range(used)),
        "pass another device's log of the same period, or undamaged files",
        unchecked=True,
    )


def _too_short(paths: list[str], used: Exercised) -> Finding:
    return Finding(
        "unused-roles",
        Severity.INFO,
        SERVER,
        f"the audit log covers only {duration(used.until - used.since)}: "
        f"{counted(len(paths), 'role')} did not appear in it",
        "that is too short to call a role unused",
        (listed(paths), _range(used)),
        "pass the rotated files too: --log 'audit.log*'",
    )


def _unused(one: MountFacts, name: str, used: Exercised) -> Finding:
    span = used.until - used.since
    declared = one.declared.roles if one.declared else ()
    return Finding(
        "unused-roles",
        Severity.LOW if span >= _LONG_ENOUGH else Severity.INFO,
        FindingSubject("role", f"{one.path}/creds/{name}"),
        f"no token of {name} on {one.path} was issued in {duration(span)}",
        "an unused role is an unnecessary risk",
        (_range(used),),
        f"ask its owner, then remove it from the manifest or bao delete {one.path}/roles/{name}",
        next((role.where for role in declared if role.name == name), None),
    )


def _range(used: Exercised) -> str:
    return f"log from {rfc3339(used.since)} to {rfc3339(used.until)}"


CHECKS = (
    Check(
        "undeclared",
        "what the manifest does not declare",
        "Mounts and roles on the server match the manifest.",
        undeclared,
        wants="a manifest: -f mounts.yaml",
        applies=lambda facts: facts.manifest is not None,
        of_mounts=True,
    ),
    Check(
        "unused-roles",
        "unused roles",
        "Every role was used within the time that the audit log covers.",
        unused_roles,
        wants="an audit log: --log FILE",
        applies=lambda facts: facts.exercised is not None,
        of_mounts=True,
    ),
)
