"""Findings of ``doctor``, and the frame that makes its checks: all at once, by one deadline."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.frozen import dataclass


class Grade(StrEnum):
    """Whether a thing works, the worst first. It ranks no danger, as posture's severities do."""

    BAD = "bad"
    """Something does not work, or will not for long."""
    WARNING = "warning"
    """It works, and is not as it should be."""
    UNKNOWN = "unknown"
    """It could not be asked, so nothing is known."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding. No field ever contains a secret.

    Args:
        check: the check that found it, one of the keys of its output.
        grade: how bad it is.
        summary: one line.
        detail: the reason, in one line; empty if the summary says it all.
        fix: a command, or text for a configuration, in one or more lines; empty only if it is ok.
    """

    check: str
    grade: Grade
    summary: str
    detail: str
    fix: str


DoctorCheck = Callable[[], Iterable[Diagnosis]]
"""One check: it returns findings, at least one."""


def diagnose(
    checks: Mapping[str, DoctorCheck], on_start: Callable[[str], None] = lambda _: None
) -> tuple[Diagnosis, ...]:
    """Make every check at once, and return the findings in the order of the checks.

    A check that fails tells that the rest is not known, and does not end the others.

    Args:
        checks: by name.
        on_start: called with the name of each check before it is made, from several threads.
    """

    def one(check: tuple[str, DoctorCheck]) -> list[Diagnosis]:
        on_start(check[0])
        return findings_of(*check)

    with Workers(len(checks) or 1) as pool:
        return tuple(finding for found in pool.map(one, checks.items()) for finding in found)


def findings_of(name: str, check: DoctorCheck) -> list[Diagnosis]:
    """Return what a check finds. An error that ends it is a finding too, after those before it."""
    found = []
    try:
        for one in check():
            found.append(one)  # noqa: PERF402 - those before an error are kept
    except SkyflowctlError as error:
        found.append(of_problem(name, Grade.UNKNOWN, error.problems[0]))
    return found


def of_problem(check: str, grade: Grade, problem: Problem) -> Diagnosis:
    """Return a problem as a finding; its position in a file is in the detail."""
    detail = ": ".join(filter(None, (str(problem.where or ""), problem.why)))
    return Diagnosis(check, grade, problem.summary, detail, problem.fix)


def ok_finding(check: str, summary: str, detail: str = "") -> Diagnosis:
    """Return the finding of what is in order."""
    return Diagnosis(check, Grade.OK, summary, detail, "")


def count_grades(findings: Iterable[Diagnosis]) -> dict[str, int]:
    """Return how many findings have each grade."""
    grades = [one.grade for one in findings]
    return {grade.value: grades.count(grade) for grade in Grade}
