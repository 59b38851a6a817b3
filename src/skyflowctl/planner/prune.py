"""Plans deletions: only what this manifest made and no longer declares. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import field, replace

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.messages import did_you_mean, meant
from skyflowctl.manifest.model import Manifest
from skyflowctl.planner import fields
from skyflowctl.planner.moves import undeclared_mounts
from skyflowctl.planner.plan import (
    Action,
    ActionType,
    Change,
    Drift,
    DriftKind,
    ObjectKind,
    PlanOptions,
    PruneOptions,
    own_path,
)
from skyflowctl.planner.prune_access import (
    all_paths,
    foreign_objects_named,
    kept_owners,
    kinds_made,
    plan_access_deletions,
)
from skyflowctl.planner.prune_empty import no_mounts_declared, without_mounts
from skyflowctl.planner.prune_limits import is_large, too_many
from skyflowctl.planner.prune_namespaces import kept_namespaces, namespaces_named
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveMount, LiveRole, LiveState


@dataclass(frozen=True, slots=True)
class Deletions:
    """The deletions, and warnings; most of them refuse the whole plan."""

    actions: tuple[Action, ...] = ()
    refused: tuple[Problem, ...] = ()

    @property
    def paths(self) -> frozenset[str]:
        """The deleted objects; these are no drift."""
        return frozenset(object_path(action) for action in self.actions)


@dataclass(slots=True)
class _Pruning:
    """The inputs of one prune, and how many objects of each kind this manifest made."""

    manifest: Manifest
    live: LiveState
    options: PruneOptions
    made: Counter[ObjectKind] = field(default_factory=Counter)

    def may_destroy(self, path: str) -> bool:
        """Whether the caller named the object in ``--allow-destroy``."""
        return self.options.names(path)


def object_path(action: Action) -> str:
    """Return the path by which a person names the object of an action."""
    return own_path(action.path)


def mounts_to_destroy(manifest: Manifest, live: LiveState, options: PlanOptions) -> tuple[str, ...]:
    """Return the undeclared mounts that a prune may delete; a plan shows what is in them."""
    if options.prune is None:
        return ()
    undeclared = undeclared_mounts(manifest, live.mounts)
    return tuple(path for path in undeclared if options.prune.names(path))


def plan_deletions(
    manifest: Manifest, live: LiveState, options: PlanOptions, drift: Iterable[Drift]
) -> Deletions:
    """Return the deletions of a plan.

    Args:
        manifest: its marks identify its own objects.
        live: the live state, with the engines of :func:`mounts_to_destroy`.
        options: what may be deleted; without ``prune``, nothing.
        drift: the drift of the plan; only undeclared objects are deleted.
    """
    if options.prune is None:
        return Deletions()
    if not manifest.mounts and undeclared_mounts(manifest, live.mounts):
        return Deletions(refused=(no_mounts_declared(manifest, live.mounts),))
    pruning = _Pruning(manifest, live, options.prune)
    undeclared = [one for one in drift if one.kind is DriftKind.UNDECLARED]
    gone = {one.path for one in undeclared}
    access = plan_access_deletions(manifest, live.access, options.prune, gone)
    pruning.made += access.made
    roles, mounts = _roles(pruning, undeclared), _mounts(pruning, undeclared)
    actions = (*roles, *mounts, *access.actions)
    refused = (
        *_not_made_here(pruning),
        *_kept_mounts(pruning, undeclared),
        *(_used_by_others(*one) for one in kept_owners(manifest, live.access, options.prune, gone)),
        *kept_namespaces(gone & namespaces_named(options.prune), access.actions, live.access),
        *_other_files(pruning),
        *too_many(actions, pruning.made, options.prune),
        *_unmatched(pruning, undeclared),
    )
    return Deletions(actions, refused)


def with_needed_flags(manifest: Manifest, live: LiveState, drift: Sequence[Drift]) -> list[Drift]:
    """Return the drift; a printed prune that would delete too many gets --allow-large-prune."""
    if not any(_PRUNE in one.fix for one in drift):
        return list(drift)
    if not manifest.mounts and undeclared_mounts(manifest, live.mounts):
        drift = [without_mounts(one, live.mounts) for one in drift]
    pruning = _Pruning(manifest, live, PruneOptions())
    undeclared = [one for one in drift if one.kind is DriftKind.UNDECLARED]
    gone = {one.path for one in undeclared}
    access = plan_access_deletions(manifest, live.access, pruning.options, gone)
    pruning.made += access.made
    roles, mounts = _roles(pruning, undeclared), _mounts(pruning, undeclared)
    unnamed = Counter(action.kind for action in (*roles, *mounts, *access.actions))
    kinds = kinds_made(manifest, live.access)
    found = []
    for one in drift:
        deleted, made = unnamed.copy(), pruning.made.copy()
        if _FLAG in one.fix:
            default = ObjectKind.ROLE if one.mount else ObjectKind.MOUNT
            kind, adopted = kinds.get(one.path, (default, _is_adopted(live, one)))
            deleted[kind] += 1
            made[kind] += adopted
        large = any(is_large(number, made[kind]) for kind, number in deleted.items())
        fix = one.fix.replace(_PRUNE, f"{_PRUNE} --allow-large-prune") if large else one.fix
        found.append(replace(one, fix=fix))
    return found


_FLAG = "--allow-destroy="
_PRUNE = "apply --prune"


def _is_adopted(live: LiveState, found: Drift) -> bool:
    """Whether an undeclared mount was adopted; a role is named only if it was."""
    mount = live.mounts.get(found.path)
    return bool(found.mount) or (mount is not None and fields.mount_is_adopted(mount))


def _unmatched(pruning: _Pruning, undeclared: Sequence[Drift]) -> Iterator[Problem]:
    """Yield a warning for each path that the caller named and that no object has.

    That is no error: an earlier run may have deleted the object.
    """
    live, options = pruning.live, pruning.options
    if options.below is not None:
        return  # the rest was not read
    known = {*live.mounts, *live.access.objects}
    known |= {own_path(path) for path in all_paths(pruning.manifest, live.access)}
    for path, engine in live.engines.items():
        known |= {f"{path}/roles/{name}" for name in (*engine.roles, *engine.unusable)}
    deletable = _deletable(pruning, undeclared)
    for path in sorted(options.allow_destroy):
        if own_path(path) in known:
            continue
        yield Problem(
            "nothing-to-destroy",
            f"--allow-destroy={path} names nothing that this prune can see",
            "it does not exist: an earlier run deleted it, or the path is misspelled",
            _likely(own_path(path), deletable) or "see 'skyflowctl plan --prune' for the paths",
        )


def _deletable(pruning: _Pruning, undeclared: Sequence[Drift]) -> set[str]:
    """Return the paths of the objects that a prune deletes if they are named."""
    manifest, live = pruning.manifest, pruning.live
    protected = {path for path, one in live.mounts.items() if fields.mount_is_protected(one)}
    foreign = {
        path
        for mount, engine in live.engines.items()
        for path in foreign_roles(manifest, mount, engine)
    }
    return {one.path for one in undeclared} - protected - foreign


def _likely(path: str, known: Collection[str]) -> str:
    """Return the question that suggests a similar path: one with the same end, if there is one."""
    end = path.rpartition("/")[2]
    same = [one for one in sorted(known) if one.rpartition("/")[2] == end]
    if same:
        return did_you_mean(path, same) or meant(same[0])
    return did_you_mean(path, known)


def _roles(pruning: _Pruning, undeclared: Sequence[Drift]) -> Iterator[Action]:
    manifest, live = pruning.manifest, pruning.live
    gone = {one.path for one in undeclared if one.mount}
    for mount in manifest.mounts:
        engine = live.engines.get(mount.path)
        if engine is None or not pruning.options.covers(mount.path):
            continue
        for name, role in engine.roles.items():
            path = f"{mount.path}/roles/{name}"
            adopted = fields.adopted_tag(manifest.id) in role.tags
            if fields.managed_tag(manifest.id) not in role.tags:
                continue
            if adopted and not pruning.may_destroy(path):
                continue
            pruning.made[ObjectKind.ROLE] += 1
            if path in gone:
                yield role_deletion(mount.name, mount.path, role)


def role_deletion(mount: str, mount_path: str, role: LiveRole) -> Action:
    """Return the action that deletes a role as it is now."""
    live = fields.live_role(role)
    return Action(
        ActionType.DELETE,
        ObjectKind.ROLE,
        mount,
        f"{mount_path}/roles/{role.name}",
        tuple(Change(name, value, None) for name, value in live.items() if value),
        cas=role.version or None,
    )


def _mounts(pruning: _Pruning, undeclared: Sequence[Drift]) -> Iterator[Action]:
    gone = {one.path for one in undeclared if not one.mount}
    former = {one.old for one in pruning.manifest.moved if one.kind == "mount"}
    for path, mount in pruning.live.mounts.items():
        if not _made_here(pruning.manifest, mount):
            continue
        if fields.mount_is_adopted(mount) and not pruning.may_destroy(path):
            continue
        pruning.made[ObjectKind.MOUNT] += 1
        engine = pruning.live.engines.get(path)
        if engine and path in gone - former and _may_delete_mount(pruning, path, mount):
            yield mount_deletion(mount, engine.roles, engine.config)


def _may_delete_mount(pruning: _Pruning, path: str, mount: LiveMount) -> bool:
    named = pruning.options.covers(path) and pruning.may_destroy(path)
    return named and not fields.mount_is_protected(mount) and not _unnamed_roles(pruning, path)


def mount_deletion(mount: LiveMount, roles: Iterable[str], config: LiveConfig | None) -> Action:
    """Return the action that deletes a mount as it is now, with everything in it; without a
    config if it could not be read."""
    live = {"type": mount.type, **fields.live_mount(mount)}
    live["options.adopted"] = mount.options.get("adopted")
    live |= {"roles": sorted(roles), "key_id": config.key_id if config else "unknown"}
    return Action(
        ActionType.DELETE,
        ObjectKind.MOUNT,
        "",
        f"sys/mounts/{mount.path}",
        tuple(Change(name, value, None) for name, value in live.items() if value),
    )


def _unnamed_roles(pruning: _Pruning, path: str) -> list[str]:
    """Return a mount's foreign roles that the caller did not name."""
    engine = pruning.live.engines.get(path)
    found = foreign_roles(pruning.manifest, path, engine) if engine else []
    return [one for one in found if not pruning.may_destroy(one)]


