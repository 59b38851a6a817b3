"""docs/how-to/telemetry.md names every metric, variable and reason of the code, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import skyflowctl
from skyflowctl.engine.observed import ENGINE_METRICS
from skyflowctl.telemetry.settings import TELEMETRY_NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "telemetry.md").read_text()
ENGINE = Path(skyflowctl.__file__).parent / "engine"


def test_its_table_has_every_metric_with_its_kind_and_unit():
    rows = re.findall(r"^\| `(skyflow\.[a-z.]+)` \| (\w+) \| (s?) ?\|", PAGE, re.MULTILINE)
    gauges = {"skyflow.queue.length", "skyflow.credential.age", "skyflow.credential.expiry"}
    expected = {
        (
            one.name,
            "gauge" if one.name in gauges else "histogram" if one.bounds else "counter",
            one.unit if one.unit == "s" else "",
        )
        for one in ENGINE_METRICS
    }
    assert set(rows) == expected
    assert len(rows) == len(ENGINE_METRICS)


def test_its_table_has_every_variable():
    named: set[str] = set()
    for name in re.findall(r"`([A-Z…][A-Z_…]*\*?)`", PAGE):
        whole = name.replace("…_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        whole = whole.replace("…_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
        whole = whole.replace("…_", "OTEL_EXPORTER_OTLP_")
        named |= {one for one in TELEMETRY_NAMES if re.fullmatch(whole.replace("*", ".*"), one)}
    one_signal = re.compile(r"OTEL_EXPORTER_OTLP_(TRACES|METRICS)_")
    missing = {one for one in TELEMETRY_NAMES - named if not one_signal.match(one)}
    assert missing == set()


def test_it_has_every_reason_of_an_error():
    source = "".join(file.read_text() for file in ENGINE.rglob("*.py"))
    (listed,) = re.findall(r"^`error.type` is one of (.*)\.$", PAGE, re.MULTILINE)
    reasons = set(re.findall(r"`(\w+)`", listed))
    assert {one for one in reasons if f'"{one}"' not in source} == set()
    given = set(re.findall(r'EngineError\(\s*\d+, [^"]*"[^"]*", "(\w+)"\)', source))
    given |= set(re.findall(r'return "(token_service_\w+|queue_full)"', source))
    given |= set(re.findall(r'\d{3}: "(\w+)"', source))
    assert len(given) > 8
    assert given <= reasons
