"""The events of a run, for a progress display. Several threads send them, one at a time."""

from collections.abc import Callable

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.planner.plan import Action


@dataclass(frozen=True, slots=True)
class ActionStarted:
    """An action was started."""

    action: Action


@dataclass(frozen=True, slots=True)
class ActionDone:
    """An action is done, after so many milliseconds."""

    action: Action
    milliseconds: float


@dataclass(frozen=True, slots=True)
class ActionFailed:
    """An action failed, after so many milliseconds."""

    action: Action
    milliseconds: float
    problem: Problem


@dataclass(frozen=True, slots=True)
class ActionPending:
    """The server holds an action until another person approves it."""

    action: Action
    problem: Problem


@dataclass(frozen=True, slots=True)
class ActionSkipped:
    """An action was not started."""

    action: Action
    problem: Problem


ApplyEvent = ActionStarted | ActionDone | ActionFailed | ActionPending | ActionSkipped
ApplyListener = Callable[[ApplyEvent], None]
