"""Who is affected by a plan: the manifest's consumers, and the apps in the audit logs."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from skyflowctl.clock import rfc3339
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Consumer, Manifest
from skyflowctl.operations.plan import PlanResult
from skyflowctl.planner.impact import Affected
from skyflowctl.posture.grants import grants, opened_by
from skyflowctl.posture.policies import parse_policy

if TYPE_CHECKING:  # a plan without logs loads no reader of logs
    from skyflowctl.operations.audit_exercised import RoleUses

AppUse = tuple[tuple[str, str], int, datetime]
"""An app and how it logged in, how often it used something, and when last."""


@dataclass(frozen=True, slots=True)
class AffectedUsers:
    """Who uses one role, mount or credential that a plan removes or changes.

    Args:
        affected: what is removed or changed.
        consumers: the manifest's consumers that may read it.
        uses: of each app, how often it got a token or signatures, and when last, newest first;
            None: no logs were given.
    """

    affected: Affected
    consumers: tuple[Consumer, ...]
    uses: Sequence[AppUse] | None

    def to_json(self) -> dict[str, Any]:
        """Return it as ``plan -o json`` has it."""
        action = self.affected.action
        return {
            "action": action.action.value,
            "kind": self.affected.kind,
            "mount": action.mount,
            "path": action.path,
            "consumers": [{"name": one.name, "method": one.method} for one in self.consumers],
            "used": None if self.uses is None else _used_json(self.uses),
        }


def _used_json(uses: Sequence[AppUse]) -> dict[str, Any]:
    return {
        "requests": sum(number for _, number, _ in uses),
        "last": rfc3339(max(last for _, _, last in uses)) if uses else None,
        "by": [
            {"app": app, "auth": auth or None, "requests": number, "last": rfc3339(last)}
            for (app, auth), number, last in uses
        ],
    }


def impact_json(
    planned: PlanResult, found: Sequence[Affected], read: "RoleUses | None"
) -> dict[str, Any]:
    """Return who is affected by a plan, as ``plan -o json`` has it.

    Args:
        planned: the plan.
        found: what it removes or changes.
        read: what the audit logs say; None: none were given, or nothing is affected.
    """
    objects = [
        AffectedUsers(one, consumers, None if read is None else _newest_first(read, one))
        for one, consumers in _with_consumers(planned, found)
    ]
    return {"objects": [one.to_json() for one in objects], "log": read and _log_json(read)}


def _newest_first(read: "RoleUses", one: Affected) -> list[AppUse]:
    uses = read.of(one.path, one.roles)
    rows = [(app, number, last) for app, (number, last) in uses.items()]
    return sorted(rows, key=lambda row: (row[2], row[0]), reverse=True)


def _log_json(read: "RoleUses") -> dict[str, Any]:
    return {
        "start": rfc3339(read.since) if read.since else None,
        "end": rfc3339(read.until) if read.until else None,
        "files": len(read.files),
        "certain": read.certain,
        "unread": read.unread or ("more apps than are remembered" if read.too_many else ""),
    }


def _with_consumers(
    planned: PlanResult, found: Sequence[Affected]
) -> Iterable[tuple[Affected, tuple[Consumer, ...]]]:
    """Yield each affected object with the consumers that are granted it, or whose policies in the
    manifest open the path of its creds."""
    if not found:
        return
    names = {mount.path: mount.name for mount in planned.manifest.mounts}
    granted: dict[tuple[str, str], list[Consumer]] = {}
    for consumer in planned.manifest.consumers:
        for key in consumer.grants:
            granted.setdefault(key, []).append(consumer)
            granted.setdefault((key[0], ""), []).append(consumer)
    paths = _creds_paths(planned, found)
    every = sorted({path for of_one in paths for path in of_one})
    opened = _opened_by_policies(planned.manifest, every)
    for one, of_one in zip(found, paths, strict=True):
        mount = one.action.mount or names.get(one.path, "")
        keys = [(mount, role) for role in one.roles or ("",)]
        consumers = [consumer for key in keys for consumer in granted.get(key, ())]
        consumers += [consumer for path in of_one for consumer in opened.get(path, ())]
        unique = {(consumer.method, consumer.name): consumer for consumer in consumers}
        yield one, tuple(unique[key] for key in sorted(unique))


def _creds_paths(planned: PlanResult, found: Iterable[Affected]) -> list[list[str]]:
    """Return for each object the paths of the creds of its roles."""
    live = planned.live
    # A mount that is moved is listed at its new path.
    engines = {mount.path: live.engines.get(path) for path, mount in live.mounts.items()}
    paths = []
    for one in found:
        engine = engines.get(one.path)
        roles = one.roles or (engine.roles if engine else ())
        paths.append([f"{one.path}/creds/{role}" for role in roles])
    return paths


def _opened_by_policies(manifest: Manifest, paths: Sequence[str]) -> dict[str, list[Consumer]]:
    holders: dict[str, list[Consumer]] = {}
    for consumer in manifest.consumers:
        for name in consumer.policies:
            holders.setdefault(name.lower(), []).append(consumer)
    found: dict[str, list[Consumer]] = {}
    for policy in manifest.policies:
        held = holders.get(policy.name.lower(), ())
        for rule in parse_policy(policy.name, policy.text).rules if held else ():
            for path in opened_by(rule, paths) if grants(rule) else ():
                found.setdefault(path, []).extend(held)
    return found
