"""Mounts that are not where the manifest has them: declared moves, and likely ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import fields, messages
from skyflowctl.planner.plan import Drift, DriftKind
from skyflowctl.vault.live import LiveEngine, LiveMount, LiveState


@dataclass(frozen=True, slots=True)
class Move:
    """An undeclared mount that is probably a declared mount that is absent.

    Args:
        mount: the declared mount.
        path: the path of the undeclared mount.
        key: how it has had the manifest's key; empty if it has not, as far as is known.
        description: whether both have the same description.
        roles: the roles that both have, with the same role_ids.
    """

    mount: Mount
    path: str
    key: str = ""
    description: bool = False
    roles: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Rank of the evidence: a key is stronger than a description, a description than roles."""
        return bool(self.key), self.description, len(self.roles)

    @property
    def evidence(self) -> str:
        """Why the two mounts are considered the same."""
        found = [self.key] if self.key else []
        found += ["the descriptions are the same"] if self.description else []
        found += [f"role {name} is the same" for name in self.roles]
        return ", ".join(found)

    def drift(self) -> Drift:
        """Describe it."""
        name, wanted = self.mount.name, self.mount.path
        return Drift(
            DriftKind.MOVED,
            name,
            self.path,
            reason=f"nothing is mounted at {wanted}, and {self.path} looks like {name}: "
            f"this manifest made it, and {self.evidence}",
            fix=f"to keep it there, set `path: {self.path}` on {name}; to have it where the "
            f"manifest says, add `moved: [{{from: {self.path}, to: {wanted}}}]`; if it is another "
            f"mount: "
            f"'bao secrets tune -options=manifest= {self.path}' removes the mark",
        )


def former_paths(manifest: Manifest) -> dict[str, str]:
    """Return the former path of each mount that the manifest says was moved, by path."""
    return {one.new: one.old for one in manifest.moved if one.kind == "mount"}


def as_moved(manifest: Manifest, live: LiveState) -> LiveState:
    """Return the live state as if every declared move were made already.

    A mount that is still at its former path is under its new one; ``LiveMount.path`` remains
    where it is. Nothing changes for a mount that is at its new path, at both, or at none.
    """
    moving = {
        old: new
        for new, old in former_paths(manifest).items()
        if old in live.mounts and new not in live.mounts
    }
    if not moving:
        return live
    return replace(
        live,
        mounts=_renamed(live.mounts, moving),
        engines=_renamed(live.engines, moving),
        problems=_renamed(live.problems, moving),
    )


_Value = TypeVar("_Value")


def _renamed(found: Mapping[str, _Value], names: Mapping[str, str]) -> dict[str, _Value]:
    return {names.get(path, path): value for path, value in found.items()}


def also_at_former_path(manifest: Manifest, mount: Mount, live: Mapping[str, LiveMount]) -> str:
    """Return the former path of a mount if a mount is at both paths; empty if not."""
    former = former_paths(manifest).get(mount.path, "")
    return former if former in live and mount.path in live else ""


def warning(manifest: Manifest, mount: Mount, former: str, *, allowed: bool) -> Problem:
    """Return the warning about a mount that is moved: what fails at its former path."""
    readers = (
        one.name for one in manifest.consumers if mount.name in {name for name, _ in one.grants}
    )
    return messages.moves_mount(mount, former, tuple(readers), allowed=allowed)


def undeclared_mounts(manifest: Manifest, live: Mapping[str, LiveMount]) -> list[str]:
    """Return the paths that have this manifest's marks and that it no longer declares."""
    known = {mount.path for mount in manifest.mounts}
    known |= {engine.path for engine in manifest.engines}
    ours = (
        path
        for path, mount in live.items()
        if mount.options.get("managed_by") == fields.MANAGED_BY
        and mount.options.get("manifest") == manifest.id
        and mount.type == manifest.plugin.name
    )
    return sorted(set(ours) - known)


def absent_mounts(manifest: Manifest, live: Mapping[str, LiveMount]) -> list[Mount]:
    """Return the declared mounts whose path has no mount."""
    return [mount for mount in manifest.mounts if mount.path not in live]


def moved_mounts(
    manifest: Manifest, live: LiveState, identities: Mapping[str, CredentialId | None]
) -> dict[str, Move]:
    """Return the new paths of absent mounts, by mount name.

    Only undeclared mounts with this manifest's marks are considered. One counts as the absent
    mount

    - if the manifest's key is live on it, was live before, or was revoked there;
    - if its keys cannot be compared (an unresolved reference, or an engine that does not
      return the key): if the descriptions, or one role with its role_ids, are the same;
    - if all its keys differ: only if the description and a role are the same.

    So equal roles or equal descriptions alone do not confuse two product lines with different
    keys. In doubt it counts: a refused apply can be fixed by hand, but a second live copy, or a
    revoked key on a new mount, cannot. Each side is matched once, by the best evidence.
    """
    absent = absent_mounts(manifest, live.mounts)
    candidates = undeclared_mounts(manifest, live.mounts) if absent else []
    matches = [
        match
        for mount in absent
        for path in candidates
        if (match := _match(mount, path, live, identities.get(mount.name)))
    ]
    found: dict[str, Move] = {}
    taken: set[str] = set()
    for match in sorted(matches, key=lambda one: one.rank, reverse=True):
        if match.mount.name not in found and match.path not in taken:
            found[match.mount.name] = match
            taken.add(match.path)
    return found


def _match(mount: Mount, path: str, live: LiveState, wanted: CredentialId | None) -> Move | None:
    there, engine = live.mounts[path].description, live.engines.get(path)
    if engine is None:
        # It cannot be read, so only the description is known, and both may have none.
        same = there == mount.description
        return Move(mount, path, description=True) if same else None
    found = Move(
        mount,
        path,
        _key_evidence(engine, wanted),
        bool(there) and there == mount.description,
        _same_roles(mount, engine),
    )
    if found.key:
        return found
    enough = all if _keys_are_others(engine, wanted) else any
    return found if enough((found.description, bool(found.roles))) else None


def _key_evidence(engine: LiveEngine, wanted: CredentialId | None) -> str:
    if wanted is None:
        return ""
    if engine.config.configured and engine.config.key_id == wanted.key_id:
        return f"the manifest's key {wanted.key_id} is live there"
    if wanted.key_id in engine.revoked:
        return f"the manifest's key {wanted.key_id} was revoked there"
    if wanted.key_id in (engine.history or {}).values():
        return f"the manifest's key {wanted.key_id} was live there before"
    return ""


def _keys_are_others(engine: LiveEngine, wanted: CredentialId | None) -> bool:
    """Return whether every key that the mount has had is known, and none is the manifest's."""
    if wanted is None or not engine.history:
        return False
    return not _key_evidence(engine, wanted)


def _same_roles(mount: Mount, engine: LiveEngine) -> tuple[str, ...]:
    live = {name: role.role_ids for name, role in engine.roles.items()}
    return tuple(role.name for role in mount.roles if live.get(role.name) == (role.role_id,))
