"""Retries a request of a rotation while its failure is transient."""

from collections.abc import Callable
from typing import TypeVar

from skyflowctl.rotation.session import RotationSession
from skyflowctl.vault.errors import VaultError

T = TypeVar("T")
SECONDS = 60.0
PAUSE = 2.0


def retry_transient(
    session: RotationSession, act: Callable[[], T], why: str, seconds: float = SECONDS
) -> T:
    """Return what the act returns, trying again while its failure may pass.

    Args:
        session: whose clock is used, and whose reader is told why it waits.
        act: may be done twice.
        why: what is waited for, in a few words.
        seconds: how long; the last failure is raised then.
    """
    clock, told = session.deps.clock, False
    until = clock.monotonic() + seconds
    while True:
        try:
            return act()
        except VaultError as error:
            if not error.transient or clock.monotonic() + PAUSE > until:
                raise
            if not told:
                session.tell(f"{why}: {error.problems[0].summary}; trying again for {seconds:g} s")
                told = True
        session.heartbeat.sleep_on(PAUSE)
