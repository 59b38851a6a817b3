"""The steps of one mount as they are made: timed, told to the listener, kept in order."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from skyflowctl.errors import SkyflowctlError
from skyflowctl.rotation.model import Step, StepName
from skyflowctl.rotation.ports import Dependencies, Notice, StepDone, StepStarted


@dataclass(slots=True)
class Found:
    """What a step found, told while it runs; ``ok`` False: it ended, and not well."""

    detail: str = ""
    ok: bool = True


class Recorder:
    """Keeps the steps of one mount.

    Args:
        world: its clock and its listener.
        mount: the name that events bear.
    """

    def __init__(self, world: Dependencies, mount: str) -> None:
        self._world = world
        self._mount = mount
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that are over, in order."""
        return tuple(self._steps)

    @contextmanager
    def step(self, name: StepName) -> Iterator[Found]:
        """Have what the block does be one step; what it raises is a step that was not well."""
        self._world.listener(StepStarted(self._mount, name))
        started, found = self._world.clock.monotonic(), Found()
        try:
            yield found
        except BaseException as error:
            found.ok = False
            if isinstance(error, SkyflowctlError):
                found.detail = error.problems[0].summary
            raise
        finally:
            spent = round((self._world.clock.monotonic() - started) * 1000, 1)
            step = Step(name, spent, found.ok, found.detail)
            self._steps.append(step)
            self._world.listener(StepDone(self._mount, step))

    def tell(self, text: str) -> None:
        """Tell a person who waits something that is no step."""
        self._world.listener(Notice(self._mount, text))
