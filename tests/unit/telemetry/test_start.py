"""When telemetry is on, what reaches a collector, and what a bad collector costs."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from support.otlp import OtlpReceiver, otlp_receiver

from skyflowctl.telemetry.settings import GRPC, HTTP, TELEMETRY_NAMES, telemetry_settings
from skyflowctl.telemetry.spans import Sampler, SpanKind, child_span
from skyflowctl.telemetry.start import Metric, Telemetry, start_telemetry

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
ON = {"TELEMETRY_ENABLED": "true"}
COUNTED = Metric("skyflow.test", "{request}", "A count.")
SPREAD = Metric("skyflow.spread", "s", "A distribution.", (0.1, 0.4, 1.0))


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"ENV": "prod"}, False),
        ({"ENV": "dev"}, False),
        ({"ENV": "dev", **ENDPOINT}, True),
        ({"ENV": "dev", **ON}, True),
        (ON, True),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_SERVICE_NAME": "a"}, False),
        ({"TELEMETRY_ENABLED": "0", **ENDPOINT}, False),
        ({"TELEMETRY_ENABLED": "False", **ENDPOINT}, False),
        ({"TELEMETRY_ENABLED": "perhaps"}, False),
        ({"OTEL_SDK_DISABLED": "true", **ON}, False),
        ({"RUNTIME_LOCAL": "true", **ON, **ENDPOINT}, False),
        ({"RUNTIME_LOCAL": "true", "ENV": "uat", **ENDPOINT}, False),
        ({"RUNTIME_LOCAL": "true", "ENV": "prod", **ENDPOINT}, True),
        ({"RUNTIME_LOCAL": "true", "ENV": "cug", **ENDPOINT}, True),
        ({"RUNTIME_LOCAL": "false", **ENDPOINT}, True),
    ],
)
def test_what_turns_telemetry_on_and_off(environ: dict[str, str], on: bool):
    assert (telemetry_settings(environ) is not None) == on


@pytest.mark.parametrize(
    ("name", "argument", "sampler"),
    [
        ("", "", Sampler(1.0)),
        ("parentbased_traceidratio", "0.1", Sampler(0.1)),
        ("traceidratio", "0.25", Sampler(0.25, parent_based=False)),
        ("traceidratio", "", Sampler(1.0, parent_based=False)),
        ("traceidratio", "7", Sampler(1.0, parent_based=False)),
        ("traceidratio", "nan", Sampler(1.0, parent_based=False)),
        ("always_off", "0.5", Sampler(0.0, parent_based=False)),
        ("jaeger_remote", "", Sampler(1.0)),
    ],
)
def test_the_sampler_is_the_one_that_the_environment_names(name, argument, sampler: Sampler):
    environ = {**ON, "OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    settings = telemetry_settings(environ)
    assert settings is not None
    assert settings.sampler == sampler


def test_each_signal_may_have_a_protocol_of_its_own():
    environ = {
        **ON,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": HTTP,
    }
    settings = telemetry_settings(environ)
    assert settings is not None
    assert (settings.traces, settings.metrics) == (GRPC, HTTP)


def test_no_name_that_selects_code_has_an_effect():
    assert not [name for name in TELEMETRY_NAMES if "PYTHON" in name or "DETECTORS" in name]
    assert not {"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_PROPAGATORS"} & (
        TELEMETRY_NAMES
    )


def test_names_that_select_code_are_removed_before_the_sdk_is_imported(
    start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("TELEMETRY_ENABLED", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    refused = ["OTEL_PYTHON_CONTEXT", "OTEL_TRACES_EXPORTER", "OTEL_PROPAGATORS"]
    for name in refused:
        monkeypatch.setenv(name, "planted")
    with caplog.at_level(logging.WARNING):
        start()
    assert [name for name in refused if name in os.environ] == []
    assert all(any(name in one.getMessage() for one in caplog.records) for name in refused)


@pytest.fixture
def start():
    """Starts telemetry; its threads end with the test."""
    made: list[Telemetry] = []

    def start(service: str = "skyflow-test") -> Telemetry:
        telemetry = start_telemetry(service, "1.2.3")
        assert telemetry is not None
        made.append(telemetry)
        return telemetry

    yield start
    for telemetry in made:
        telemetry.close(5)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch):
    with otlp_receiver() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=key-1")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=payments,host.name=node-1")
        monkeypatch.setenv("ENV", "uat")
        yield found


def test_spans_and_metrics_reach_the_collector(receiver: OtlpReceiver, start):
    telemetry = start()
    count, spread = telemetry.counter(COUNTED), telemetry.histogram(SPREAD)
    telemetry.gauge(Metric("skyflow.gauge", "s", "Now."), lambda: [(7.5, {"skyflow.mount": "m/"})])
    with telemetry.tracer.span("outer", SpanKind.SERVER) as outer, child_span("inner") as inner:
        outer.set("skyflow.mount", "m/")
        inner.fail("refused")
    count(2, {"skyflow.role": "writer"})
    spread(0.3, {})
    telemetry.flush(10)
    (first,), (second,) = receiver.named("outer"), receiver.named("inner")
    assert (first.kind, second.kind) == (2, 1)
    assert second.parent_id == first.span_id
    assert (first.failed, second.failed) == (False, True)
    assert first.attributes == {"skyflow.mount": "m/"}
    assert second.attributes == {"error.type": "refused"}
    assert first.resource["service.name"] == "skyflow-test"
    assert first.resource["service.version"] == "1.2.3"
    assert first.resource["deployment.environment.name"] == "uat"
    assert (first.resource["team"], first.resource["host.name"]) == ("payments", "node-1")
    assert [(one.value, one.unit) for one in receiver.last("skyflow.test")] == [(2, "{request}")]
    assert [(one.value, one.attributes) for one in receiver.last("skyflow.gauge")] == [
        (7.5, {"skyflow.mount": "m/"})
    ]
    (point,) = receiver.last("skyflow.spread")
    assert (point.count, point.bounds) == (1, SPREAD.bounds)
    assert {one["api-key"] for one in receiver.headers} == {"key-1"}


def test_the_environment_names_the_service(receiver, start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    telemetry = start()
    with telemetry.tracer.span("a"):
        pass
    telemetry.flush(10)
    assert {one.resource["service.name"] for one in receiver.spans} == {"mine"}


def test_a_process_without_metrics_has_one_thread_for_traces(receiver: OtlpReceiver, start):
    before = threading.active_count()
    start()
    assert threading.active_count() == before + 1


@pytest.mark.parametrize("kind", ["down", "silent", "full"])
def test_a_collector_that_fails_delays_nothing(kind: str, start, monkeypatch: pytest.MonkeyPatch):
    """Down: refuses connections. Silent: accepts and never answers. Full: answers 503."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "4000")
    with socket.create_server(("127.0.0.1", 0)) as silent, otlp_receiver(answer=503) as full:
        address = "http://{}:{}".format(*silent.getsockname())
        urls = {"down": "http://127.0.0.1:1", "silent": address, "full": full.url}
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", urls[kind])
        telemetry = start()
        seconds = []
        for _ in range(20_000):
            started = time.perf_counter()
            with telemetry.tracer.span("a"):
                pass
            seconds.append(time.perf_counter() - started)
        # A span that waits for an export waits at least 0.8 s, the pause before a repetition.
        # A busy machine may stop this thread once.
        assert len([one for one in seconds if one > 0.5]) <= 1, sorted(seconds)[-5:]
        assert max(seconds) < 2.5
        started = time.perf_counter()
        telemetry.flush(0.25)
        assert time.perf_counter() - started < 2.5


