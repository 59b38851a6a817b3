"""Lists every check in its order of output, and combines their results to a report."""

from skyflowctl.posture.checks import (
    access,
    audit_devices,
    credentials,
    engine,
    guards,
    manifest,
    people,
    server,
)
from skyflowctl.posture.facts import Facts, NotRead
from skyflowctl.posture.model import Check, CheckResult, CheckStatus, Finding, PostureReport

CHECKS: tuple[Check, ...] = (
    *server.CHECKS,
    *audit_devices.CHECKS,
    *engine.CHECKS,
    *credentials.CHECKS,
    *access.CHECKS,
    *people.CHECKS,
    *guards.CHECKS,
    *manifest.CHECKS,
)


def run_checks(facts: Facts) -> PostureReport:
    """Run every applicable check, and return the findings, the worst first."""
    findings: list[Finding] = []
    results: list[CheckResult] = []
    for check in CHECKS:
        result = _ask(check, facts)
        results.append(result[0])
        findings += result[1]
    order = [check.id for check in CHECKS]
    findings.sort(key=lambda one: (one.grade.rank, order.index(one.check), one.subject.name))
    return PostureReport(tuple(findings), tuple(results))


def _ask(check: Check, facts: Facts) -> tuple[CheckResult, list[Finding]]:
    if facts.server.down and check.id != "server":
        return CheckResult(check, CheckStatus.SKIPPED, "a server that answers"), []
    if not check.applies(facts):
        return CheckResult(check, CheckStatus.SKIPPED, check.wants), []
    found = list(dict.fromkeys(check.find(facts)))
    if any(not one.unchecked for one in found):
        return CheckResult(check, CheckStatus.FINDINGS), found
    partly = bool(found) or (check.of_mounts and not _all_read(facts))
    return CheckResult(check, CheckStatus.NOT_CHECKED if partly else CheckStatus.OK), found


def _all_read(facts: Facts) -> bool:
    """Whether every mount was read; the check ``mounts`` reports those that were not."""
    return not isinstance(facts.mounts, NotRead) and not any(one.not_read for one in facts.ours)
