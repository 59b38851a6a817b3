"""What the engine tells a collector, and what it never does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from support.engine import Bench, ScriptedTokenService, scenario

from skyflowctl.engine.contract import EngineError, EngineRequest, Operation, StorageError
from skyflowctl.engine.engine import EngineSettings
from skyflowctl.engine.observed import ENGINE_METRICS, Applications, EngineTelemetry
from skyflowctl.telemetry.spans import Sampler, SpanKind, Tracer, TraceSpan
from skyflowctl.telemetry.start import Attributes, Gauge, Metric

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MOUNT = {"skyflow.mount": "skyflow/order"}
WRITER = {**MOUNT, "skyflow.role": "writer"}


class Recorded:
    """A ``Telemetry`` that keeps everything."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.spans: list[TraceSpan] = []
        self.tracer = Tracer(sampler or Sampler(), self.spans.append)
        self.values: list[tuple[str, float, dict[str, str]]] = []
        self.gauges: dict[str, Gauge] = {}
        self.flushed: list[float] = []

    def counter(self, metric: Metric) -> Callable[[float, Attributes], None]:
        return lambda value, given: self.values.append((metric.name, value, dict(given)))

    histogram = counter

    def gauge(self, metric: Metric, read: Gauge) -> None:
        self.gauges[metric.name] = read

    def flush(self, seconds: float) -> None:
        self.flushed.append(seconds)

    def of(self, metric: str) -> list[dict[str, str]]:
        """The attributes of every value of a metric."""
        return [given for name, _, given in self.values if name == metric]

    def names(self) -> list[str]:
        return [one.name for one in self.spans]

    def everything(self) -> str:
        return repr([[one.name, one.error, one.attributes] for one in self.spans] + self.values)


def observed(
    tokens: object = None, sampler: Sampler | None = None, **settings: object
) -> tuple[Bench, Recorded]:
    recorded = Recorded(sampler)
    told = EngineTelemetry(recorded)
    return Bench(settings=EngineSettings(telemetry=told, **settings), tokens=tokens), recorded


async def configured(bench: Bench, **role: object) -> None:
    await bench.call("create", "config", {"credentials_json": bench.key()})
    await bench.call("create", "roles/writer", {"role_ids": ["r"], **role})


@scenario
async def test_a_token_is_one_trace_and_one_request():
    bench, recorded = observed(ScriptedTokenService())
    await configured(bench)
    recorded.spans.clear()
    headers = {"traceparent": (PARENT,), "application-source": ("shop",)}
    await bench.call("read", "creds/writer", {"ctx": "order:1"}, headers=headers, request_id="q1")
    inner, outer = recorded.spans
    assert recorded.names() == ["token service exchange", "creds read"]
    assert (outer.parent, outer.kind) == (0xB7AD6B7169203331, SpanKind.SERVER)
    assert (inner.parent, inner.kind) == (outer.context.span_id, SpanKind.CLIENT)
    assert outer.attributes == {
        **WRITER,
        "skyflow.application": "shop",
        "skyflow.request_id": "q1",
    }
    assert inner.attributes == {"skyflow.token_service.request_id": "req-1"}
    assert recorded.of("skyflow.token.requests") == [{**WRITER, "skyflow.application": "shop"}]
    assert recorded.of("skyflow.token.duration") == [WRITER]
    assert recorded.of("skyflow.token.errors") == []
    assert "order:1" not in recorded.everything()


@scenario
async def test_what_is_not_sampled_is_counted_all_the_same():
    bench, recorded = observed(ScriptedTokenService(), Sampler(0.0))
    await configured(bench)
    await bench.call("read", "creds/writer")
    assert recorded.spans == []
    assert recorded.of("skyflow.token.requests") == [WRITER]
    assert len(recorded.of("skyflow.exchange.duration")) == 2  # the role's check, and the token


@scenario
async def test_errors_have_a_reason_and_no_text_of_a_caller():
    tokens = ScriptedTokenService()
    bench, recorded = observed(tokens)
    with pytest.raises(EngineError):
        await bench.call("read", "creds/writer")
    await configured(bench, ctx_pattern="order:*", ctx_probe="order:0")
    calls = [
        ("creds/nobody-has-this", {}),
        ("creds/writer", {"ctx": "a-secret-ctx"}),
        ("creds/writer", {"a-secret-field": "x"}),
        ("creds/a/b", {}),
    ]
    for path, data in calls:
        with pytest.raises(EngineError):
            await bench.call("read", path, data)
    tokens.refuse(403, "a-secret-message")
    with pytest.raises(EngineError):
        await bench.call("read", "creds/writer", {"ctx": "order:1"})
    reasons = [one["error.type"] for one in recorded.of("skyflow.token.errors")]
    assert reasons == [
        "not_configured",
        "unknown_role",
        "ctx_refused",
        "invalid_request",
        "unsupported_path",
        "token_service_refused",
    ]
    with_role = [one.get("skyflow.role") for one in recorded.of("skyflow.token.errors")]
    assert with_role == [None, None, "writer", "writer", None, "writer"]
    assert recorded.spans[-1].error == "token_service_refused"
    for text in ("a-secret", "nobody-has-this", "a/b"):
        assert text not in recorded.everything()


