"""Finds objects besides the mounts that this manifest made and no longer declares."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace

from skyflowctl.manifest.model import Manifest
from skyflowctl.planner.access import LiveObject, is_adopted, live_fields, owner_of
from skyflowctl.planner.drift import put_back_or_prune
from skyflowctl.planner.plan import (
    Action,
    ActionType,
    Change,
    Drift,
    DriftKind,
    ObjectKind,
    PruneOptions,
    own_path,
)
from skyflowctl.planner.prune_namespaces import without_full_namespaces
from skyflowctl.planner.quotas import live_quotas
from skyflowctl.vault.access_api import policy_path
from skyflowctl.vault.kv import is_kv2, secret_path
from skyflowctl.vault.live import LiveAccess, LiveMount, LiveSecret

_NEEDS_PERMISSION = frozenset(
    {
        ObjectKind.LOGIN_METHOD,
        ObjectKind.ENGINE,
        ObjectKind.SECRET,
        ObjectKind.QUOTA,
        ObjectKind.NAMESPACE,
    }
)
"""Kinds of which each object is deleted only if the caller names it: others may log in by it, and
secrets cannot be restored, and a name alone does not tell that a quota is ours."""

_WITH_IT = {
    ObjectKind.ENGINE: " with everything in it",
    ObjectKind.SECRET: " with all of its versions",
    ObjectKind.NAMESPACE: " if it is empty",
}


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
        named = options.names(path)
        if is_adopted(manifest.id, found) and not named:
            continue
        plan.made[kind] += 1
        if own_path(path) not in gone or (kind in _NEEDS_PERMISSION and not named):
            continue
        if not _foreign_objects(manifest, path, live):
            plan.actions.append(access_deletion(kind, path, found, live))
    plan.actions = without_full_namespaces(plan.actions, live)
    return plan


def all_paths(manifest: Manifest, live: LiveAccess) -> Iterator[str]:
    """Yield the path of everything of these kinds, whoever made it."""
    return (path for _, path, _ in _everything(manifest, live))


def kinds_made(manifest: Manifest, live: LiveAccess) -> dict[str, tuple[ObjectKind, bool]]:
    """Return the kind of each object that this manifest made, and whether it was adopted."""
    return {
        own_path(path): (kind, is_adopted(manifest.id, found))
        for kind, path, found in _made_here(manifest, live)
    }


def foreign_objects_named(
    manifest: Manifest, live: LiveAccess, options: PruneOptions
) -> Iterator[str]:
    """Yield the paths of objects that the caller wants to delete and others made."""
    for _, path, found in _everything(manifest, live):
        if options.names(path) and owner_of(manifest.id, found) is not None:
            yield path


def kept_owners(
    manifest: Manifest, live: LiveAccess, options: PruneOptions, gone: Container[str]
) -> list[tuple[str, list[str]]]:
    """Return the login methods and engines that the caller wants to delete although others use
    them, each with the paths of these logins or secrets; "*" stands for those that could not be
    read."""
    made = (path for _, path, _ in _made_here(manifest, live))
    named = sorted(path for path in made if own_path(path) in gone and options.names(path))
    found = ((path, _foreign_objects(manifest, path, live)) for path in named)
    return [(path, others) for path, others in found if others]


def engines_to_search(
    manifest: Manifest, live: Mapping[str, LiveMount], options: PruneOptions
) -> frozenset[str]:
    """Return the paths of the kv engines of which a prune must know every secret."""
    declared = {engine.path for engine in manifest.engines}
    return frozenset(path for path in options.own_paths | declared if is_kv2(live.get(path)))


def _foreign_objects(manifest: Manifest, path: str, live: LiveAccess) -> list[str]:
    if path.startswith("sys/auth/"):
        return _foreign_logins(manifest, path, live)
    engine = own_path(path)
    if engine == path:
        return []
    unread = [f"{engine}/*"] if f"{engine}/metadata/" in live.unread else []
    return unread + [
        one
        for one in secrets_of(engine, live)
        if owner_of(manifest.id, live.secrets[one]) is not None
    ]


def secrets_of(engine: str, live: LiveAccess) -> list[str]:
    """Return the paths of the secrets of an engine that were read."""
    return sorted(path for path in live.secrets if path.startswith(secret_path(engine, "")))


def _foreign_logins(manifest: Manifest, path: str, live: LiveAccess) -> list[str]:
    prefix = f"auth/{path.removeprefix('sys/auth/')}/"
    unread = {one.rpartition("/")[0] for one in live.unread if one.startswith(prefix)}
    return [f"{one}/*" for one in sorted(unread)] + sorted(
        one
        for one, role in live.login_roles.items()
        if one.startswith(prefix) and owner_of(manifest.id, role) is not None
    )


def access_deletion(
    kind: ObjectKind, path: str, found: LiveObject, live: LiveAccess | None = None
) -> Action:
    """Return the action that deletes an object as it is now.

    Args:
        kind: its kind.
        path: its API path.
        found: the object.
        live: for an engine, its secrets; for a secret, its engine.
    """
    now = live_fields(found)
    if kind is ObjectKind.ENGINE and live:
        now["secrets"] = secrets_of(own_path(path), live)
    changes = tuple(Change(name, value, None) for name, value in now.items() if value)
    action = Action(ActionType.DELETE, kind, "", path, changes)
    if not isinstance(found, LiveSecret):
        return action
    engine = next((one for one in live.engines if path.startswith(f"{one}/")), "") if live else ""
    body = {"engine": engine, "path": path.removeprefix(secret_path(engine, ""))}
    return replace(action, body=body, cas=found.version)


def _made_here(
    manifest: Manifest, live: LiveAccess
) -> Iterator[tuple[ObjectKind, str, LiveObject]]:
    """Yield kind, path and object of everything that carries this manifest's mark.

    The secrets of an engine that the manifest does not declare stay as long as the engine does.
    """
    declared = tuple(secret_path(engine.path, "") for engine in manifest.engines)
    for kind, path, found in _everything(manifest, live):
        if owner_of(manifest.id, found) is not None:
            continue
        if kind is ObjectKind.SECRET and not path.startswith(declared):
            continue
        yield kind, path, found


def _everything(
    manifest: Manifest, live: LiveAccess
) -> Iterator[tuple[ObjectKind, str, LiveObject]]:
    """Yield kind, path and object of everything of these kinds, whoever made it."""
    engines = {path: one for path, one in live.engines.items() if one.type != manifest.plugin.name}
    everything: list[tuple[ObjectKind, str, LiveObject]] = [
        *((ObjectKind.POLICY, policy_path(name), one) for name, one in live.policies.items()),
        *(
            (ObjectKind.LOGIN_METHOD, f"sys/auth/{name}", one)
            for name, one in live.login_methods.items()
        ),
        *((ObjectKind.LOGIN_ROLE, path, one) for path, one in live.login_roles.items()),
        *((ObjectKind.GROUP, path, one) for path, one in live.groups.items()),
        *((ObjectKind.NAMESPACE, path, one) for path, one in live.namespaces.items()),
        *((ObjectKind.QUOTA, path, one) for path, one in live_quotas(live)),
        *((ObjectKind.ENGINE, f"sys/mounts/{path}", one) for path, one in engines.items()),
        *((ObjectKind.SECRET, path, one) for path, one in live.secrets.items()),
    ]
    yield from everything


def _undeclared(manifest: Manifest, kind: ObjectKind, path: str, found: LiveObject) -> Drift:
    named = kind in _NEEDS_PERMISSION or is_adopted(manifest.id, found)
    return Drift(
        DriftKind.UNDECLARED,
        "",
        own_path(path),
        reason=f"this manifest made this {kind.value.replace('_', ' ')} and no longer declares it",
        fix=put_back_or_prune(path if named else "") + _WITH_IT.get(kind, ""),
    )
