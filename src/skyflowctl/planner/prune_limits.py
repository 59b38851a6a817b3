"""How much of a kind one prune may delete."""

from collections import Counter
from collections.abc import Iterable

from skyflowctl.errors import Problem
from skyflowctl.planner.plan import Action, ObjectKind, PruneOptions
from skyflowctl.text import counted

LARGEST_SHARE = 0.3
"""A prune may delete this share of a kind, and always :data:`SMALL_NUMBER` objects, but never
all of a kind."""

SMALL_NUMBER = 2


def too_many(
    actions: Iterable[Action], made: Counter[ObjectKind], options: PruneOptions
) -> list[Problem]:
    """Return a problem for each kind of which a prune would delete too many.

    That is more than 30 % and more than 2 objects, or all of them.
    """
    deleted = Counter(action.kind for action in actions)
    return [
        _too_many(kind, number, made[kind])
        for kind, number in deleted.items()
        if not options.allow_large and is_large(number, made[kind])
    ]


def is_large(number: int, made: int) -> bool:
    """Whether a prune of so many of the objects that this manifest made needs a permission."""
    return number >= made or (number > SMALL_NUMBER and number > LARGEST_SHARE * made)


def _too_many(kind: ObjectKind, number: int, made: int) -> Problem:
    what = counted(made, f"object of the kind {kind}", f"objects of the kind {kind}")
    return Problem(
        "prune-too-many",
        f"this would delete {number} of {what}",
        f"one prune deletes at most {SMALL_NUMBER} objects or {LARGEST_SHARE:.0%} of a kind, "
        "and never all of it: a file may be missing",
        "if all of these are to go: --allow-large-prune",
    )