def test_threads_end_with_a_close_also_where_a_collector_fails(start, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    before = threading.active_count()
    telemetry = start()
    telemetry.counter(COUNTED)(1, {})
    with telemetry.tracer.span("a"):
        pass
    assert threading.active_count() > before
    telemetry.close(1)
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_collector_refuses_is_said_once_without_its_words(
    start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with otlp_receiver(answer=401) as refusing:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refusing.url)
        telemetry = start()
        for _ in range(3):
            with telemetry.tracer.span("a"):
                pass
            telemetry.flush(5)
    said = [one.getMessage() for one in caplog.records if "collector" in one.getMessage()]
    assert said == [
        "telemetry: the collector did not take data (status 401); what it does not take is dropped"
    ]
    assert len(refusing.bodies) == 1  # a flush does not wait for a collector that fails


BATCHES = {
    "OTEL_BSP_MAX_QUEUE_SIZE": 2048,
    "OTEL_BSP_SCHEDULE_DELAY": 5000,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512,
    "OTEL_BSP_EXPORT_TIMEOUT": 30_000,
}


@pytest.mark.parametrize("text", ["abc", "-5", "0", "1.5", "9" * 5000])
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_variable_that_is_no_number_is_named_and_has_its_default(
    name, text, receiver, start, monkeypatch: pytest.MonkeyPatch, caplog
):
    monkeypatch.setenv(name, text)
    telemetry = start()
    with telemetry.tracer.span("a"):
        pass
    telemetry.flush(10)
    assert receiver.named("a")
    (said,) = [one.getMessage() for one in caplog.records]
    assert said.startswith(f"telemetry: {name} is no number from 1 to ")
    assert said.endswith(f"; {BATCHES[name]} is used")


def test_a_queue_smaller_than_a_batch_makes_batches_as_small():
    settings = telemetry_settings({**ON, "OTEL_BSP_MAX_QUEUE_SIZE": "16"})
    assert settings is not None
    assert settings.batches["max_queue_size"] == settings.batches["max_export_batch_size"] == 16


WITH_SECRETS = """
from skyflowctl.telemetry.start import start_telemetry
telemetry = start_telemetry("a", "1")
with telemetry.tracer.span("a"):
    pass
telemetry.flush(10)
telemetry.close(5)
"""


def test_what_the_sdk_says_of_a_variable_is_said_in_our_words(receiver: OtlpReceiver):
    """In a process of its own: the SDK's loggers have no handler yet, and stderr is the terminal."""
    pairs = {
        "OTEL_RESOURCE_ATTRIBUTES": "secretpair-abc,=x,team=payments",
        "OTEL_EXPORTER_OTLP_HEADERS": "secretpair-def",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITH_SECRETS],
        env={**os.environ, **pairs}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == ""
    assert sorted(done.stderr.splitlines()) == [
        f"telemetry: a part of {name} cannot be read, and is ignored" for name in sorted(pairs)
    ]
    assert receiver.named("a")[0].resource["team"] == "payments"


def test_a_number_is_a_status_only_where_a_collector_answered(start, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    start()
    logging.getLogger("opentelemetry.sdk.trace.export").warning("default is %d", 512)
    logging.getLogger("opentelemetry.exporter.otlp").warning("retry in %d", 2048)
    said = [one.getMessage() for one in caplog.records]
    assert said == ["telemetry: the collector did not take data; what it does not take is dropped"]


OFF = """
import os, sys, threading
before = len(os.listdir("/proc/self/fd"))
from skyflowctl.telemetry.start import start_telemetry
assert start_telemetry("a", "1") is None
loaded = [name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "requests")]
print(loaded, threading.active_count(), len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.parametrize("environ", [{}, {"ENV": "dev"}, {**ENDPOINT, "TELEMETRY_ENABLED": "0"}])
def test_off_is_off_no_import_no_thread_no_descriptor(environ: dict[str, str]):
    done = subprocess.run(
        [sys.executable, "-c", OFF], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "[] 1 0"
