"""Events that a running rotation sends to its listener."""

from collections.abc import Callable

from skyflowctl.frozen import dataclass
from skyflowctl.rotation.model import Step, StepName


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of one mount has begun."""

    mount: str
    name: StepName


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step of one mount has ended, with or without success."""

    mount: str
    step: Step


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the waiting user, such as the reason for a wait."""

    mount: str
    text: str


RotationEvent = StepStarted | StepDone | Notice
RotationListener = Callable[[RotationEvent], None]
"""Called from several threads when several mounts are rotated at once."""


def ignore(_event: RotationEvent) -> None:
    """Drop the event."""
