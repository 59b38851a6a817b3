"""The controls of ``audit posture --profile``: every check exists, and nothing is claimed."""

from __future__ import annotations

import re

import pytest

from skyflowctl.posture.checks.registry import CHECKS
from skyflowctl.posture.controls import CONTROLS_NOTE, PROFILES, profile_json
from skyflowctl.posture.model import CheckResult, CheckStatus, PostureReport

NUMBERS = {
    "pci": r"\d+\.\d+\.\d+",
    "soc2": r"(CC\d\.\d|A1\.\d)",
    "hipaa": r"164\.3\d\d(\([a-z0-9]+\))+",
    "gdpr": r"Art\. \d+(\(\w\))*",
}


def report() -> PostureReport:
    return PostureReport((), tuple(CheckResult(one, CheckStatus.OK) for one in CHECKS))


@pytest.mark.parametrize("name", PROFILES)
def test_a_control_names_checks_that_exist_and_numbers_of_its_standard(name: str) -> None:
    known = {one.id for one in CHECKS}
    controls = PROFILES[name].controls
    assert len({one.id for one in controls}) == len(controls)
    for one in controls:
        assert set(one.checks) <= known
        assert one.checks
        assert re.fullmatch(NUMBERS[name], one.id), one.id


def test_every_check_supports_a_control() -> None:
    used = {
        each for one in PROFILES.values() for control in one.controls for each in control.checks
    }
    assert {one.id for one in CHECKS} == used


def test_a_result_is_that_of_the_check_and_no_compliance_is_claimed() -> None:
    checks = [
        CheckResult(one, CheckStatus.FINDINGS if one.id == "tls" else CheckStatus.OK)
        for one in CHECKS
    ]
    data = profile_json("pci", PostureReport((), tuple(checks)))
    assert "v4.0.1" in data["standard"]
    assert data["note"] == CONTROLS_NOTE
    results = {each["id"]: each["result"] for one in data["controls"] for each in one["checks"]}
    assert results["tls"] == "findings"
    assert results["credential-age"] == "ok"
    assert not re.search(r"compliant|certified", str(data))
