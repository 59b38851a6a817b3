"""``role delete`` and ``mount disable``: delete one object, by the rules of a prune."""

from collections.abc import Collection

from skyflowctl.errors import Problem, RefusedError
from skyflowctl.executor.deletes import delete_object, readable_mount_deletion
from skyflowctl.manifest.messages import did_you_mean
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.planner import fields
from skyflowctl.planner.plan import Action, is_named
from skyflowctl.planner.prune import protected, role_deletion
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount, LiveRole


def plan_role_deletion(
    gateway: Gateway, path: str, name: str, manifest: Manifest | None, allowed: Collection[str]
) -> Action | None:
    """Return the deletion of a role; None if it does not exist.

    Raises:
        UsageError: nothing is mounted there, or not this engine.
        RefusedError: the manifest did not make the role, and ``allowed`` does not name it.
    """
    with not_found_is_usage_error(path):
        role = gateway.engine(path).role(name)
        if role is None:
            gateway.engine(path).checked_config()
            return None
    full = f"{path}/roles/{name}"
    if manifest and not _made_role(manifest, role) and not is_named(full, allowed):
        raise RefusedError(
            f"{full} was not made by the manifest {manifest.id!r}",
            why="it does not carry that manifest's mark, or was adopted",
            fix=f"to delete it: --allow-destroy={full}",
            code="needs-allow-destroy",
        )
    return role_deletion("", path, role)


def _made_role(manifest: Manifest, role: LiveRole) -> bool:
    adopted = fields.adopted_tag(manifest.id) in role.tags
    return fields.managed_tag(manifest.id) in role.tags and not adopted


def plan_mount_deletion(
    gateway: Gateway, path: str, manifest: Manifest | None, allowed: Collection[str], kind: str
) -> Action | None:
    """Return the deletion of a mount; None if it does not exist.

    Raises:
        RefusedError: it is protected or of another type, or ``allowed`` does not name it.
    """
    mount = gateway.sys.mount(path)
    if mount is None:
        return None
    if mount.type != kind:
        raise RefusedError(
            f"{path} is not deleted: a mount of type {mount.type!r} is there, not {kind!r}",
            why="this command deletes only mounts of Skyflow's engine",
            fix="'skyflowctl mount list' names them",
            code="type-differs",
        )
    if _is_protected(mount, path, manifest):
        raise RefusedError.of((protected(path),))
    if not is_named(path, allowed):
        raise RefusedError(
            f"{path} is deleted only if its path is given twice",
            why="its config, kept credentials and roles are lost, and cannot be restored",
            fix=f"add --allow-destroy={path}",
            code="needs-allow-destroy",
        )
    return readable_mount_deletion(mount, gateway)


def absent_mount(gateway: Gateway, path: str, kind: str) -> Problem | None:
    """Return a warning that a mount of a similar path exists, or None."""
    paths = (name for name, one in gateway.sys.mounts().items() if one.type == kind)
    near = did_you_mean(path.rpartition("/")[2], {one.rpartition("/")[2] for one in paths})
    if not near:
        return None
    return Problem("not-mounted", f"nothing is mounted at {path}", "nothing was deleted", near)


def _is_protected(mount: LiveMount, path: str, manifest: Manifest | None) -> bool:
    declared = manifest.mounts if manifest else ()
    return fields.mount_is_protected(mount) or any(
        one.path == path and one.protect for one in declared
    )


def carry_out_deletion(action: Action, gateway: Gateway) -> None:
    """Delete the object if it is still as it was read, and read it back.

    Raises:
        RefusedError: another client changed it meanwhile.
    """
    delete_object(action, gateway)