def foreign_roles(manifest: Manifest, path: str, engine: LiveEngine) -> list[str]:
    """Return the paths of a mount's roles that this manifest did not make."""
    mark, adopted = fields.managed_tag(manifest.id), fields.adopted_tag(manifest.id)
    usable = (
        name for name, role in engine.roles.items() if mark not in role.tags or adopted in role.tags
    )
    return sorted(f"{path}/roles/{name}" for name in (*usable, *engine.unusable))


def _made_here(manifest: Manifest, mount: LiveMount) -> bool:
    marks = (mount.options.get("managed_by"), mount.options.get("manifest"))
    return marks == (fields.MANAGED_BY, manifest.id) and mount.type == manifest.plugin.name


def _other_files(pruning: _Pruning) -> list[Problem]:
    """Refuse mounts that another set of manifest files made: it may declare what is absent here."""
    now = pruning.manifest.file_set
    others: dict[str, list[str]] = {}
    for path, mount in pruning.live.mounts.items():
        if _made_here(pruning.manifest, mount) and pruning.options.covers(path):
            made_from = mount.options.get("files", "")
            if made_from != now:
                others.setdefault(made_from, []).append(path)
    if pruning.options.allow_other_files:
        return []
    return [_made_from_others(paths, files, now) for files, paths in sorted(others.items())]


