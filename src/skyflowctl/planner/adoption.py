"""Warns about objects that a plan takes over although its manifest did not create them."""

from collections.abc import Iterable

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import fields
from skyflowctl.planner.messages import change_text, place
from skyflowctl.planner.plan import (
    NEEDS_ADOPTION,
    TAKES_OVER,
    Action,
    ActionType,
    Change,
    ObjectKind,
    PlanOptions,
)
from skyflowctl.vault.live import LiveConfig, LiveMount, LiveRole, LiveState


def taken_over(
    manifest: Manifest,
    mount: Mount,
    live: LiveState,
    actions: Iterable[Action],
    *,
    options: PlanOptions,
    identity: CredentialId | None,
) -> list[Problem]:
    """Return a warning for each object that these actions change and this manifest did not create.

    If the caller did not name the object in ``--adopt``, an apply refuses the whole plan.

    Args:
        manifest: its marks identify its own objects.
        mount: the mount of the actions.
        live: the live state.
        actions: the actions on this mount.
        options: which objects the caller takes over.
        identity: the manifest's credential of the mount, if known.
    """
    found = {}
    for action in actions:
        owner = _owner(manifest, mount, live, action)
        if owner is not None and action.action is not ActionType.CREATE:
            details = _details(mount, live, action, identity)
            found[place(action)] = problem(mount.where, place(action), owner, details, options)
    return list(found.values())


def mount_owner(manifest: Manifest, live: LiveMount) -> str | None:
    """Return the id of the manifest that owns a mount; None for this one, empty for none."""
    owner = live.options.get("manifest", "")
    return None if owner == manifest.id else owner


def _owner(manifest: Manifest, mount: Mount, live: LiveState, action: Action) -> str | None:
    if action.kind is ObjectKind.MOUNT:
        there = live.mounts.get(mount.path)
        return mount_owner(manifest, there) if there else None
    object_ = _engine_object(mount, live, action)
    return None if object_ is None else fields.tags_owner(manifest.id, object_.tags)


def _engine_object(mount: Mount, live: LiveState, action: Action) -> LiveRole | LiveConfig | None:
    engine = live.engines.get(mount.path)
    if engine is None:
        return None
    if action.kind is ObjectKind.ROLE:
        return engine.roles.get(action.path.rpartition("/")[2])
    return engine.config if engine.config.configured else None


def _details(mount: Mount, live: LiveState, action: Action, identity: CredentialId | None) -> str:
    """Return the fields that decide who gets which token, before and after."""
    there = None if action.kind is ObjectKind.MOUNT else _engine_object(mount, live, action)
    if isinstance(there, LiveRole):
        changes = _role_changes(mount, there)
    elif isinstance(there, LiveConfig):
        after = identity.key_id if identity and action.needs_credential else there.key_id
        changes = (Change("key_id", there.key_id, after),)
    else:
        changes = ()  # the plan shows them; they decide nothing about tokens
    return "".join(f"; {detail(change)}" for change in changes)


def _role_changes(mount: Mount, live: LiveRole) -> tuple[Change, ...]:
    role = next(one for one in mount.roles if one.name == live.name)
    return (
        Change("role_ids", list(live.role_ids), [role.role_id]),
        Change("ctx_required", live.ctx_required, role.ctx.required),
        Change("ctx_pattern", live.ctx_pattern, role.ctx.pattern),
    )


def detail(change: Change) -> str:
    """Return one field as it is and as it will be; only once if it stays."""
    kept = change.before == change.after
    return change_text(Change(change.field, None, change.after) if kept else change)


def shared(where: Where, path: str, owner: str, options: PlanOptions) -> Problem:
    """Return the warning about a login method that another manifest made: both may use it."""
    if path in options.adopt and owner in options.adopt_from:
        return problem(where, path, owner, "", options)
    method = path.removeprefix("sys/auth/")
    return Problem(
        NEEDS_ADOPTION,
        f"{path} was not made by this manifest",
        f"the manifest {owner!r} made it, and one of the two declares it",
        f"leave {method} out of `auth` in one of the two manifests; consumers of both can use it",
        where,
    )


def problem(where: Where, path: str, owner: str, details: str, options: PlanOptions) -> Problem:
    """Return the warning about one object: ``owner`` made it, empty for none."""
    named = path in options.adopt and (not owner or owner in options.adopt_from)
    whose = f"the manifest {owner!r} made it" if owner else "it carries no manifest's mark"
    flags = f"--adopt={path}" + (f" --adopt-from={owner}" if owner else "")
    return Problem(
        TAKES_OVER if named else NEEDS_ADOPTION,
        f"{path} is taken over" if named else f"{path} was not made by this manifest",
        f"{whose}{details}",
        "it is marked as adopted" if named else f"to take it over: {flags}",
        where,
    )
