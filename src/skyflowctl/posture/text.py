"""Phrases that several checks share."""

from skyflowctl.posture.facts import NotRead
from skyflowctl.posture.model import Finding, FindingSubject, Severity

SERVER = FindingSubject("server", "server")


def unchecked(
    check: str, missing: NotRead, subject: FindingSubject = SERVER, *, core: bool = False
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
        Severity.HIGH if core else Severity.LOW,
        subject,
        f"not checked: needs {line}" if line else f"not checked: {missing.path} gave no answer",
        "its state is not known" + (f" ({missing.why})" if missing.why else ""),
        fix=line or "see the server's log, then run the command again",
        unchecked=True,
    )
