"""Phrases that several checks share."""

from skyflowctl.posture.facts import NotRead
from skyflowctl.posture.model import Finding, FindingSubject, Severity

SERVER = FindingSubject("server", "server")


def unchecked(
    check: str, missing: NotRead, subject: FindingSubject = SERVER, *, core: bool = False
) -> Finding:
    """Return the finding for something that could not be checked.

    Args:
        check: id of the check that could not be made.
        missing: what was not read.
        subject: the finding's subject.
        core: whether it is so essential that a run without it fails.
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
