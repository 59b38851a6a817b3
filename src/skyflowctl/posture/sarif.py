"""Converts a report to SARIF 2.1.0, the format that code scanners and dashboards accept."""

import re
from collections.abc import Mapping
from typing import Any

from skyflowctl.posture.controls import CONTROLS_NOTE, ControlProfile
from skyflowctl.posture.model import Check, CheckStatus, Finding, PostureReport, Severity
from skyflowctl.sarif import (
    fingerprint,
    logical_location,
    physical_location,
    sarif_log,
    sarif_rule,
    taxonomy_reference,
)

_LEVELS: Mapping[Severity, str] = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
_RANKS: Mapping[Severity, float] = {
    Severity.CRITICAL: 95.0,
    Severity.HIGH: 80.0,
    Severity.MEDIUM: 55.0,
    Severity.LOW: 25.0,
    Severity.INFO: 5.0,
}


def to_sarif(
    report: PostureReport, *, server: str, profile: ControlProfile | None = None
) -> dict[str, Any]:
    """Return a SARIF log with one run.

    Args:
        report: what was found.
        server: the address of the checked server.
        profile: its controls become a taxonomy, to which the rules are related.
    """
    rules = [one.check for one in report.checks]
    index = {check.id: number for number, check in enumerate(rules)}
    missed = [one for one in report.checks if one.result is CheckStatus.SKIPPED]
    run = {
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {
                        "level": "note",
                        "message": {"text": f"not checked: it needs {one.wants}"},
                        "associatedRule": {"id": one.check.id, "index": index[one.check.id]},
                    }
                    for one in missed
                ],
            }
        ],
        "results": [_result(one, index[one.check], server) for one in report.findings],
    }
    taxonomies = [_taxonomy(profile)] if profile else []
    return sarif_log(run, [_rule(check, profile) for check in rules], taxonomies)


def _rule(check: Check, profile: ControlProfile | None) -> dict[str, Any]:
    rule = sarif_rule(check.id, check.title, check.explains)
    if profile is None:
        return rule
    taxonomy = taxonomy_reference(profile.standard, 0)
    related = [
        {
            "target": {"id": one.id, "index": number, "toolComponent": taxonomy},
            "kinds": ["relevant"],
        }
        for number, one in enumerate(profile.controls)
        if check.id in one.checks
    ]
    return {**rule, "relationships": related} if related else rule


def _taxonomy(profile: ControlProfile) -> dict[str, Any]:
    return {
        "name": profile.standard,
        "shortDescription": {"text": CONTROLS_NOTE},
        "taxa": [
            {"id": one.id, "shortDescription": {"text": one.title}} for one in profile.controls
        ],
    }


def _result(finding: Finding, index: int, server: str) -> dict[str, Any]:
    # The standard allows a level only for a result of kind "fail".
    level = "none" if finding.unchecked else _LEVELS[finding.grade]
    return {
        "ruleId": finding.check,
        "ruleIndex": index,
        "kind": "open" if finding.unchecked else "fail",
        "level": level,
        "rank": _RANKS[finding.grade],
        "message": {"text": _message(finding)},
        "locations": [_location(finding, server)],
        "partialFingerprints": {"skyflowctlFinding/v1": _fingerprint(finding, server)},
        "properties": {
            "grade": finding.grade.value,
            "evidence": list(finding.evidence),
            "fix": finding.fix,
        },
    }


def _message(finding: Finding) -> str:
    sentences = [finding.summary, finding.reason, f"fix: {finding.fix}" if finding.fix else ""]
    return ". ".join(sentence for sentence in sentences if sentence)


def _location(finding: Finding, server: str) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": logical_location(finding.subject.name, server)}
    if finding.where is not None and finding.where.file:
        location["physicalLocation"] = physical_location(finding.where, finding.where.file)
    return location


def _fingerprint(finding: Finding, server: str) -> str:
    """Return a fingerprint that is the same for the same finding in every run."""
    # Numbers in the summary are days and counts, which change from run to run.
    words = re.sub(r"\d+ \w+", "", finding.summary)
    return fingerprint((server, finding.check, finding.subject.kind, finding.subject.name, words))
