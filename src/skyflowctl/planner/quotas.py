"""Plans rate limits: whose they are, and which of them would limit the same path."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Manifest
from skyflowctl.manifest.quotas import QUOTAS, quota_prefix
from skyflowctl.planner.desired import DesiredObject
from skyflowctl.planner.plan import ObjectKind
from skyflowctl.vault.live import LiveAccess


def live_quotas(live: LiveAccess) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield API path and fields of every quota that was read."""
    return ((path, one) for path, one in live.objects.items() if path.startswith(f"{QUOTAS}/"))


def quota_owner(manifest_id: str, found: Mapping[str, Any]) -> str | None:
    """Return the owner by name, as ``access.owner_of`` does.

    It is enough to show a quota as undeclared. A change needs the declared path too, a deletion
    ``--allow-destroy``.
    """
    name = str(found.get("name", ""))
    if name.startswith(quota_prefix(manifest_id)):
        return None
    first, _, rest = name.partition(".")
    owner, dot, _ = rest.partition(".")
    return owner if first == "skyflowctl" and dot else ""


def has_path(one: DesiredObject, found: Mapping[str, Any]) -> bool:
    """Whether a live quota of this name limits the declared path, so that it may be changed."""
    return bool(found.get("path") == one.fields["path"])


def after_moves(manifest: Manifest, live: LiveAccess) -> LiveAccess:
    """Return the live objects, each quota with its path after the moves: it follows its mount."""
    moves = [one for one in manifest.moved if one.kind == "mount"]
    changed = {
        path: {**quota, "path": _moved(str(quota.get("path", "")), one.old, one.new)}
        for one in moves
        for path, quota in live_quotas(live)
        if f"{quota.get('path', '')}/".startswith(f"{one.old}/")
    }
    return replace(live, objects={**live.objects, **changed}) if changed else live


def _moved(path: str, old: str, new: str) -> str:
    return new + path.removeprefix(old)


def conflict(one: DesiredObject, live: LiveAccess) -> Problem | None:
    """Return why the server would refuse a quota: another one has its path and role."""
    if one.kind is not ObjectKind.QUOTA:
        return None
    for path, found in live_quotas(live):
        same = has_path(one, found) and (found.get("role") or "") == one.fields["role"]
        if same and path != one.path:
            return Problem(
                "quota-path-taken",
                f"{one.path} cannot be written: {path} limits {one.fields['path']}",
                "the server has one quota for a path",
                _way_out(path, quota_owner("", found)),
                one.where,
            )
    return None


def _way_out(path: str, owner: str | None) -> str:
    """Return the fix of a conflict: another manifest's quota is not for this one to delete."""
    if owner:
        return (
            f"the manifest {owner} declares that one: keep it there or here, and apply the other "
            "manifest without it first"
        )
    return f"remove the other one:  bao delete {path}"
