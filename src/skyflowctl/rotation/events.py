"""What the listener of a rotation gets, while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from skyflowctl.rotation.model import Step, StepName


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of one mount has begun."""

    mount: str
    name: StepName


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step of one mount has ended, well or not."""

    mount: str
    step: Step


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for a person who waits, such as the reason for the wait."""

    mount: str
    text: str


RotationEvent = StepStarted | StepDone | Notice
RotationListener = Callable[[RotationEvent], None]
"""Called from several threads when several mounts are rotated at once."""


def ignore(_event: RotationEvent) -> None:
    """Drop the event."""
