"""Finds policies, login methods and login roles that this manifest made and no longer declares."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

from skyflowctl.manifest.model import Manifest
from skyflowctl.planner.access import LiveObject, is_adopted, live_fields, owner_of
from skyflowctl.planner.plan import (
    Action,
    ActionType,
    Change,
    Drift,
    DriftKind,
    ObjectKind,
    PruneOptions,
)
from skyflowctl.vault.access_api import policy_path
from skyflowctl.vault.live import LiveAccess

_NEEDS_PERMISSION = frozenset({ObjectKind.LOGIN_METHOD})
"""Kinds of which each object is deleted only if the caller names it: others log in by it too."""


@dataclass(slots=True)
class AccessDeletions:
    """The deletions, and how many objects of each kind this manifest made."""

    actions: list[Action] = field(default_factory=list)
    made: Counter[ObjectKind] = field(default_factory=Counter)


def access_drift(manifest: Manifest, live: LiveAccess, declared: Container[str]) -> list[Drift]:
    """Return every object of this manifest that it no longer declares, as far as it was read;
    ``declared`` are the paths of those that it declares."""
    return [
        _undeclared(manifest, *one) for one in _made_here(manifest, live) if one[1] not in declared
    ]


def plan_access_deletions(
    manifest: Manifest, live: LiveAccess, options: PruneOptions, gone: Container[str]
) -> AccessDeletions:
    """Return the deletions of a prune of the whole manifest."""
    plan = AccessDeletions()
    if options.below is not None:
        return plan
    for kind, path, found in _made_here(manifest, live):
        named = path in options.allow_destroy
        if is_adopted(manifest.id, found) and not named:
            continue
        plan.made[kind] += 1
        if kind is ObjectKind.LOGIN_METHOD and _foreign_logins(manifest, path, live):
            continue
        if path in gone and (named or kind not in _NEEDS_PERMISSION):
            plan.actions.append(access_deletion(kind, path, found))
    return plan


def kept_methods(
    manifest: Manifest, live: LiveAccess, options: PruneOptions, gone: Iterable[str]
) -> list[tuple[str, list[str]]]:
    """Return the login methods that the caller wants to delete although others log in by them,
    each with the paths of these logins; "*" stands for those that could not be read."""
    methods = [one for one in gone if one.startswith("sys/auth/")]
    found = ((path, _foreign_logins(manifest, path, live)) for path in sorted(methods))
    return [(path, others) for path, others in found if others and path in options.allow_destroy]


def _foreign_logins(manifest: Manifest, path: str, live: LiveAccess) -> list[str]:
    prefix = f"auth/{path.removeprefix('sys/auth/')}/"
    unread = {one.rpartition("/")[0] for one in live.unread if one.startswith(prefix)}
    return [f"{one}/*" for one in sorted(unread)] + sorted(
        one
        for one, role in live.login_roles.items()
        if one.startswith(prefix) and owner_of(manifest.id, role) is not None
    )


def access_deletion(kind: ObjectKind, path: str, found: LiveObject) -> Action:
    """Return the action that deletes an object as it is now."""
    changes = tuple(
        Change(name, value, None) for name, value in live_fields(found).items() if value
    )
    return Action(ActionType.DELETE, kind, "", path, changes)


def _made_here(
    manifest: Manifest, live: LiveAccess
) -> Iterator[tuple[ObjectKind, str, LiveObject]]:
    """Yield kind, path and object of everything that carries this manifest's mark."""
    everything: list[tuple[ObjectKind, str, LiveObject]] = [
        *((ObjectKind.POLICY, policy_path(name), one) for name, one in live.policies.items()),
        *(
            (ObjectKind.LOGIN_METHOD, f"sys/auth/{name}", one)
            for name, one in live.login_methods.items()
        ),
        *((ObjectKind.LOGIN_ROLE, path, one) for path, one in live.login_roles.items()),
    ]
    return (one for one in everything if owner_of(manifest.id, one[2]) is None)


def _undeclared(manifest: Manifest, kind: ObjectKind, path: str, found: LiveObject) -> Drift:
    named = kind in _NEEDS_PERMISSION or is_adopted(manifest.id, found)
    flag = f" --allow-destroy={path}" if named else ""
    return Drift(
        DriftKind.UNDECLARED,
        "",
        path,
        reason=f"this manifest made this {kind.value.replace('_', ' ')} and no longer declares it",
        fix=f"put it back into the manifest, or 'skyflowctl apply --prune{flag}' deletes it",
    )
