"""Decides which namespaces a prune may delete: only empty ones, because the server deletes the
contents of a namespace with it."""

from collections.abc import Iterable, Iterator, Sequence

from skyflowctl.errors import Problem
from skyflowctl.planner.plan import Action, PruneOptions
from skyflowctl.text import listed
from skyflowctl.vault.live import NAMESPACE_PATHS, LiveAccess


def namespaces_named(options: PruneOptions) -> frozenset[str]:
    """Return the paths of the namespaces that the caller wants to delete."""
    return frozenset(path for path in options.own_paths if path.startswith(NAMESPACE_PATHS))


def without_full_namespaces(actions: Sequence[Action], live: LiveAccess) -> list[Action]:
    """Return the deletions without those of namespaces that are not known to be empty."""
    kept = {path for path, left in _left(actions, live) if left}
    return [one for one in actions if one.path not in kept]


def kept_namespaces(
    named: Iterable[str], actions: Sequence[Action], live: LiveAccess
) -> Iterator[Problem]:
    """Yield why namespaces that the caller wants to delete are kept.

    Args:
        named: the paths of these namespaces; this manifest made them and does not declare them.
        actions: the deletions; what they delete in a namespace is gone before it.
        live: has the contents of these namespaces.
    """
    left = dict(_left(actions, live))
    for path in sorted(named):
        found = left.get(path) or ()
        if isinstance(found, Problem):
            yield _unknown(path, found)
        elif found:
            yield not_empty(path, found)


def _left(
    actions: Sequence[Action], live: LiveAccess
) -> Iterator[tuple[str, Sequence[str] | Problem]]:
    """Yield each namespace with what these deletions leave in it, or why that is not known."""
    deleted = {one.path for one in actions}
    for path, found in live.contents.items():
        if isinstance(found, Problem):
            yield path, found
        else:
            yield path, [one for one in found if one not in deleted]


def not_empty(path: str, contents: Sequence[str]) -> Problem:
    """Return the problem of a namespace with contents."""
    return Problem(
        "prune-not-empty",
        f"{path} is not deleted: it is not empty",
        f"the server would delete {listed(contents)}",
        "delete its contents first, with the manifest that made them and -n; then run this again",
    )


def _unknown(path: str, cause: Problem) -> Problem:
    name = path.removeprefix(NAMESPACE_PATHS)
    return Problem(
        "prune-contents-unknown",
        f"{path} is not deleted: it is not known whether it is empty",
        f"the server would delete its contents, and {cause.summary}",
        f"let this login list {name}/sys, {name}/identity and sys/quotas/rate-limit; or leave out "
        f"--allow-destroy={path}",
    )
