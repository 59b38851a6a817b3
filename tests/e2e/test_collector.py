"""Traces and metrics as a real OpenTelemetry collector has them, over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.collector_process import Collector, PrintedSpan, running_collector
from support.go_modules import build_collector
from support.prometheus_names import exported
from support.stack import EXAMPLE, running_stack

from skyflowctl.engine import observed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_server,
    pytest.mark.needs("go"),
    pytest.mark.timeout(900),
]
CTX = "order:ORD-4711"
EXCHANGE = "POST /v1/auth/sa/oauth/token"
METRICS = {
    "skyflow.token.requests": ("{request}", "Sum"),
    "skyflow.token.duration": ("s", "Histogram"),
    "skyflow.exchange.duration": ("s", "Histogram"),
    "skyflow.queue.length": ("{request}", "Gauge"),
    "skyflow.credential.age": ("s", "Gauge"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build_collector(tmp_path_factory.mktemp("collector"))


@pytest.fixture
def collector(program: Path, tmp_path: Path) -> Iterator[Collector]:
    with running_collector(program, tmp_path) as running:
        yield running


def all_exported(found: Collector) -> dict[str, set[str]]:
    """What Prometheus reads, once that has each metric of the engine that the collector has."""
    received = [one for one in observed.ENGINE_METRICS if one.name in found.metrics()]
    scraped = found.scraped()
    names = set().union(*(exported(one) for one in received))
    return scraped if names <= scraped.keys() else {}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_has_the_whole_trace_and_the_metrics(collector: Collector, protocol: str):
    asked = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.urls[protocol],
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }
    with running_stack(EXAMPLE, apply=True, environ=asked) as stack:
        done = stack.json("creds", "order", "order-producer", "--ctx", CTX)

        def whole(found: Collector) -> list[PrintedSpan]:
            spans = found.spans()
            run = f"skyflow.run: Str({done['run_id']})"
            ids = {one.trace_id for one in spans if run in one.text}
            mine = [one for one in spans if one.trace_id in ids]
            names = {one.name for one in mine}
            return mine if {EXCHANGE, "skyflowctl creds", "creds read"} <= names else []

        spans = collector.wait_for(whole)
        collector.wait_for(lambda found: found.metrics().keys() >= METRICS.keys())
    by_id = {one.span_id: one for one in spans}
    (hop,) = [one for one in spans if one.name == EXCHANGE]
    services = [hop.service]
    while hop.parent_id:
        hop = by_id[hop.parent_id]
        services.append(hop.service)
    assert services == ["skyflow-emulator", *["skyflow-plugin"] * 2, *["skyflowctl"] * 2]
    assert hop.name == "skyflowctl creds"
    metrics = collector.metrics()
    assert {name: metrics[name] for name in METRICS} == METRICS
    scraped = collector.wait_for(all_exported)
    assert {"skyflow_mount", "skyflow_role", "le"} <= scraped[
        "skyflow_token_duration_seconds_bucket"
    ]
    assert "skyflow_mount" in scraped["skyflow_queue_length"]
    printed = collector.text() + str(scraped)
    assert CTX not in printed
    assert done["data"]["access_token"] not in printed
