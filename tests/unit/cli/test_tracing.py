"""Commands that are traced: their spans, a caller's trace, and a collector that does not answer."""

from __future__ import annotations

import os
import socket
import time
from contextvars import copy_context

import pytest
from support.cli import checked_envelope, invoke
from support.otlp import otlp_receiver
from support.reached import reached

from skyflowctl.cli.context import tracing
from skyflowctl.telemetry import export
from skyflowctl.telemetry.spans import pass_on
from skyflowctl.vault.transport import trace_headers

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    for name in [*os.environ]:
        if name.startswith("OTEL_") or name in {"TELEMETRY_ENABLED", "TRACEPARENT"}:
            monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path, monkeypatch):
    return reached(tmp_path, monkeypatch)


@pytest.fixture
def collector(monkeypatch):
    """A collector that the command waits for, however busy the machine is."""
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 30.0)
    # Exporters of other tests in this process may still fail, and would be taken for ours.
    monkeypatch.setattr(export._Problems, "recent", lambda _: False)
    with otlp_receiver() as receiver:
        yield receiver


@pytest.mark.usefixtures("server")
def test_an_apply_is_a_trace_with_a_span_for_each_action(monkeypatch, collector):
    monkeypatch.setenv(ENDPOINT, collector.url)
    monkeypatch.setenv("TRACEPARENT", CALLER)
    done = invoke("apply", "-y", "-o", "json")
    envelope = checked_envelope(done.stdout)
    assert envelope["status"] == "ok"
    (root,) = collector.named("skyflowctl apply")
    assert (root.trace_id, root.parent_id) == (CALLER[3:35], CALLER[36:52])
    assert root.attributes == {"skyflow.run": envelope["run_id"], "process.exit.code": 0}
    assert root.resource["service.name"] == "skyflowctl"
    made = [one for one in collector.spans if one is not root]
    assert {(one.trace_id, one.parent_id) for one in made} == {(root.trace_id, root.span_id)}
    assert {(one.name, one.attributes["skyflow.path"]) for one in made} >= {
        ("create mount", "sys/mounts/skyflow/order"),
        ("create role", "skyflow/pay/roles/reader"),
        ("create config", "skyflow/pay/config"),
    }
    assert {one.attributes["skyflow.result"] for one in made} == {"done"}
    assert {name for one in collector.headers for name in one} & {"x-vault-token"} == set()


@pytest.mark.usefixtures("server")
def test_a_failed_command_is_a_failed_span(monkeypatch, collector):
    monkeypatch.setenv(ENDPOINT, collector.url)
    assert invoke("health", "ordr").exit_code == 64
    (root,) = collector.named("skyflowctl health")
    assert root.failed
    assert root.attributes["process.exit.code"] == 64
    assert root.attributes["error.type"] == "unknown-mount"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("listens", [True, False], ids=["never answers", "is not there"])
def test_a_collector_that_fails_costs_no_more_than_the_flush(monkeypatch, listens):
    plain = invoke("plan", "-o", "json")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if listens else 1
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
        started = time.monotonic()
        done = invoke("plan", "-o", "json")
        spent = time.monotonic() - started
    assert done.exit_code == plain.exit_code
    assert checked_envelope(done.stdout)["data"] == checked_envelope(plain.stdout)["data"]
    assert spent < tracing.FLUSH_SECONDS + 2.5  # and the imports, on a busy machine


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"ENV": "dev"},
        {"OTEL_SERVICE_NAME": "x"},
        {"TELEMETRY_ENABLED": "false", ENDPOINT: "http://127.0.0.1:1"},
    ],
)
def test_without_being_asked_nothing_is_recorded(monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with tracing.command_trace("plan", "run-1", print) as span:
        assert span is None
        assert trace_headers() == {}


def test_commands_that_fork_are_not_traced(monkeypatch):
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    with tracing.command_trace("audit who", "run-1", print) as span:
        assert span is None


def test_without_telemetry_the_caller_s_trace_is_passed_on_as_it_is():
    context = copy_context()
    context.run(pass_on, CALLER)
    assert context.run(trace_headers) == {"Traceparent": CALLER}
    context.run(pass_on, "00-nonsense")
    assert context.run(trace_headers) == {"Traceparent": CALLER}
    assert trace_headers() == {}


@pytest.mark.usefixtures("server")
def test_the_environment_of_a_command_stays_as_it_was(monkeypatch, collector):
    monkeypatch.setenv(ENDPOINT, collector.url)
    monkeypatch.setenv("OTEL_PROPAGATORS", "b3")
    before = dict(os.environ)
    done = invoke("plan")
    assert dict(os.environ) == before
    assert "OTEL_PROPAGATORS" not in done.stderr


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("flags", "lines"), [((), 1), (("-q",), 0)])
def test_a_collector_that_is_not_there_is_a_notice(monkeypatch, flags, lines):
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 30.0)
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    assert invoke("plan", *flags).stderr.count("telemetry: the collector") == lines
