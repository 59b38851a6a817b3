"""Phrases that several checks share."""

from collections.abc import Sequence
from datetime import timedelta

from skyflowctl.posture.facts import NotRead
from skyflowctl.posture.model import Finding, Grade, Subject

SERVER = Subject("server", "server")
_SHOWN = 6


def unchecked(
    check: str, missing: NotRead, subject: Subject = SERVER, *, core: bool = False
) -> Finding:
    """Return the finding for what could not be looked at.

    Args:
        check: id of the check that could not look.
        missing: what was not read.
        subject: what it is about.
        core: without it hardly anything is known, so a run that lacks it is not well.
    """
    line = missing.policy_line
    return Finding(
        check,
        Grade.HIGH if core else Grade.LOW,
        subject,
        f"not checked: needs {line}" if line else f"not checked: {missing.path} gave no answer",
        "what cannot be seen may be in any state" + (f" ({missing.why})" if missing.why else ""),
        fix=line or "see the server's log, then run the command again",
        unchecked=True,
    )


def listed(names: Sequence[str]) -> str:
    """Return names with commas, at most six of them and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def counted(number: int, word: str) -> str:
    """Return a number with its word: ``1 mount``, ``2 mounts``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def days(span: timedelta) -> str:
    """Return a span in its largest whole unit: ``40 days``, ``3 hours``, ``1 minute``."""
    seconds = int(abs(span).total_seconds())
    for size, word in ((86_400, "day"), (3_600, "hour")):
        if seconds >= size:
            return counted(seconds // size, word)
    return counted(seconds // 60, "minute")
