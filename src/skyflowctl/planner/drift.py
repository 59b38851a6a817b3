"""Describes drift: differences from the manifest that a person must resolve."""

from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import fields
from skyflowctl.planner.plan import Drift, DriftKind
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveMount, LiveRole, LiveRotation, way_out


def undeclared_mount(live: LiveMount) -> Drift:
    """Describe a mount that this manifest created and no longer declares."""
    path = live.path
    fix = put_back_or_prune(path)
    if fields.mount_is_protected(live):
        fix = (
            f"{_PUT_BACK}; it is protected: apply it with `protect: false` before it can be removed"
        )
    return Drift(
        DriftKind.UNDECLARED,
        "",
        path,
        reason="this manifest created the mount but no longer declares it",
        fix=fix,
    )


_PUT_BACK = "put it back into the manifest"


def put_back_or_prune(path: str = "") -> str:
    """Return the fix for an undeclared object of this manifest; ``path``: a prune must name it."""
    return f"{_PUT_BACK}, or {_prune(path)}"


def _prune(path: str = "") -> str:
    named = [f"--allow-destroy={path}"] if path else []
    return f"'{' '.join(['skyflowctl apply --prune', *named])}' deletes it"


def undeclared_roles(manifest: Manifest, mount: Mount, live: LiveEngine | None) -> list[Drift]:
    """Describe every role of the mount that the manifest does not declare."""
    known = {role.name for role in mount.roles}
    others = sorted(set(live.roles) - known) if live else []
    return [_undeclared_role(manifest, mount, live, name) for name in others if live]


def _undeclared_role(manifest: Manifest, mount: Mount, live: LiveEngine, name: str) -> Drift:
    role = live.roles[name]
    path = f"{mount.path}/roles/{name}"
    removal = _role_removal(manifest, path, role)
    fix = f"add it to {mount.name}, or {removal}"
    new = next((one.new for one in manifest.moved if one.old == path), "")
    if new:
        reason, fix = f"it was moved to {new}", f"once nothing reads it: {removal}"
    elif fields.managed_tag(manifest.id) in role.tags:
        reason = "this manifest created the role but no longer declares it"
    else:
        reason = "it does not carry this manifest's mark: this manifest did not make it"
    return Drift(DriftKind.UNDECLARED, mount.name, path, role.created, reason=reason, fix=fix)


def _role_removal(manifest: Manifest, path: str, role: LiveRole) -> str:
    if fields.managed_tag(manifest.id) not in role.tags:
        mount, _, name = path.partition("/roles/")
        return f"'skyflowctl role delete {mount} {name} --allow-destroy={path}' deletes it"
    adopted = fields.adopted_tag(manifest.id) in role.tags
    return _prune(path if adopted else "")


def revoked(mount: Mount, live: LiveConfig, former: str = "") -> Drift:
    """Describe a cut-off.

    Args:
        mount: the mount.
        live: its config, with the record of the cut-off.
        former: where the mount still is, if it is to be moved.
    """
    mark = live.revoked
    since, by, reason = (mark.at, mark.by, mark.reason) if mark else ("", "", "")
    fix = way_out(former or mount.name, live.api)
    path = former or mount.path
    return Drift(DriftKind.REVOKED, mount.name, path, since, by, reason, fix)


def open_rotation_drift(mount: Mount, rotation: LiveRotation, *, written: bool) -> Drift:
    """Describe an open rotation; an apply neither commits it nor rolls it back."""
    stands = f"its key {rotation.to_key} is live" if written else "it has made no key live"
    return Drift(
        DriftKind.OPEN_ROTATION,
        mount.name,
        mount.path,
        since=rotation.started,
        by=rotation.by,
        reason=f"rotation {rotation.id} is not finished: {stands}",
        fix=f"if no rotation is running: 'skyflowctl rotate {mount.name}' finishes or undoes it",
    )
