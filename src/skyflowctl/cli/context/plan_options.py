"""Turns the arguments and flags of plan and apply into the options of a plan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyflowctl.cli.context.manifests import named_mounts
from skyflowctl.cli.plan_options import PermitOptions
from skyflowctl.errors import UsageError

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.planner.plan import PlanOptions, PruneOptions


def plan_options(
    manifest: "Manifest", mounts: Sequence[str] | None, permits: PermitOptions
) -> "PlanOptions":
    """Return the plan's options from the arguments and flags of plan and apply.

    With ``--prune``, a path of ``--allow-destroy`` is an argument too, although the manifest does
    not declare it.

    Raises:
        UsageError: the manifest has no such mount, or a flag needs ``--prune``.
    """
    from skyflowctl.planner.plan import PlanOptions

    pruned = _prune_options(manifest, mounts, permits)
    named = [name for name in mounts or () if not pruned or not pruned.names(name.strip("/"))]
    only = named_mounts(manifest, named)
    return PlanOptions(
        only=frozenset() if mounts and only is None else only,
        replace_credential=frozenset(permits.replace_credential or ()),
        allow_revoked_key=frozenset(permits.allow_revoked_key or ()),
        adopt=_paths(permits.adopt),
        adopt_from=frozenset(permits.adopt_from or ()),
        allow_move=_paths(permits.allow_move),
        prune=pruned,
    )


def _prune_options(
    manifest: "Manifest", mounts: Sequence[str] | None, permits: PermitOptions
) -> "PruneOptions | None":
    from skyflowctl.planner.plan import PruneOptions

    if not permits.prune:
        _refuse_without_prune(permits)
        return None
    paths = {mount.name: mount.path for mount in manifest.mounts}
    below = frozenset(paths.get(name, name.strip("/")) for name in mounts or ())
    return PruneOptions(
        below=below if mounts else None,
        allow_destroy=_paths(permits.allow_destroy),
        allow_large=permits.allow_large_prune,
        allow_other_files=permits.allow_other_files,
    )


def _refuse_without_prune(permits: PermitOptions) -> None:
    given = {
        "--allow-destroy": permits.allow_destroy,
        "--allow-large-prune": permits.allow_large_prune,
        "--allow-other-files": permits.allow_other_files,
    }
    if name := next((name for name, value in given.items() if value), ""):
        raise UsageError(
            f"{name} is only for --prune",
            why="without --prune, nothing is deleted",
            fix=f"add --prune, or leave out {name}",
            code="contradiction",
        )


def _paths(texts: Sequence[str] | None) -> frozenset[str]:
    return frozenset(path.strip("/") for path in texts or ())