def _made_from_others(paths: Sequence[str], files: str, now: str) -> Problem:
    made = f"made from {files}" if files else "not marked with the files that made them"
    return Problem(
        "prune-other-files",
        f"mounts are {made}: {', '.join(paths)}",
        f"this run has {now or 'no files'}; another file may declare what looks undeclared here",
        "give the same -f files; if these are all of them now: --allow-other-files",
    )


def _not_made_here(pruning: _Pruning) -> list[Problem]:
    """Refuse objects that the caller wants to delete and this manifest did not make."""
    manifest, live = pruning.manifest, pruning.live
    found = []
    for path in sorted(pruning.options.own_paths):
        mount = live.mounts.get(path)
        owner, _, name = path.partition("/roles/")
        engine = live.engines.get(owner)
        role = engine.roles.get(name) if engine else None
        declared = {one.path for one in manifest.mounts}
        engine_of_plan = (
            path in live.access.engines and mount and mount.type != manifest.plugin.name
        )
        other_mount = mount is not None and not engine_of_plan and not _made_here(manifest, mount)
        other_role = role is not None and fields.managed_tag(manifest.id) not in role.tags
        if other_mount or (other_role and owner in declared):
            found.append(_made_by_others(path))
    others = foreign_objects_named(manifest, live.access, pruning.options)
    return found + [_made_by_others(path) for path in others]


