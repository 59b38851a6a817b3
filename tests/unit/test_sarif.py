"""Findings as SARIF: rules, places, levels, and fingerprints that stay."""

from __future__ import annotations

import json

import pytest
from support.sarif import checked_log

from skyflowctl.errors import ExitCode, Problem, Where
from skyflowctl.sarif import SarifFinding, findings_log


def problem(code="unknown-key", line=3, pointer="/mounts/a", **more):
    where = Where("m.yaml", line, 5, pointer) if line else None
    return Problem(code, more.get("summary", f"{code} at {line}"), "why", "do", where)


def run_of(*findings: SarifFinding, code: int = ExitCode.INVALID, **more: str):
    log = findings_log(findings, exit_code=code, **{"manifest": "m.yaml", **more})
    return checked_log(json.dumps(log))


def prints(run):
    return [one["partialFingerprints"]["skyflowctlProblem/v1"] for one in run["results"]]


def test_each_code_is_one_rule_and_each_problem_a_result_with_its_place():
    run = run_of(
        SarifFinding("error", problem()),
        SarifFinding("warning", problem("file-mode", 9)),
        SarifFinding("error", problem(line=4, pointer="/mounts/b")),
    )
    assert [one["id"] for one in run["tool"]["driver"]["rules"]] == ["unknown-key", "file-mode"]
    assert [one["level"] for one in run["results"]] == ["error", "warning", "error"]
    assert [one["locations"][0]["physicalLocation"]["region"] for one in run["results"]] == [
        {"startLine": line, "startColumn": 5} for line in (3, 9, 4)
    ]
    assert run["invocations"][0]["exitCode"] == 65
    assert run["invocations"][0]["executionSuccessful"] is True


def test_a_fingerprint_stays_when_lines_move_and_differs_between_findings():
    first = run_of(
        SarifFinding("error", problem()),
        SarifFinding("error", problem(pointer="/mounts/b")),
        SarifFinding("error", problem(summary="another")),
    )
    later = run_of(
        SarifFinding("error", problem(line=30)),
        SarifFinding("error", problem(line=31, pointer="/mounts/b")),
        SarifFinding("error", problem(line=32, summary="another")),
    )
    assert prints(first) == prints(later)
    assert len(set(prints(first))) == 3


def test_what_has_no_place_is_at_the_start_of_the_manifest():
    drift = SarifFinding("warning", problem("undeclared", 0), "skyflow/x")
    (result,) = run_of(drift, code=ExitCode.CHANGES, server="https://bao:8200")["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "m.yaml"},
        "region": {"startLine": 1},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "https://bao:8200/skyflow/x"


@pytest.mark.parametrize("code", [1, 4, 64, 69, 130, 143])
def test_a_command_that_could_not_look_has_no_results_but_says_so(code):
    run = run_of(SarifFinding("error", problem("unreachable", 0)), code=code, manifest="")
    assert run["results"] == []
    invocation = run["invocations"][0]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, code)
    (told,) = invocation["toolExecutionNotifications"]
    assert (told["level"], told["associatedRule"]["id"]) == ("error", "unreachable")


def test_a_value_in_a_message_is_no_link():
    link = problem(summary="unknown key [x](http://127.0.0.1)")
    (result,) = run_of(SarifFinding("error", link))["results"]
    assert "](" not in result["message"]["text"]


def test_a_log_without_findings_is_a_log():
    assert run_of(code=0)["results"] == []
