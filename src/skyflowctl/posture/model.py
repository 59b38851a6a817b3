"""What a check says, and what it says when it could not look."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from skyflowctl.errors import Where

if TYPE_CHECKING:
    from skyflowctl.posture.facts import Facts


class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    CRITICAL = "critical"
    """Secrets or the trail are open now, or tokens cannot be had: act today."""
    HIGH = "high"
    """One mistake or one failover away from that, or a core part could not be looked at."""
    MEDIUM = "medium"
    """A safeguard is missing."""
    LOW = "low"
    """Untidy, or some other part that could not be looked at."""
    INFO = "info"
    """True, and nothing to do."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)

    def at_least(self, other: "Severity") -> bool:
        """Whether this one is as bad as the other, or worse."""
        return self.rank <= other.rank


@dataclass(frozen=True, slots=True)
class FindingSubject:
    """What a finding is about.

    Args:
        kind: ``server``, ``mount``, ``role``, ``policy``, ``node``, ``token`` or
            ``audit-device``.
        name: its path or name, as the server has it.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. No field ever holds a secret.

    Args:
        check: id of the check that found it.
        grade: how bad it is.
        subject: what it is about.
        summary: one line.
        reason: why it matters, in one line.
        evidence: what was seen, one line each.
        fix: a command, or what to do and below it the lines in HCL.
        where: its place in the manifest, where it has one.
        unchecked: nothing is known to be wrong: it could not be looked at.
    """

    check: str
    grade: Severity
    subject: FindingSubject
    summary: str
    reason: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    where: Where | None = None
    unchecked: bool = False

    def counts(self, limit: Severity, *, allow_unchecked: bool = False) -> bool:
        """Whether a run with this finding is not well.

        Args:
            limit: the grade from which on a finding counts.
            allow_unchecked: what could not be looked at does not count. Without it, one that
                is high counts whatever the limit: nobody knows what it would have been.
        """
        if self.unchecked:
            return not allow_unchecked and (
                self.grade.at_least(limit) or self.grade.at_least(Severity.HIGH)
            )
        return self.grade.at_least(limit)


@dataclass(frozen=True, slots=True)
class Check:
    """One question, asked of the facts.

    Args:
        id: a stable kebab-case word.
        title: what is asked, in a few words.
        explains: why it is asked, in one sentence.
        find: yields what is not in order.
        wants: what has to be given for it (``-f``, ``--log``); empty: nothing.
        applies: whether it is asked at all.
        of_mounts: it says nothing of a mount that could not be read.
    """

    id: str
    title: str
    explains: str
    find: "Callable[[Facts], Iterable[Finding]]"
    wants: str = ""
    applies: "Callable[[Facts], bool]" = lambda _: True
    of_mounts: bool = False


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    FINDINGS = "findings"
    NOT_CHECKED = "not_checked"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check with its outcome. ``wants`` says what a skipped one would need."""

    check: Check
    result: CheckStatus
    wants: str = ""


@dataclass(frozen=True, slots=True)
class PostureReport:
    """Every finding, the worst first, and every check that was made or not."""

    findings: tuple[Finding, ...]
    checks: tuple[CheckResult, ...]

    def count(self, grade: Severity) -> int:
        """Return how many findings have this grade."""
        return sum(one.grade is grade for one in self.findings)

    def failing(self, limit: Severity, *, allow_unchecked: bool = False) -> tuple[Finding, ...]:
        """Return the findings that count; see :meth:`Finding.counts`."""
        return tuple(
            one for one in self.findings if one.counts(limit, allow_unchecked=allow_unchecked)
        )

    def not_made(self) -> int:
        """Return how many checks could not be made, or only in part."""
        partly = {one.check for one in self.findings if one.unchecked}
        return sum(
            one.result is CheckStatus.NOT_CHECKED or one.check.id in partly for one in self.checks
        )