def _made_by_others(path: str) -> Problem:
    return Problem(
        "prune-not-made-here",
        f"{path} is not deleted: this manifest did not make it",
        "it does not carry this manifest's mark, and a prune deletes nothing of others",
        f"leave out --allow-destroy={path}",
    )


def _kept_mounts(pruning: _Pruning, undeclared: Sequence[Drift]) -> Iterator[Problem]:
    """Yield why mounts that the caller wants to delete cannot be deleted."""
    for path in (one.path for one in undeclared if one.path in pruning.live.mounts):
        made = _made_here(pruning.manifest, pruning.live.mounts[path])
        if not made or not pruning.may_destroy(path):
            continue
        if fields.mount_is_protected(pruning.live.mounts[path]):
            yield protected(path)
        elif path not in pruning.live.engines:
            yield _contents_unknown(path)
        elif roles := _unnamed_roles(pruning, path):
            yield _holds_foreign_roles(path, roles)


def _contents_unknown(path: str) -> Problem:
    return Problem(
        "prune-contents-unknown",
        f"{path} is not deleted: its roles cannot be read",
        "others may have made roles in it",
        f"let this login read {path}, or delete it: 'skyflowctl mount disable {path}'",
    )


def _holds_foreign_roles(path: str, roles: Sequence[str]) -> Problem:
    return Problem(
        "prune-not-made-here",
        f"{path} is not deleted: it has roles that this manifest did not make",
        f"they would be deleted too: {', '.join(roles)}",
        f"to delete them: {' '.join(f'--allow-destroy={one}' for one in roles)}",
    )


def _used_by_others(path: str, objects: Sequence[str]) -> Problem:
    kind = "logins" if path.startswith("sys/auth/") else "secrets"
    return Problem(
        "prune-not-made-here",
        f"{path} is not deleted: it has {kind} that this manifest did not make",
        f"they would be deleted too: {', '.join(objects)}",
        f"delete them first, or leave out --allow-destroy={path}",
    )


def protected(path: str) -> Problem:
    """Return the problem of a mount that the manifest protected when it was last applied."""
    return Problem(
        "prune-protected",
        f"{path} is protected and is not deleted",
        "its manifest said `protect: true` when it was last applied",
        "declare it with `protect: false`, apply, and then remove it",
    )
