"""SARIF: what the standard asks of a log, held against ours rule by rule."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import ValidationError
from support.posture import (
    ADDRESS,
    ago,
    declared,
    device,
    facts,
    live_config,
    live_mount,
    manifest,
    mount,
    reading,
)
from support.sarif import checked_log

from skyflowctl.errors import Where
from skyflowctl.posture.checks.registry import CHECKS, run_checks
from skyflowctl.posture.controls import PROFILES
from skyflowctl.posture.facts import NotRead
from skyflowctl.posture.sarif import to_sarif


def bad_facts():
    """Something of every grade, a place in the manifest, and a part that is not read."""
    plain = live_mount("skyflow/order", audit_non_hmac_request_keys=("ctx",))
    old = live_config("order", key_valid_before=ago(days=1))
    return facts(
        mount("order", "writer", mount=plain, config=old, declared=declared("order", "writer")),
        audit_devices=(device("one"),),
        audited_headers=NotRead("sys/config/auditing/request-headers", ("read", "sudo")),
        policies={"wide": reading("skyflow/*")},
        manifest=manifest(declared("order", "writer")),
    )


def sarif(given=None) -> dict[str, Any]:
    return to_sarif(run_checks(given or bad_facts()), server=ADDRESS)


@pytest.mark.parametrize("given", [None, facts(), facts(server=replace(facts().server, down="x"))])
def test_the_log_is_sarif(given):
    run = checked_log(json.dumps(sarif(given)))
    for rule in run["tool"]["driver"]["rules"]:
        assert rule["fullDescription"]["text"]
    assert all("rank" in one for one in run["results"])


def test_a_log_that_breaks_a_rule_is_found():
    log = sarif()
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(ValidationError):
        checked_log(json.dumps(log))


def test_every_finding_is_a_result_and_every_check_a_rule():
    run = sarif()["runs"][0]
    report = run_checks(bad_facts())
    assert len(run["results"]) == len(report.findings) > 4
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [one.id for one in CHECKS]
    assert {one["level"] for one in run["results"]} == {"error", "warning", "note", "none"}


def result_of(check: str, given=None) -> dict[str, Any]:
    return next(one for one in sarif(given)["runs"][0]["results"] if one["ruleId"] == check)


def test_a_finding_with_a_place_in_the_manifest_has_both_locations():
    (location,) = result_of("audit-ctx")["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "mounts.yaml"},
        "region": {"startLine": 7, "startColumn": 3},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == f"{ADDRESS}/skyflow/order"


@pytest.mark.parametrize(
    ("file", "uri"),
    [("my dir/m#1.yaml", "my%20dir/m%231.yaml"), ("/a/b c.yaml", "file:///a/b%20c.yaml")],
)
def test_a_path_becomes_a_uri(file, uri):
    placed = replace(declared("order"), where=Where(file, 1, 1, ""))
    given = facts(manifest=manifest(placed), mounts=())
    location = result_of("undeclared", given)["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_what_was_not_checked_is_open_and_what_was_not_asked_is_notified():
    assert result_of("audited-headers")["kind"] == "open"
    run = sarif(facts())["runs"][0]
    notified = [
        one["associatedRule"]["id"] for one in run["invocations"][0]["toolExecutionNotifications"]
    ]
    assert notified == ["least-policies", "undeclared", "unused-roles"]


def test_a_fingerprint_stays_when_days_pass_and_differs_between_findings():
    def prints(days):
        old = live_config("order", key_valid_before=ago(days=days))
        given = facts(
            mount("order", config=old),
            mount("payment", config=live_config("p", key_valid_before=ago(days=days))),
        )
        return [
            one["partialFingerprints"]["skyflowctlFinding/v1"]
            for one in sarif(given)["runs"][0]["results"]
        ]

    assert prints(1) == prints(30)
    assert len(set(prints(1))) == len(prints(1))


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_taxonomy_to_which_the_rules_are_related(name):
    """Sections 3.14.8, 3.19.24 and 3.49.10 of the standard."""
    profile = PROFILES[name]
    log = to_sarif(run_checks(bad_facts()), server=ADDRESS, profile=profile)
    run = checked_log(json.dumps(log))
    (taxonomy,) = run["taxonomies"]
    assert run["tool"]["driver"]["supportedTaxonomies"] == [{"name": taxonomy["name"], "index": 0}]
    assert [one["id"] for one in taxonomy["taxa"]] == [one.id for one in profile.controls]
    found = {
        (taxonomy["taxa"][target["index"]]["id"], rule["id"])
        for rule in run["tool"]["driver"]["rules"]
        for target in [one["target"] for one in rule.get("relationships", ())]
        if run["taxonomies"][target["toolComponent"]["index"]]["name"]
        == target["toolComponent"]["name"]
    }
    assert found == {(one.id, check) for one in profile.controls for check in one.checks}


def test_without_a_profile_no_taxonomy_is_named():
    text = json.dumps(sarif())
    assert "taxonom" not in text.lower()
    assert "relationships" not in text
