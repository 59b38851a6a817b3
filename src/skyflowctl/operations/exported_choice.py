"""Chooses what an export writes: its mounts, and the id of their manifest."""

from collections.abc import Collection, Iterable, Mapping

from skyflowctl.engine.names import is_name
from skyflowctl.errors import Problem, RefusedError, UsageError
from skyflowctl.planner.fields import MANAGED_BY
from skyflowctl.text import listed
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveLoginMethod, LiveMount


def mounts_to_export(
    everything: Mapping[str, LiveMount], paths: Collection[str], plugin: str
) -> list[LiveMount]:
    """Return the mounts of a type, or those at these paths, sorted by path.

    Raises:
        UsageError: a path is not that of such a mount.
    """
    chosen = [one for one in everything.values() if one.type == plugin]
    if paths:
        chosen = [one for one in chosen if one.path in paths]
        _refuse_unknown(set(paths) - {one.path for one in chosen}, plugin)
    return sorted(chosen, key=lambda one: one.path)


def marked(
    gateway: Gateway, engines: Iterable[LiveMount], plugin: str
) -> list[LiveMount | LiveLoginMethod]:
    """Return the engines and login methods that manifests made.

    Raises:
        UsageError: there are none.
    """
    methods = gateway.sys.access.login_methods().values()
    found: list[LiveMount | LiveLoginMethod] = [*engines, *methods]
    marked = [one for one in found if one.options.get("managed_by") == MANAGED_BY]
    if not marked:
        raise nothing(plugin, "no engine or login method that a manifest made")
    return marked


def nothing(plugin: str, other: str) -> UsageError:
    """Return the error that there is nothing to write; ``other`` is what else was looked for."""
    return UsageError(
        "there is nothing to export",
        why=f"the server has no mount of type {plugin}, and {other}",
        fix="name another type with --plugin, or another id with --manifest",
        code="no-mounts",
    )


def _refuse_unknown(unknown: set[str], plugin: str) -> None:
    if unknown:
        raise UsageError(
            f"the server has no mount of type {plugin} at {listed(sorted(unknown))}",
            why="export reads live mounts only",
            fix="'skyflowctl mount list' shows the mounts",
            code="unknown-mount",
        )


def refuse_unread(problems: Iterable[Problem]) -> None:
    """Refuse to export a part: an apply of it would not know the rest."""
    found = list(problems)
    if found:
        raise RefusedError.of(found)


def recorded_id(mounts: Iterable[LiveMount | LiveLoginMethod]) -> str:
    """Return the id that all of these record.

    Raises:
        UsageError: they record none, or several.
    """
    ids = sorted({one.options.get("manifest", "") for one in mounts})
    if len(ids) == 1 and is_name(ids[0]):
        return ids[0]
    named = listed([one or "none" for one in ids])
    raise UsageError(
        f"the mounts do not belong to one manifest: {named}",
        why="each mount records the id of its manifest, and a manifest has one id",
        fix="export the mounts of one manifest, or choose an id: --manifest ID",
        code="several-manifests",
    )
