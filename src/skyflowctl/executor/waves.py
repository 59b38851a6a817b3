"""Orders the actions of a plan into waves: a wave starts when the previous one has ended.

A wave is a list of units, which may run in parallel; the actions of a unit run in order.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

from skyflowctl.planner.plan import MOUNT_KINDS, Action, ActionType, ObjectKind

NumberedAction = tuple[int, Action]
"""An action, with its number in the plan."""

Wave = list[list[NumberedAction]]


def waves(actions: Sequence[NumberedAction], parallelism: int) -> Iterator[Wave]:
    """Yield the waves of a plan, whose actions are in the order of the stages.

    Each stage is a wave of its own, or several. Only if there are as many mounts as may run at once
    is each new mount with its roles and its config one unit, and no mount waits for the others.
    """
    for of_mounts, found in groupby(actions, key=lambda pair: pair[1].kind in MOUNT_KINDS):
        block = list(found)
        if of_mounts and len({action.mount for _, action in block}) >= parallelism:
            yield from _mount_by_mount(block)
        else:
            yield from _stages(block)


def _mount_by_mount(actions: Sequence[NumberedAction]) -> Iterator[Wave]:
    """Yield the changes of the mounts that exist, stage by stage, then one unit for each mount."""
    early = [pair for pair in actions if _changes_mount(pair[1])]
    yield from _stages(early)
    done = {index for index, _ in early}
    units: dict[str, list[NumberedAction]] = defaultdict(list)
    for index, action in actions:
        if index not in done:
            units[action.mount].append((index, action))
    if units:
        yield list(units.values())


def _changes_mount(action: Action) -> bool:
    return action.kind is ObjectKind.MOUNT and action.action is not ActionType.CREATE


def _stages(actions: Sequence[NumberedAction]) -> Iterator[Wave]:
    """Yield for each kind the moves, then other units, then the upgrades, one after the other."""
    for _, found in groupby(actions, key=lambda pair: pair[1].kind):
        stage = list(found)
        if moves := [pair for pair in stage if pair[1].action is ActionType.MOVE]:
            yield [[pair] for pair in moves]
        apart = {ActionType.MOVE, ActionType.PLUGIN_UPGRADE}
        for group in _groups([pair for pair in stage if pair[1].action not in apart]):
            yield _units(group)
        if upgrades := [pair for pair in stage if pair[1].action is ActionType.PLUGIN_UPGRADE]:
            yield [upgrades]


def _groups(actions: Sequence[NumberedAction]) -> Iterator[list[NumberedAction]]:
    """Yield the actions in groups, each of which waits only for earlier ones."""
    left = list(actions)
    while left:
        paths = {action.path for _, action in left}
        waiting = [pair for pair in left if not paths.isdisjoint({*pair[1].after} - {pair[1].path})]
        if len(waiting) == len(left):
            waiting = []  # a circle cannot be put in order
        held = {index for index, _ in waiting}
        yield [pair for pair in left if pair[0] not in held]
        left = waiting


def _units(actions: Sequence[NumberedAction]) -> Wave:
    """Return the units that may run in parallel: one per role, one for a mount's own actions."""
    units: dict[str, list[NumberedAction]] = defaultdict(list)
    for index, action in actions:
        name = action.mount if action.kind is ObjectKind.MOUNT else str(index)
        units[name].append((index, action))
    return list(units.values())
