"""Chooses what an export writes: its mounts, and the id of their manifest."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from skyflowctl.engine.names import is_name
from skyflowctl.errors import Problem, RefusedError, UsageError
from skyflowctl.manifest.quotas import QUOTAS
from skyflowctl.operations.exported_settings import Warn
from skyflowctl.planner.access import owner_of
from skyflowctl.planner.fields import MANAGED_BY
from skyflowctl.text import listed
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveAccess, LiveLoginMethod, LiveMount, LivePolicy

_Mounted = TypeVar("_Mounted", LiveMount, LiveLoginMethod)


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


_BUILT_IN_TYPES = frozenset({"cubbyhole", "identity", "system", "token"})
_BUILT_IN_POLICIES = frozenset({"control-group", "default", "response-wrapping", "root"})


def is_built_in(one: LiveMount | LiveLoginMethod) -> bool:
    """Whether the server itself made an engine or login method."""
    return one.type.removeprefix("ns_") in _BUILT_IN_TYPES


def is_unknown(owner: str, access: LiveAccess, mounts: Iterable[LiveMount]) -> bool:
    """Whether nothing on the server is a manifest's."""
    named = (access.policies, access.login_methods, access.objects)
    found = [*mounts, *(one for each in named for one in each.values())]
    return not any(owner_of(owner, one) is None for one in found)


def nobodys(
    owner: str, access: LiveAccess, engines: Iterable[LiveMount], warn: Warn
) -> tuple[LiveAccess, list[LiveMount]]:
    """Return what no manifest made, for a manifest that is to adopt it; quotas have no mark that
    could be added, so they are a warning."""
    objects = dict(access.objects)
    quotas = [path for path in objects if path.startswith(f"{QUOTAS}/")]
    _warn_by_hand(warn, "quotas", quotas, "declare each, and delete the one made by hand")
    for path in quotas:
        del objects[path]
    policies = _without_built_in(access.policies)
    return replace(access, policies=policies, objects=objects), _without_mark(owner, engines)


def ours(
    owner: str, access: LiveAccess, engines: Iterable[LiveMount], warn: Warn
) -> tuple[LiveAccess, list[LiveMount]]:
    """Return what a manifest made; what no manifest made is a warning of each kind."""
    known = list(engines)
    policies = {name: one for name, one in access.policies.items() if owner_of(owner, one) is None}
    objects = {path: one for path, one in access.objects.items() if owner_of(owner, one) is None}
    methods = access.login_methods.values()
    by_hand = {
        "engines": [one.path for one in _without_mark(owner, known)],
        "login methods": [one.name for one in _without_mark(owner, methods)],
        "policies": sorted(_without_built_in(access.policies).keys() - policies.keys()),
        "objects": sorted(access.objects.keys() - objects.keys()),
    }
    for kind, names in by_hand.items():
        _warn_by_hand(warn, kind, names, _ADOPT)
    made = [one for one in known if owner_of(owner, one) is None]
    return replace(access, policies=policies, objects=objects), made


def _without_mark(owner: str, found: Iterable[_Mounted]) -> list[_Mounted]:
    return [one for one in found if not is_built_in(one) and owner_of(owner, one) == ""]


def _without_built_in(policies: Mapping[str, LivePolicy]) -> dict[str, LivePolicy]:
    return {name: one for name, one in policies.items() if name not in _BUILT_IN_POLICIES}


_ADOPT = (
    "'skyflowctl export --manifest ID' writes what no manifest made, if ID is a new one; copy the "
    "sections, then apply with --adopt=PATH for each"
)


def _warn_by_hand(warn: Warn, kind: str, names: Sequence[str], fix: str) -> None:
    if names:
        what = f"made by hand and left out: {', '.join(names)}"
        warn(kind, what, "no manifest's mark is on them", fix)


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
