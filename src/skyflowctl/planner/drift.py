"""What differs from the manifest and is for a person to settle: no action mends it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import fields
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.planner.plan import Drift, DriftKind
from skyflowctl.vault.live import (
    LiveConfig,
    LiveEngine,
    LiveMount,
    LiveRotation,
    LiveState,
    way_out,
)


@dataclass(frozen=True, slots=True)
class _Match:
    """How much an undeclared mount looks like a declared one that is absent."""

    mount: Mount
    path: str
    same_key: bool
    same_description: bool

    @property
    def rank(self) -> tuple[bool, bool]:
        """A key is better evidence than a description, which several mounts may share."""
        return (self.same_key, self.same_description)


def undeclared_mounts(manifest: Manifest, live: Iterable[LiveMount]) -> list[str]:
    """Return the paths that carry this manifest's marks and are not in it any more."""
    known = {mount.path for mount in manifest.mounts}
    ours = (
        mount.path
        for mount in live
        if mount.options.get("managed_by") == fields.MANAGED_BY
        and mount.options.get("manifest") == manifest.id
    )
    return sorted(set(ours) - known)


def absent_mounts(manifest: Manifest, live: Mapping[str, LiveMount]) -> list[Mount]:
    """Return the manifest's mounts whose path is free."""
    return [mount for mount in manifest.mounts if mount.path not in live]


def moved_mounts(
    manifest: Manifest, live: LiveState, identities: Mapping[str, CredentialIdentity | None]
) -> dict[str, str]:
    """Return where absent mounts seem to have gone: mount name to the path that has them.

    An undeclared mount of this manifest counts if its roles are the same, and its key or,
    where there are roles, its description is. Each of the two sides is matched once, by
    the best evidence.
    """
    absent = absent_mounts(manifest, live.mounts)
    candidates = undeclared_mounts(manifest, live.mounts.values()) if absent else []
    matches = [
        match
        for mount in absent
        for path in candidates
        if (match := _match(mount, path, live, identities.get(mount.name)))
    ]
    found: dict[str, str] = {}
    for match in sorted(matches, key=lambda one: one.rank, reverse=True):
        if match.mount.name not in found and match.path not in found.values():
            found[match.mount.name] = match.path
    return found


def _match(
    mount: Mount, path: str, live: LiveState, wanted: CredentialIdentity | None
) -> _Match | None:
    engine = live.engines.get(path)
    if engine is None or not _same_roles(mount, engine):
        return None
    same_key = wanted is not None and engine.config.key_id == wanted.key_id
    description = live.mounts[path].description
    same_description = bool(description and mount.roles) and description == mount.description
    return _Match(mount, path, same_key, same_description) if same_key or same_description else None


def _same_roles(mount: Mount, engine: LiveEngine) -> bool:
    declared = {role.name: (role.role_id,) for role in mount.roles}
    return declared == {name: role.role_ids for name, role in engine.roles.items()}


def moved(mount: Mount, path: str) -> Drift:
    """Describe a mount that was moved by hand."""
    return Drift(
        DriftKind.MOVED,
        mount.name,
        path,
        reason=f"nothing is mounted at {mount.path}, and {path} looks like {mount.name}: "
        "made by this manifest, with the same roles and the same key or description",
        fix=f"set `path: {path}` on {mount.name}, or move it back: "
        f"'bao secrets move {path} {mount.path}'",
    )


def undeclared_mount(path: str) -> Drift:
    """Describe a mount that this manifest made and no longer names."""
    return Drift(
        DriftKind.UNDECLARED,
        "",
        path,
        reason="this manifest created the mount but no longer declares it",
        fix="put it back into the manifest, or disable the mount by hand",
    )


def undeclared_roles(manifest: Manifest, mount: Mount, live: LiveEngine | None) -> list[Drift]:
    """Describe every role of the mount that the manifest does not name."""
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
        else "it does not carry this manifest's mark: somebody else made it",
        fix=f"add it to {mount.name}, or delete it by hand",
    )


def revoked(mount: Mount, live: LiveConfig) -> Drift:
    """Describe a cut-off; ``live`` is the mount's config, with what is kept of it."""
    mark = live.revoked
    since, by, reason = (mark.at, mark.by, mark.reason) if mark else ("", "", "")
    fix = way_out(mount.name, live.api)
    return Drift(DriftKind.REVOKED, mount.name, mount.path, since, by, reason, fix)


def open_rotation(mount: Mount, rotation: LiveRotation, *, written: bool) -> Drift:
    """Describe a rotation that was not ended; an apply neither commits it nor undoes it."""
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