@scenario
async def test_a_request_that_waits_has_a_span_for_it():
    tokens = ScriptedTokenService()
    bench, recorded = observed(tokens, max_in_flight=1)
    await configured(bench)
    recorded.spans.clear()
    open_, seen = asyncio.Event(), []

    async def answer(*_: object) -> None:
        seen.append(1)
        await open_.wait()

    tokens.answer = answer
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(bench.call("read", "creds/writer"))
        while not seen or recorded.gauges["skyflow.queue.length"]()[0][0] == 0:  # type: ignore[index]
            await asyncio.sleep(0.001)
        waiting = list(recorded.gauges["skyflow.queue.length"]())
        open_.set()
    assert waiting == [(1, MOUNT)]
    assert Counter(recorded.names()) == {"creds read": 2, "token service exchange": 2, "queue": 1}
    (queue,) = [one for one in recorded.spans if one.name == "queue"]
    assert queue.parent in {one.context.span_id for one in recorded.spans}
    assert recorded.of("skyflow.queue.wait") == [MOUNT]


@scenario
async def test_writes_health_and_reused_tokens_are_counted():
    bench, recorded = observed(ScriptedTokenService())
    await configured(bench, reuse_min_ttl=600, reuse_per="role")
    await bench.call("read", "health")
    for _ in range(3):
        await bench.call("read", "creds/writer")
    await bench.call("delete", "roles/writer")
    with pytest.raises(EngineError):
        await bench.call("update", "config", {"cas": 7, "description": "x"})
    assert recorded.of("skyflow.health.checks") == [{**MOUNT, "skyflow.state": "ok"}]
    assert recorded.of("skyflow.token.reused") == [WRITER] * 2
    assert recorded.of("skyflow.role.writes") == [
        {**WRITER, "skyflow.operation": "write"},
        {**WRITER, "skyflow.operation": "delete"},
    ]
    assert recorded.of("skyflow.config.writes") == [
        {**MOUNT, "skyflow.operation": "create"},
        {**MOUNT, "skyflow.operation": "update", "error.type": "conflict"},
    ]


@scenario
async def test_a_write_that_the_server_forwards_is_no_error_and_no_write():
    bench, recorded = observed(ScriptedTokenService())
    await configured(bench)
    recorded.values.clear()
    bench.storage.read_only = True
    with pytest.raises(StorageError):
        await bench.call("update", "roles/writer", {"role_ids": ["s"]})
    assert recorded.of("skyflow.role.writes") == []
    assert recorded.spans[-1].error == ""
    assert recorded.spans[-1].attributes["skyflow.outcome"] == "forwarded"


@scenario
async def test_a_cancelled_request_is_recorded_as_such():
    tokens = ScriptedTokenService()
    bench, recorded = observed(tokens)
    await configured(bench)
    began = asyncio.Event()

    async def answer(*_: object) -> None:
        began.set()
        await asyncio.sleep(60)

    tokens.answer = answer
    task = asyncio.create_task(bench.call("read", "creds/writer"))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one.error for one in recorded.spans[-2:]] == ["cancelled", "cancelled"]


@scenario
async def test_the_age_and_the_end_of_the_credential_are_read_without_the_storage():
    bench, recorded = observed(ScriptedTokenService())
    age, expiry = (recorded.gauges[f"skyflow.credential.{one}"] for one in ("age", "expiry"))
    assert list(age()) == []
    await configured(bench)
    await bench.call("read", "creds/writer")
    bench.clock.pass_seconds(90)
    calls = len(bench.storage.calls)
    assert list(age()) == [(90, MOUNT)]
    ((left, where),) = expiry()
    assert (left > 0, where) == (True, MOUNT)
    assert len(bench.storage.calls) == calls


@scenario
async def test_a_closed_mount_has_no_values_and_the_last_one_sends_what_there_is():
    bench, recorded = observed(ScriptedTokenService())
    other = bench.restarted()
    await configured(bench)
    await other.aclose()
    assert recorded.flushed == []
    await bench.engine.aclose()
    await bench.engine.aclose()
    assert len(recorded.flushed) == 1
    assert recorded.flushed[0] < 1
    assert list(recorded.gauges["skyflow.queue.length"]()) == []


def named(name: str) -> EngineRequest:
    return EngineRequest(Operation.READ, "creds/a", headers={"application-source": (name,)})


def test_an_application_is_cut_and_so_is_the_number_of_them():
    applications = Applications()
    assert applications.name(EngineRequest(Operation.READ, "creds/a")) == ""
    assert applications.name(named("x" * 70)) == "x" * 64
    assert applications.name(named("a\nb")) == "other"
    names = {applications.name(named(f"app-{number}")) for number in range(500)}
    assert len(names) == 200
    assert "other" in names
    assert applications.name(named("app-1")) == "app-1"


def test_every_metric_is_published_once_and_made():
    recorded = Recorded()
    made: list[str] = []
    recorded.counter = lambda metric: made.append(metric.name) or (lambda *_: None)  # type: ignore[method-assign,assignment]
    recorded.histogram = recorded.counter
    EngineTelemetry(recorded)
    every = [one.name for one in ENGINE_METRICS]
    assert sorted([*made, *recorded.gauges]) == sorted(every)
    assert len(set(every)) == len(every)
    assert {one.unit for one in ENGINE_METRICS} == {"s", "{request}"}
