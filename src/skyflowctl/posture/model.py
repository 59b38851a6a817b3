"""The result of a check, including the case that it could not be made."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

from skyflowctl.errors import Where
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.posture.facts import Facts


class Severity(StrEnum):
    """The severity of a finding, the worst first."""

    CRITICAL = "critical"
    """Secrets or the audit trail are exposed now, or tokens are unavailable: act today."""
    HIGH = "high"
    """One mistake or one failover away from that, or a core part could not be checked."""
    MEDIUM = "medium"
    """A safeguard is missing."""
    LOW = "low"
    """A minor flaw, or another part that could not be checked."""
    INFO = "info"
    """For information; nothing to do."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)

    def at_least(self, other: "Severity") -> bool:
        """Whether this severity is at least as bad as the other."""
        return self.rank <= other.rank


@dataclass(frozen=True, slots=True)
class FindingSubject:
    """The subject of a finding.

    Args:
        kind: ``server``, ``mount``, ``role``, ``policy``, ``node``, ``token`` or
            ``audit-device``.
        name: its path or name, as the server has it.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One flaw. No field ever contains a secret.

    Args:
        check: id of the check that found it.
        grade: its severity.
        subject: its subject.
        summary: one line.
        reason: why it matters, in one line.
        evidence: what was seen, one line each.
        fix: a command, or what to do with the HCL lines below it.
        where: its position in the manifest, if it has one.
        unchecked: nothing is known to be wrong, but it could not be checked.
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
        """Whether this finding makes the run fail.

        Args:
            limit: the lowest grade that counts.
            allow_unchecked: ignore what could not be checked. Without it, an unchecked finding
                of grade high counts whatever the limit, because its real grade is unknown.
        """
        if self.unchecked:
            return not allow_unchecked and (
                self.grade.at_least(limit) or self.grade.at_least(Severity.HIGH)
            )
        return self.grade.at_least(limit)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the facts.

    Args:
        id: a stable kebab-case name.
        title: a short description.
        explains: why it is made, in one sentence.
        find: yields the findings.
        wants: the flag that it needs (``-f``, ``--log``); empty if none.
        applies: whether it applies to these facts.
        of_mounts: whether it cannot check a mount that could not be read.
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
    """One check with its outcome. ``wants`` is the flag that a skipped check needs."""

    check: Check
    result: CheckStatus
    wants: str = ""


@dataclass(frozen=True, slots=True)
class PostureReport:
    """Every finding, the worst first, and every check, whether made or not."""

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
