"""The examples for Prometheus and Grafana: they name only metrics and labels that exist."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml
from support.prometheus_names import exported

from skyflowctl.engine import observed
from skyflowctl.operations.metrics import Reading, metric_families
from skyflowctl.operations.status import CredentialStatus, MountStatus, StatusResult
from skyflowctl.vault.live import FULL_API

EXAMPLES = Path(__file__).parents[3] / "examples"
ALERTS = EXAMPLES / "prometheus" / "alerts.yaml"
CASES = EXAMPLES / "prometheus" / "alerts.test.yaml"
DASHBOARD = json.loads((EXAMPLES / "grafana" / "skyflow.json").read_text())
KEY = CredentialStatus("c", "k", 2, 90, "2026-12-01T00:00:00Z", due=True)
MOUNT = MountStatus("a", "skyflow/a", "skyflow", "v1", "refused", FULL_API, ("r",), KEY)
ENGINE_LABELS = {
    name.replace(".", "_")
    for name in (observed._MOUNT, observed._ROLE, observed._APPLICATION, observed._OPERATION,
                 observed._STATE, observed._ERROR)
}  # fmt: skip


def own_metrics() -> dict[str, set[str]]:
    """What 'skyflowctl metrics' prints: the labels of each metric."""
    whole = Reading(StatusResult((MOUNT,)), "n", {"undeclared": 1}, 2, 0.5)
    return {
        family.name: set(chain.from_iterable(one.labels for one in family.samples))
        for family in metric_families(whole)
    }


ENGINE_METRICS = {name for one in observed.ENGINE_METRICS for name in exported(one)}


def expressions() -> list[str]:
    """Every query of the dashboard, with the values that Grafana would fill in."""
    panels = [one for one in DASHBOARD["panels"] if one["type"] != "row"]
    found = [target["expr"] for one in panels for target in one["targets"]]
    return [one.replace("$__rate_interval", "5m").replace("$mount", ".*") for one in found]


def rules() -> list[dict]:
    return [one for group in yaml.safe_load(ALERTS.read_text())["groups"] for one in group["rules"]]


def unknown_names(expression: str) -> set[str]:
    """Names in a query that are no metric, nor a label of one of its metrics, nor PromQL."""
    own = own_metrics()
    words = set(re.findall(r"(?<![\w\"])[a-z_]+(?![\w(\"])", re.sub(r'"[^"]*"', "", expression)))
    words -= {"by", "le", "on", "or", "unless", "group", "sum", "max", "min", "s", "m", "d"}
    labels = set().union(*(own[one] for one in words & own.keys()))
    if words & ENGINE_METRICS:
        labels |= ENGINE_LABELS
    return words - own.keys() - ENGINE_METRICS - labels


@pytest.mark.parametrize("expression", [*expressions(), *(one["expr"] for one in rules())])
def test_every_query_names_metrics_and_labels_that_exist(expression):
    assert unknown_names(expression) == set()


def test_a_wrong_name_is_found():
    assert unknown_names("sum by (mount) (skyflow_rolez)") == {"mount", "skyflow_rolez"}
    assert unknown_names("rate(skyflow_token_requests[5m])") == {"skyflow_token_requests"}
    assert unknown_names('skyflow_roles{skyflow_mount="x"}') == {"skyflow_mount"}


def test_every_metric_has_a_panel():
    text = "\n".join(expressions())
    names = {*own_metrics(), *(min(exported(one)) for one in observed.ENGINE_METRICS)}
    assert [name for name in sorted(names) if name not in text] == []


def test_the_dashboard_has_panels_of_their_own_place_and_id():
    panels = DASHBOARD["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    cells = [
        (x, y)
        for one in panels
        for x in range(one["gridPos"]["x"], one["gridPos"]["x"] + one["gridPos"]["w"])
        for y in range(one["gridPos"]["y"], one["gridPos"]["y"] + one["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.needs("promtool")
def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path):
    found = [{"record": f"query:{number}", "expr": one} for number, one in enumerate(expressions())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": found}]}))
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_each_alert_fires_when_it_should_and_not_before():
    done = promtool("test", "rules", str(CASES))
    assert done.returncode == 0, done.stdout + done.stderr
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {one["alert"] for one in rules()}
    assert set(cases) == {(name, fires) for name in names for fires in (True, False)}


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], text=True, capture_output=True, check=False)
