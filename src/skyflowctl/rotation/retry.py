"""Trying again what has not been answered clearly, for a while."""

from collections.abc import Callable
from typing import TypeVar

from skyflowctl.rotation.serving import is_recoverable
from skyflowctl.rotation.session import RotationSession
from skyflowctl.vault.errors import (
    BusyError,
    SealedError,
    ServerUnreachableError,
    TokenServiceFailedError,
    VaultError,
)

T = TypeVar("T")
SECONDS = 60.0
PAUSE = 2.0


def retry(session: RotationSession, act: Callable[[], T], why: str, seconds: float = SECONDS) -> T:
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
            if not is_transient(error) or clock.monotonic() + PAUSE > until:
                raise
            if not told:
                session.tell(f"{why}: {error.problems[0].summary}; trying again for {seconds:g} s")
                told = True
        session.heartbeat.sleep_on(PAUSE)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well get another answer a little later."""
    if isinstance(error, TokenServiceFailedError):
        return is_recoverable(error)
    if isinstance(error, ServerUnreachableError | SealedError | BusyError):
        return True
    return isinstance(error, VaultError) and error.status >= 500
