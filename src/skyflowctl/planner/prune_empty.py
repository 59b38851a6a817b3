"""A prune of a manifest that declares no mounts and has made some: it is refused, and every text
names what works instead."""

from collections.abc import Mapping
from dataclasses import replace

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Manifest
from skyflowctl.planner import fields
from skyflowctl.planner.moves import undeclared_mounts
from skyflowctl.planner.plan import Drift
from skyflowctl.vault.live import LiveMount


def no_mounts_declared(manifest: Manifest, mounts: Mapping[str, LiveMount]) -> Problem:
    """Return why nothing is deleted: an empty file looks the same as a lost one."""
    made = undeclared_mounts(manifest, mounts)
    free = [path for path in made if not fields.mount_is_protected(mounts[path])]
    commands = "; ".join(f"'{_disable(path)}'" for path in free)
    held = sorted({*made} - {*free})
    also = f"declare and apply {', '.join(held)} with `protect: false`" if held else ""
    return Problem(
        "prune-empty-manifest",
        f"the manifest {manifest.id!r} declares no mounts and has made some: nothing is deleted",
        "an empty file looks the same as a lost one",
        f"{'; '.join(filter(None, (also, commands)))}; then run this again",
    )


def without_mounts(drift: Drift, mounts: Mapping[str, LiveMount]) -> Drift:
    """Return the drift of a manifest without mounts with a fix that is not refused.

    Args:
        drift: what this manifest made and does not declare.
        mounts: every live mount.
    """
    prune = "'skyflowctl apply --prune"
    if drift.path in mounts:
        named = f"{prune} --allow-destroy={drift.path}'"
        return replace(drift, fix=drift.fix.replace(named, f"'{_disable(drift.path)}'"))
    later = f"once none of this manifest's mounts is left, {prune}"
    return replace(drift, fix=drift.fix.replace(prune, later))


def _disable(path: str) -> str:
    return f"skyflowctl mount disable {path} --allow-destroy={path}"
