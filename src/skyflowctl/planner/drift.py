"""Describes drift: differences from the manifest that a person must resolve."""

from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import fields
from skyflowctl.planner.plan import Drift, DriftKind
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveRotation, way_out


def undeclared_mount(path: str) -> Drift:
    """Describe a mount that this manifest created and no longer declares."""
    return Drift(
        DriftKind.UNDECLARED,
        "",
        path,
        reason="this manifest created the mount but no longer declares it",
        fix="put it back into the manifest, or disable the mount by hand",
    )


def undeclared_roles(manifest: Manifest, mount: Mount, live: LiveEngine | None) -> list[Drift]:
    """Describe every role of the mount that the manifest does not declare."""
    known = {role.name for role in mount.roles}
    others = sorted(set(live.roles) - known) if live else []
    return [_undeclared_role(manifest, mount, live, name) for name in others if live]


def _undeclared_role(manifest: Manifest, mount: Mount, live: LiveEngine, name: str) -> Drift:
    role = live.roles[name]
    made_here = fields.managed_tag(manifest.id) in role.tags
    return Drift(
        DriftKind.UNDECLARED,
        mount.name,
        f"{mount.path}/roles/{name}",
        since=role.created,
        reason="this manifest created the role but no longer declares it"
        if made_here
        else "it does not carry this manifest's mark: this manifest did not make it",
        fix=f"add it to {mount.name}, or delete it by hand",
    )


def revoked(mount: Mount, live: LiveConfig) -> Drift:
    """Describe a cut-off; ``live`` is the mount's config, with the record of the cut-off."""
    mark = live.revoked
    since, by, reason = (mark.at, mark.by, mark.reason) if mark else ("", "", "")
    fix = way_out(mount.name, live.api)
    return Drift(DriftKind.REVOKED, mount.name, mount.path, since, by, reason, fix)


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
